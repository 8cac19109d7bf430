"""Tiny PixArt CLIPs in every storage format that ComfyUI reads, loaded the way its loaders load them.

All hold the weights of `pixart_clip(dtype=torch.float32)`, each rounded as its format does.
"""

import functools
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

from .tiny_models import pixart_clip

PLAIN = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": torch.float8_e4m3fn,
}
# As ComfyUI names them in comfy_quant, those that this release has.
QUANTISED = tuple(name for name in ("float8_e4m3fn", "nvfp4", "mxfp8", "int8_tensorwise") if name in QUANT_ALGOS)
SCALED = "scaled fp8"
GGUF = "gguf"
FORMATS = (*PLAIN, SCALED, *QUANTISED, GGUF)
SIZES = {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 6}


@functools.cache
def float_state():
    """The T5's weights in float32."""
    return pixart_clip(dtype=torch.float32).cond_stage_model.t5xxl.transformer.state_dict()


def make_clip(name, folder, **model_options):
    """(CLIP, {T5 key: bytes it takes in this format}). `folder` is for the GGUF file."""
    if name in PLAIN:
        stored = {key: tensor.numel() * PLAIN[name].itemsize for key, tensor in float_state().items()}
        return pixart_clip(dtype=PLAIN[name], **model_options), stored
    if name == GGUF:
        return _gguf_clip(Path(folder) / "t5.gguf", model_options)
    state = _scaled_fp8_file() if name == SCALED else _quantised_file(name)
    clip = _clip(dict(state), model_options, dtype_t5=torch.float16, t5_quantization_metadata={"mixed_ops": True})
    return clip, _bytes_by_weight(state)


def _clip(state, model_options, **options):
    """As comfy.sd.load_text_encoder_state_dicts does, whose detection knows no tiny T5."""
    import comfy.sd
    from comfy.text_encoders import pixart_t5

    target = SimpleNamespace(params={}, clip=pixart_t5.pixart_te(**options), tokenizer=pixart_t5.PixArtTokenizer)
    model_options = {"t5xxl_model_config": SIZES, **model_options}
    return comfy.sd.CLIP(target, model_options=model_options, state_dict=[state])


def _is_matrix(key):
    """Whether a T5 key is the weight of one of its Linear modules: what files quantise."""
    return key.endswith((".q.weight", ".k.weight", ".v.weight", ".o.weight", "wi_0.weight", "wi_1.weight", "wo.weight"))


def _bytes_by_weight(state):
    """Bytes per weight, with the scales and marks that belong to it."""
    stored = {}
    for key, tensor in state.items():
        weight = key.rpartition(".")[0] + ".weight"
        stored[weight] = stored.get(weight, 0) + tensor.nbytes
    return stored


def _quantised_file(name):
    """A file with comfy_quant marks (version 1 of ComfyUI's quantization metadata)."""
    state = {}
    for key, tensor in float_state().items():
        if _is_matrix(key):
            options = {"scale": "recalculate"} if name.startswith("float8") else {}
            layout = QUANT_ALGOS[name]["comfy_tensor_layout"]
            state.update(QuantizedTensor.from_float(tensor.half(), layout, **options).state_dict(key))
            mark = list(json.dumps({"format": name}).encode())
            state[key.removesuffix("weight") + "comfy_quant"] = torch.tensor(mark, dtype=torch.uint8)
        else:
            state[key] = tensor.half()
    return state


def _scaled_fp8_file():
    """The older kind of file (t5xxl_fp8_e4m3fn_scaled.safetensors), read as load_clip reads it."""
    import comfy.utils

    state = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for key, tensor in float_state().items():
        if _is_matrix(key):
            scale = tensor.abs().amax() / torch.finfo(torch.float8_e4m3fn).max
            state[key] = (tensor / scale).to(torch.float8_e4m3fn)
            state[key.removesuffix("weight") + "scale_weight"] = scale
        else:
            state[key] = tensor.half()
    return comfy.utils.convert_old_quants(state, metadata={})[0]


# Layers that change their input before the product, as their weights need it: turned (ConvRot), smoothed (AWQ).
ODD = {
    "turned": ("int8_tensorwise", {"convrot": True, "convrot_groupsize": 64}, {}),
    "smoothed": ("nvfp4", {}, {"pre_quant_scale": lambda columns: torch.linspace(0.5, 2.0, columns)}),
}


