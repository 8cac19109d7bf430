"""Skrr CLIP Loader on files of language models in every storage format: what ComfyUI's own loader makes of them, bit
for bit, the embedding table in its file where rows of it can be read alone."""

import json

import pytest
import torch
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
from safetensors.torch import save_file

from ..steps import without_free
from .test_file_formats import assert_same
from .test_language_models import dense_of, encoded, files_of, same  # noqa: F401 (files_of is a fixture)

NAME = "Qwen-Image"
PLAIN = (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn)
# The format of matrices, and of the table where it is quantised too.
QUANTISED = [(name, None) for name in QUANT_ALGOS]
QUANTISED += [("int8_tensorwise convrot", None)] if "int8_tensorwise" in QUANT_ALGOS else []
QUANTISED += [(name, name) for name in ("float8_e4m3fn", "int8_tensorwise") if name in QUANT_ALGOS]
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj")


def quantised(state, name, table):
    """`state` with its matrices as the format `name`, the table as `table`."""
    found = {}
    for key, tensor in state.items():
        module, _, leaf = key.rpartition(".")
        last = module.rpartition(".")[2]
        form = table if last == "embed_tokens" else name if last in MATRICES and ".layers." in key else None
        if form is None or leaf != "weight":
            found[key] = tensor
            continue
        form, _, turned = form.partition(" ")
        options = {"scale": "recalculate"} if form.startswith(("float8", "int8")) else {}
        made = QuantizedTensor.from_float(tensor.half(), QUANT_ALGOS[form]["comfy_tensor_layout"], **options)
        found |= made.state_dict(key)
        more = {"convrot": True, "convrot_groupsize": 64} if turned else {}
        mark = bytearray(json.dumps({"format": form} | more).encode())
        found[f"{module}.comfy_quant"] = torch.frombuffer(mark, dtype=torch.uint8)
    return found


def check(pack, paths, kind, in_file=True):
    dense = dense_of(paths, kind)
    loaded = pack("nodes.comfy_host.files.loading").load_kept(paths, kind)
    assert any(part.kind == "table" for part in loaded.free) is in_file
    wanted = encoded(dense, NAME)
    same(encoded(loaded.clip, NAME), wanted)
    cut = without_free(pack, dense)
    assert_same(loaded.clip, cut.clip)
    same(encoded(cut.clip, NAME), wanted)


@pytest.mark.parametrize("dtype", PLAIN, ids=str)
def test_plain(pack, files_of, dtype):  # noqa: F811
    check(pack, *files_of(NAME, dtype=dtype, num_hidden_layers=2))


@pytest.mark.parametrize("name, table", QUANTISED)
def test_quantised(pack, files_of, name, table):  # noqa: F811
    def write(state, path):
        save_file(quantised(state, name, table), path)

    check(pack, *files_of(NAME, num_hidden_layers=2, hidden_size=256, intermediate_size=256, write=write))
