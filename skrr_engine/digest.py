"""Content digests: whether two tensors, encoders or settings are the same, without reading gigabytes."""

import hashlib
import json

import torch

__all__ = ["digest_json", "digest_tensors"]

SAMPLES = 4096


def digest_tensors(tensors) -> str:
    """SHA-256 over (name, tensor) pairs: shape, dtype and up to SAMPLES bytes of the raw storage, strided.

    Works for any storage format (fp8, GGUF blocks), since it looks at raw bytes. A change that misses all
    sampled bytes goes unseen, which real edits (another file, a LoRA, another precision) never do.
    """
    total = hashlib.sha256()
    for name, tensor in tensors:
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        raw = tensor.detach().as_subclass(torch.Tensor)
        raw = raw.contiguous().view(-1).view(torch.uint8) if raw.dim() else raw.reshape(1).view(torch.uint8)
        # An odd stride visits every byte of a multi-byte number in turn.
        stride = max(1, raw.numel() // SAMPLES) | 1
        total.update(raw[::stride].cpu().numpy().tobytes())
    return total.hexdigest()


def digest_json(value) -> str:
    """SHA-256 over the canonical JSON of a plain value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
