"""A ComfyUI text encoder as a TextStack: the walk its own forward makes, one sub-block at a time.

Activations are float32, as in ComfyUI's own encode: its modules cast each weight to the input's dtype, in any
storage format (fp16, fp8, quantised, GGUF), with LoRA applied as the loaded model has it. With a feeder (`feeding`)
the linear layers compute with what that brings instead.
"""

import comfy.model_management as mm
import comfy.ops
import torch

from ....skrr_engine.digest import digest_json, digest_tensors
from ....skrr_engine.encoders.stack import SubBlock, TextStack, TokenBatch
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.measure.budget import call_bytes, widest_bytes
from ....skrr_engine.measure.objective import GPU_CALL_TOKENS
from ....skrr_engine.precision import STREAM
from ..weights.memory import module_bytes
from ..weights.weights import count_parameters, is_quantized, patch_digest, raw_tensors, smooth

__all__ = ["EncoderStack", "stored_tensors"]

# Activations of a pass on top of the weights, in bytes: streams of a sweep, and one float32 copy of the
# largest weight, which ComfyUI casts per call.
WORKING_MEMORY = 1 << 30
# Tokens of a long prompt: what FLUX pads to.
LONG = 256


def stored_tensors(adapter, transformer, index: int) -> list[torch.Tensor]:
    """The plain tensors that sub-block `index` is stored in: by them corrections know the weights they are for."""
    return [tensor for module in adapter.owned(transformer, index) for _, tensor in raw_tensors(module)]


class EncoderStack(TextStack):
    """Base of the adapters' stacks. An adapter adds `blocks`, `context`, `read_out` and, if needed, `start`, or an
    `embed` of its own; `taps_of` where it hands out several states, `post_norm` where its sub-blocks have one."""

    def __init__(self, encoder):
        """`encoder` is a TextEncoder, uncut and not loaded (its storages hold the pristine weights)."""
        if encoder.applied is not None or encoder.freed:
            raise SkrrError(
                f"The encoder {encoder.slot} was already made smaller. Search on the CLIP before Skrr Apply."
            )
        if encoder.clip.patcher.forced_hooks is not None:
            raise SkrrError("This CLIP carries hooks. Search on the CLIP before the node that sets them.")
        self.encoder, self.sd_model, self.transformer = encoder, encoder.sd_model, encoder.transformer
        self.architecture, self.sketch = encoder.architecture, encoder.sketch
        self.device = encoder.clip.patcher.load_device
        self._read_options()
        subblocks = []
        for index, (modules, residual) in enumerate(self.blocks()):
            parts = tuple(encoder.adapter.parts(self.transformer, index))
            sizes = (sum(map(count, parts)) for count in (module_bytes, count_parameters))
            parent, name = encoder.adapter.output(self.transformer, index)
            layer = getattr(parent, name)
            run, behind = self._bind(modules, residual), self.post_norm(index)
            subblocks.append(SubBlock(index, *sizes, run, parts, layer, behind))
        self.subblocks = tuple(subblocks)
        self.total_bytes, self.total_parameters = module_bytes(self.transformer), count_parameters(self.transformer)
        self.taps = self.taps_of(len(subblocks))
        self._identity = self._digest()

    def _read_options(self) -> None:
        """Clip skip and pooling as the CLIP's own encode would set them."""
        clip, sd_model = self.encoder.clip, self.sd_model
        tree = clip.patcher.model
        tree.reset_clip_options()
        if clip.layer_idx is not None:
            tree.set_clip_options({"layer": clip.layer_idx})
        layer, index, self.projected = sd_model.layer, sd_model.layer_idx, sd_model.return_projected_pooled
        tree.reset_clip_options()
        # As ComfyUI asks its encoders: None for the last state, else a number, a list of numbers, or "all".
        self.layer = None if layer == "last" else index if layer == "hidden" else layer

    def taps_of(self, count: int) -> dict[str, int]:
        """The taps of `count` sub-blocks for what `self.layer` asks for."""
        if not isinstance(self.layer, int | None):
            raise SkrrError(
                f"The encoder {self.encoder.slot} hands out layers {self.layer!r}; of its kind Skrr reads one only."
            )
        read = {} if self.layer is None else {"read": 2 * (self.layer % self.architecture.layers + 1)}
        return {"last": count, **read}

    def post_norm(self, index: int):
        """The norm between the output of sub-block `index` and the stream, None where there is none."""
        return None

    def _digest(self) -> str:
        patcher = self.encoder.clip.patcher
        return digest_json(
            [
                digest_tensors(raw_tensors(self.transformer)),
                patch_digest(patcher.patches, self.encoder.key_prefix),
                self.layer,
                self.projected,
                self.encoder.outputs,
            ]
        )

    def _bind(self, modules, residual):
        return lambda hidden, context: residual(modules, hidden, context[0])

    @property
    def identity(self) -> str:
        return self._identity

    def prepare(self) -> None:
        """Loads the CLIP through ComfyUI's memory management, where the workflow would run it."""
        mm.load_models_gpu([self.encoder.clip.patcher], memory_required=WORKING_MEMORY + self.working_bytes)

    @property
    def working_bytes(self) -> int:
        """What a feeder and one call take beside weights and streams; without a feeder that is in WORKING_MEMORY."""
        if self.feeder is None:
            return 0
        return call_bytes(self.architecture, GPU_CALL_TOKENS, LONG) + 2 * widest_bytes(self)

    def tensors(self, index: int) -> list[torch.Tensor]:
        return stored_tensors(self.encoder.adapter, self.transformer, index)

    def output_matrix(self, index: int) -> torch.Tensor:
        """In float32 from whatever it is stored in, through the layer's own cast: with LoRA, where they are loaded."""
        layer = self.subblocks[index].output
        if hasattr(layer, "cast_bias_weight"):  # ComfyUI-GGUF's layers have one of their own
            found = layer.cast_bias_weight(dtype=STREAM, device=self.device, bias_dtype=STREAM)[0]
            return found.detach().as_subclass(torch.Tensor).clone()
        found, bias, borrowed = comfy.ops.cast_bias_weight(
            layer, dtype=STREAM, device=self.device, bias_dtype=STREAM, offloadable=True
        )
        # The cast leaves a quantised weight as it is where that says to be of the dtype asked for.
        matrix = (found.dequantize() if is_quantized(found) else found).detach().to(STREAM, copy=True)
        comfy.ops.uncast_bias_weight(layer, found, bias, borrowed)
        return smooth(layer, matrix)

    def start(self, embeds: torch.Tensor) -> torch.Tensor:
        """The stream before sub-block 0 from the token embeddings."""
        return embeds

    def embed(self, batch: TokenBatch):
        embeds, mask, num_tokens, _ = self.sd_model.process_tokens(batch.tokens.tolist(), self.device)
        attention_mask = mask if self.sd_model.enable_attention_masks else None
        hidden = self.start(embeds)
        return hidden, (self.context(hidden, attention_mask), mask, num_tokens)

    def finish(self, states, context):
        _, mask, num_tokens = context
        sequence, pooled = self.read_out(states, num_tokens)
        if self.sd_model.zero_out_masked:
            sequence = sequence * mask.unsqueeze(-1).float()
        found = {"sequence": sequence.float(), "pooled": pooled}
        return {name: found[name] for name in self.encoder.outputs}
