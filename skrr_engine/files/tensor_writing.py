"""Tensors -> a safetensors file, which appears whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from ..disk import new_file

__all__ = ["write_tensors"]


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> int:
    """Writes `tensors` by name, and returns the file's size in bytes. Raises SkrrError where it cannot be written."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with new_file(path) as temporary:
        try:
            save_file(whole, temporary, None if metadata is None else dict(metadata))
        except SafetensorError as error:
            # Its own name for what the system refused.
            raise OSError(str(error)) from error
        return temporary.stat().st_size