def make_odd(what):
    """A CLIP of which all matrices are like that; where this release knows it, else the test is skipped, aloud."""
    name, more, parts = ODD[what]
    if name not in QUANT_ALGOS or not parts.keys() <= QUANT_ALGOS[name]["parameters"]:
        pytest.skip(f"this release of ComfyUI has no {what} {name}")
    state = _quantised_file(name)
    for key in [key for key in state if key.endswith(".comfy_quant")]:
        mark = json.loads(bytes(state[key].tolist())) | more
        state[key] = torch.tensor(list(json.dumps(mark).encode()), dtype=torch.uint8)
        layer = key.removesuffix("comfy_quant")
        columns = float_state()[f"{layer}weight"].shape[1]
        state |= {layer + part: make(columns) for part, make in parts.items()}
    return _clip(state, {}, dtype_t5=torch.float16, t5_quantization_metadata={"mixed_ops": True})


# --- GGUF --------------------------------------------------------------------------------------------------

# T5 as llama.cpp names it, which ComfyUI-GGUF translates back.
GGUF_NAMES = {
    "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
    "layer.0.SelfAttention.": "attn_",
    "layer.0.layer_norm": "attn_norm",
    "layer.1.DenseReluDense.wi_1": "ffn_up",
    "layer.1.DenseReluDense.wi_0": "ffn_gate",
    "layer.1.DenseReluDense.wo": "ffn_down",
    "layer.1.layer_norm": "ffn_norm",
    "encoder.block": "enc.blk",
    "encoder.final_layer_norm": "enc.output_norm",
    "shared": "token_embd",
}


@functools.cache
def gguf_pack():
    """ComfyUI-GGUF's package, wherever it lies; without it the test is skipped, aloud."""
    import folder_paths

    places = [os.environ.get("COMFYUI_GGUF_PATH"), Path(folder_paths.base_path) / "custom_nodes" / "ComfyUI-GGUF"]
    places.append("~/ComfyUI-GGUF")
    found = [place for place in map(_expanded, filter(None, places)) if (place / "nodes.py").is_file()]
    if not found or importlib.util.find_spec("gguf") is None:
        pytest.skip("GGUF NOT TESTED: no ComfyUI-GGUF in $COMFYUI_GGUF_PATH, custom_nodes or ~, or no gguf package")
    init = found[0] / "__init__.py"
    spec = importlib.util.spec_from_file_location("comfyui_gguf", init, submodule_search_locations=[str(found[0])])
    sys.modules["comfyui_gguf"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["comfyui_gguf"])
    return sys.modules["comfyui_gguf"]


def gguf_nodes():
    """Its module of nodes."""
    return importlib.import_module(f"{gguf_pack().__name__}.nodes")


def _expanded(place):
    return Path(place).expanduser()


def write_gguf(path, state):
    """A T5's float32 `state`: attention in Q8_0, feed-forward in Q4_0, embedding in Q8_0, norms and position table in
    F32."""
    import gguf

    writer = gguf.GGUFWriter(path, "t5encoder")
    for key, tensor in state.items():
        name = key
        for ours, theirs in GGUF_NAMES.items():
            name = name.replace(ours, theirs)
        values = tensor.numpy()
        kind = gguf.GGMLQuantizationType.Q4_0 if "ffn_" in name else gguf.GGMLQuantizationType.Q8_0
        if _is_matrix(key) or key == "shared.weight":
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_clip(path, model_options):
    """As the node CLIPLoaderGGUF does, but for the detection of the kind of T5."""
    nodes = gguf_nodes()
    if not path.exists():
        write_gguf(path, float_state())
    state = nodes.gguf_clip_loader(str(path))
    options = {"custom_operations": nodes.GGMLOps, "initial_device": torch.device("cpu"), **model_options}
    clip = _clip(dict(state), options, dtype_t5=torch.float32)
    clip.patcher = nodes.GGUFModelPatcher.clone(clip.patcher)
    stored = {key: tensor.as_subclass(torch.Tensor).nbytes for key, tensor in state.items()}
    # ComfyUI-GGUF counts room to dequantise the largest weight, here the embedding, to float16.
    stored["shared.weight"] += 2 * float_state()["shared.weight"].numel()
    return clip, stored


def pointers(tree):
    """{parameter name: addresses of everything it is stored in}."""
    found = {}
    for name, parameter in tree.named_parameters():
        if hasattr(parameter, "_qdata"):
            parts = [parameter._qdata, *(v for v in vars(parameter._params).values() if torch.is_tensor(v))]
        else:
            parts = [parameter.as_subclass(torch.Tensor)]
        found[name] = [part.untyped_storage().data_ptr() for part in parts]
    return found
