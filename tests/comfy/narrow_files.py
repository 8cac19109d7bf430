"""Files of text encoders that ComfyUI's loaders recognise, narrow enough for every storage format and for trees of
several: as many layers as detection counts, and T5's feed-forward as wide as it asks, but the rest tiny.

ComfyUI builds T5-XXL, CLIP-L and CLIP-G in their published sizes unless its loader is told otherwise: `narrow` tells
it, by the options that it has for that.
"""

import functools
import json

import torch
from safetensors.torch import save_file

from .tiny_language import UMT5, spiece_model
from .tiny_models import random_state

T5 = UMT5
CLIP = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 1}
LLAMA = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
SIZES = {
    "t5xxl_model_config": T5,
    "umt5xxl_model_config": T5,
    "clip_l_model_config": CLIP,
    "clip_g_model_config": CLIP | {"projection_dim": 64},
    "llama_model_config": LLAMA,
}
PLAIN = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8 e4m3fn": torch.float8_e4m3fn,
    "fp8 e5m2": torch.float8_e5m2,
}
SCALED, LISTED = "scaled fp8", "listed fp8"


def quantised():
    """As comfy_quant names them, those of this release."""
    from comfy.quant_ops import QUANT_ALGOS

    known = ("float8_e4m3fn", "float8_e5m2", "nvfp4", "mxfp8", "int8_tensorwise")
    return tuple(name for name in known if name in QUANT_ALGOS)


def narrow(monkeypatch):
    """From now on ComfyUI's loader builds encoders of these sizes."""
    import comfy.sd

    usual = comfy.sd.load_text_encoder_state_dicts

    def load(state_dicts, *rest, model_options, **options):
        # Whatever is said of a CLIP by its name, ComfyUI overwrites with "model_config" (and writes into that).
        sizes = SIZES | {"model_config": dict(CLIP)}
        return usual(state_dicts, *rest, model_options=sizes | model_options, **options)

    monkeypatch.setattr(comfy.sd, "load_text_encoder_state_dicts", load)


def _skeleton(model_class, **options):
    return model_class(device="meta", dtype=torch.float32, model_options=SIZES | options).transformer


@functools.cache
def t5_state(umt5=False):
    """A T5-XXL's (or umT5-XXL's) weights in float32."""
    from comfy.text_encoders import sd3_clip, wan

    # umT5's class leaves its name to the tree that it stands in.
    found = _skeleton(wan.UMT5XXlModel, model_name="umt5xxl") if umt5 else _skeleton(sd3_clip.T5XXLModel)
    return random_state(found.state_dict(), seed=3)


def clip_state(large=False):
    """A CLIP-L's or CLIP-G's weights in float16."""
    from comfy import sd1_clip, sdxl_clip

    model_class = sdxl_clip.SDXLClipG if large else sd1_clip.SDClipModel
    return random_state(_skeleton(model_class).state_dict(), seed=5 + large, dtype=torch.float16)


def llama_state(vocabulary=128256):
    """A Llama's weights in float16, as HiDream has it."""
    from comfy.text_encoders import hunyuan_video

    skeleton = _skeleton(hunyuan_video.LLAMAModel, vocab_size=vocabulary)
    return random_state(skeleton.state_dict(), seed=8, dtype=torch.float16)


def write_t5(path, name, umt5=False):
    """A T5 file in the storage format `name`."""
    state, metadata = t5_state(umt5), {}
    if name in PLAIN:
        state = {key: tensor.to(PLAIN[name]) for key, tensor in state.items()}
    elif name == SCALED:
        state = _scaled(state) | {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    else:
        state, layers = _quantised(state, "float8_e4m3fn" if name == LISTED else name)
        if name == LISTED:
            metadata = {"_quantization_metadata": json.dumps({"layers": layers})}
        else:
            marks = {f"{layer}.comfy_quant": json.dumps(mark).encode() for layer, mark in layers.items()}
            state |= {key: torch.frombuffer(bytearray(mark), dtype=torch.uint8) for key, mark in marks.items()}
    if umt5:
        state["spiece_model"] = spiece_model()
    else:
        state["encoder.embed_tokens.weight"] = state["shared.weight"].clone()  # published files hold it twice
    save_file(state, path, metadata)
    return path


def _is_matrix(key):
    return key.endswith(tuple(f".{part}.weight" for part in ("q", "k", "v", "o", "wi_0", "wi_1", "wo")))


def _scaled(state):
    found = {}
    for key, tensor in state.items():
        found[key] = tensor.half()
        if _is_matrix(key):
            scale = tensor.abs().amax() / torch.finfo(torch.float8_e4m3fn).max
            found[key] = (tensor / scale).to(torch.float8_e4m3fn)
            found[key.removesuffix("weight") + "scale_weight"] = scale
            found[key.removesuffix("weight") + "scale_input"] = torch.tensor(1.0)
    return found


def _quantised(state, name):
    """(tensors, {layer: its mark})."""
    from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

    found, layers = {}, {}
    for key, tensor in state.items():
        if _is_matrix(key):
            options = {"scale": "recalculate"} if name.startswith("float8") else {}
            layout = QUANT_ALGOS[name]["comfy_tensor_layout"]
            found.update(QuantizedTensor.from_float(tensor.half(), layout, **options).state_dict(key))
            layers[key.removesuffix(".weight")] = {"format": name}
        else:
            found[key] = tensor.half()
    return found, layers
