"""The file of a language-model encoder: FLUX.2 klein 4B's Qwen3-4B by its names, its 36 layers, its width and its
vocabulary, but with narrower layers, so that it takes 2 GB instead of 8. Random weights."""

import json
from pathlib import Path

__all__ = ["NAME", "TYPE", "narrow", "write"]

NAME, TYPE = "skrr_klein.safetensors", "flux2"
# Real: 9728, 32 and 8.
SIZES = {"intermediate_size": 1536, "num_attention_heads": 4, "num_key_value_heads": 2}


def narrow(sd) -> None:
    """From now on ComfyUI's loader (its module `sd`) builds the encoder in these sizes."""
    usual = sd.load_text_encoder_state_dicts

    def load(state_dicts, *rest, model_options=None, **options):
        sizes = {"qwen3_4b_model_config": dict(SIZES)}
        return usual(state_dicts, *rest, model_options=sizes | (model_options or {}), **options)

    sd.load_text_encoder_state_dicts = load


def write(path: Path) -> None:
    """Writes the file; holds 32 MB of it at a time."""
    import torch
    from comfy.text_encoders import flux

    options = {"qwen3_4b_model_config": dict(SIZES)}
    tree = flux.klein_te(model_type="qwen3_4b")(device="meta", dtype=torch.float16, model_options=options)
    header, at = {}, 0
    for name, tensor in tree.qwen3_4b.transformer.state_dict().items():
        header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [at, at + 2 * tensor.numel()]}
        at += 2 * tensor.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # Odd, so that no two rows of a matrix are alike.
    block = torch.randn((1 << 24) + 1, generator=torch.Generator().manual_seed(1)).mul_(0.02).half().numpy().tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        while at:
            at -= file.write(block[: min(at, len(block))])
