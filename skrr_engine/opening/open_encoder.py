"""Opens a text encoder for the command line: a transformers folder or one safetensors file -> a text stack.

Sizes come from the tensors' shapes; a config only tells what no shape does. Weights are read from safetensors
alone, never from a pickle, and used as float32 (where a feeder brings them: at most). A file pruned by this pack opens
too: what it left out is never made.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from ..encoders.clip import ClipStack
from ..encoders.stack import TextStack
from ..encoders.t5 import T5Stack
from ..errors import SkrrError
from ..files.encoder_files import EncoderFiles, find_encoder
from ..files.infer import infer_architecture
from ..files.tensor_names import place_of, tensors_of
from ..files.tensor_reading import DTYPES, TensorReader
from ..measure.execute import Assignment, assign
from ..plans.architecture import Architecture
from ..plans.plan import Plan
from ..precision import STREAM

__all__ = ["OpenEncoder", "default_slot", "open_encoder"]

EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight")
FLOATS = ("F64", "F32", "F16", "BF16")
# (family, gated, activation) -> what transformers calls it.
ACTIVATIONS = {
    ("t5", True, "gelu_tanh"): "gated-gelu",
    ("t5", True, "relu"): "gated-relu",
    ("t5", False, "gelu_tanh"): "gelu_new",
    ("t5", False, "gelu"): "gelu",
    ("t5", False, "relu"): "relu",
    ("clip", False, "quick_gelu"): "quick_gelu",
    ("clip", False, "gelu"): "gelu",
    ("clip", False, "gelu_tanh"): "gelu_pytorch_tanh",
}


@dataclass(frozen=True)
class OpenEncoder:
    """A text encoder ready to run. `assignment` runs it as its file says: every sub-block in its own place, or
    as `plan` has it, which is None for a dense encoder. `stored` is how wide matrices in the file are, at least."""

    stack: TextStack
    slot: str
    assignment: Assignment
    plan: Plan | None
    stored: torch.dtype


def default_slot(architecture: Architecture) -> str:
    """The name that ComfyUI gives to the usual encoder of this shape."""
    if architecture.family == "clip":
        return {1024: "clip_h", 1280: "clip_g"}.get(architecture.width, "clip_l")
    return "umt5xxl" if architecture.position_bias == "every" else "t5xxl"


def open_encoder(
    path: str | Path, *, slot: str | None = None, heads: int | None = None, clip_layer: int = 2, device: str = "cpu",
    fed: bool = False,
) -> OpenEncoder:  # fmt: skip
    """Opens the encoder at `path` in float32 on `device`. Its stack states bytes as stored in the file.

    Where it is to be `fed`, the matrices of its sub-blocks stay in host memory as they are stored; it runs as soon as
    its stack has a feeder (see `budget.feed`). T5's embedding, too, is then as stored, but on the device.
    `slot` names the encoder and, in a file with several, chooses it. `heads` are a CLIP's, if not 64 wide.
    `clip_layer` is the layer from the end that the model family reads of a CLIP: 2, without the final norm, for
    SDXL and SD3; 1, the last with its norm, for SD 1.5. Raises SkrrError for anything that is no dense or pruned
    T5, umT5 or CLIP text encoder in floating-point safetensors.
    """
    _check_device(device)
    files = find_encoder(path, slot)
    cut = files.plan.levels[0].cuts[files.slot] if files.plan else None
    if cut:
        architecture = files.plan.encoders[files.slot].architecture
    else:
        architecture = infer_architecture(files.encoder, files.path, heads or files.told.get("num_attention_heads"))
    gone = set(cut.skip) if cut else set()
    model = _make_model(architecture, files.told)
    _load(model, files, architecture, gone, device, fed)
    stack = T5Stack(model) if architecture.family == "t5" else ClipStack(model, clip_layer, final_norm=False)
    _count_stored_bytes(stack, files, {_stored_name(name, architecture) for name in model.state_dict()})
    assignment = assign(architecture.sub_blocks, gone, cut.reuse_map if cut else {})
    found = {entry.dtype for entry in files.encoder.tensors.values() if len(entry.shape) == 2}
    stored = next((DTYPES[name] for name in ("BF16", "F16") if name in found), STREAM)
    return OpenEncoder(stack, slot or files.slot or default_slot(architecture), assignment, files.plan, stored)


def _check_device(device: str) -> None:
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    kind, colon, number = device.partition(":")
    known = range(counts.get(kind, 0))
    if not known or (colon and number not in map(str, known)):
        names = ", ".join(f"{name}:{n}" if count > 1 else name for name, count in counts.items() for n in range(count))
        raise SkrrError(f"There is no device {device!r} for this PyTorch; it has {names}. Choose one with --device.")


def _make_model(shape: Architecture, told):
    """The transformers model of that shape, its parameters without memory yet. `told` goes over what is usual."""
    activation = ACTIVATIONS.get((shape.family, shape.gated, shape.activation))
    if activation is None:
        raise SkrrError(
            f"A {shape.describe()} with {'gated ' * shape.gated}activation {shape.activation!r} is unknown to the "
            "command line. Check the plan inside the file."
        )
    if shape.family == "clip":
        classes = (CLIPTextConfig, CLIPTextModelWithProjection if shape.projection else CLIPTextModel)
        last = shape.vocabulary - 1
        usual = dict(hidden_act=activation, bos_token_id=last - 1, eos_token_id=last, pad_token_id=last)
        sizes = dict(
            num_hidden_layers=shape.layers,
            hidden_size=shape.width,
            intermediate_size=shape.feed_forward,
            num_attention_heads=shape.heads,
            vocab_size=shape.vocabulary,
            max_position_embeddings=shape.positions,
            projection_dim=shape.projection,
        )
    else:
        every = shape.position_bias == "every"
        classes = (UMT5Config, UMT5EncoderModel) if every else (T5Config, T5EncoderModel)
        usual = dict(feed_forward_proj=activation)
        sizes = dict(
            num_layers=shape.layers,
            d_model=shape.width,
            d_ff=shape.feed_forward,
            d_kv=shape.head_width,
            num_heads=shape.heads,
            vocab_size=shape.vocabulary,
            relative_attention_num_buckets=shape.positions,
        )
    config, model = classes
    with torch.device("meta"):
        return model(config(**{**usual, **told, **sizes})).eval()


def _load(model, files: EncoderFiles, shape: Architecture, gone: set[int], device: str, fed: bool) -> None:
    """Puts the file's tensors into `model`, all but those of the sub-blocks `gone`."""
    state = {}
    wanted = {_stored_name(name, shape): (name, tuple(p.shape)) for name, p in model.state_dict().items()}
    for stored in wanted.keys() - tensors_of(wanted, shape, gone):
        name, sides = wanted[stored]
        matrix = isinstance(model.get_submodule(name.rpartition(".")[0]), torch.nn.Linear)
        brought = fed and matrix and place_of(stored, shape.family) is not None
        as_stored = brought or (fed and name in EMBEDDINGS)
        state[name] = _read(files, stored, sides, "cpu" if brought else device, as_stored)
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    for name, buffer in list(model.named_buffers()):
        # CLIP's only buffer counts its positions; files of older releases carry it, newer ones do not.
        owner, _, leaf = name.rpartition(".")
        model.get_submodule(owner).register_buffer(
            leaf, torch.arange(buffer.shape[-1], device=device).expand(buffer.shape), persistent=False
        )


def _stored_name(name: str, shape: Architecture) -> str:
    """Files say text_model throughout; transformers 5 dropped it from CLIP models without projection."""
    plain = shape.family == "clip" and not name.startswith(("text_model.", "text_projection."))
    return f"text_model.{name}" if plain else name


def _read(files: EncoderFiles, name: str, shape: tuple[int, ...], device: str, as_stored: bool) -> torch.Tensor:
    """One tensor as float32, or narrower where it is to be `as_stored`. T5's embedding goes by either of two names."""
    tensors = files.encoder.tensors
    if name in EMBEDDINGS and name not in tensors:
        name = next(other for other in EMBEDDINGS if other != name)
    full = files.encoder.prefix + name
    if name not in tensors or (tensors[name].dtype in FLOATS and tensors[name].shape != shape):
        found = f"has shape {list(tensors[name].shape)}" if name in tensors else "is missing"
        raise SkrrError(
            f"{files.path.name}: tensor {full} {found}; an encoder of this kind has {list(shape)} there. Choose a "
            "file in the tensor names of transformers, with every layer."
        )
    if tensors[name].dtype not in FLOATS:
        raise SkrrError(
            f"{files.path.name} stores {full} as {tensors[name].dtype}; a search on the command line takes F32, F16 "
            "and BF16. Search on the unquantised file: its plan can be applied to this one, in every format."
        )
    with TensorReader(files.headers[full]) as file:
        stored = file.dtype(full)
        return file.read(full, stored if as_stored and stored.itemsize < STREAM.itemsize else STREAM).to(device)


def _count_stored_bytes(stack: TextStack, files: EncoderFiles, names: set[str]) -> None:
    """Sizes as the file has them (fp16 is half of what runs here), so that a target in GB means the file's."""
    stored = {name: entry.bytes for name, entry in files.encoder.tensors.items() if name in names}
    removable = tensors_of(stored, stack.architecture, range(len(stack.subblocks)))
    sizes = [0] * len(stack.subblocks)
    for name in removable:
        sizes[place_of(name, stack.architecture.family)[0]] += stored[name]
    stack.subblocks = tuple(replace(block, bytes=sizes[block.index]) for block in stack.subblocks)
    stack.total_bytes = sum(stored.values())
