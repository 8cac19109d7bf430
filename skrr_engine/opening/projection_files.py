"""The projection for the command line: the denoiser's text layers, read out of its safetensors file."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import SkrrError
from ..files.header import Header, read_header
from ..files.tensor_reading import TensorReader
from ..measure.projection import Projection, linear_chain
from ..precision import STREAM

__all__ = ["check_plain", "is_plain", "open_projection"]

# The layers over the text embedding of known models, in the order in which the model runs them.
KNOWN = (
    ("FLUX", ("txt_in",)),
    ("SD3", ("context_embedder",)),
    ("PixArt", ("y_embedder.y_proj.fc1", "y_embedder.y_proj.fc2")),
    ("PixArt (diffusers)", ("caption_projection.linear_1", "caption_projection.linear_2")),
)
PREFIXES = ("", "model.diffusion_model.")
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
COMPANIONS = ("weight_scale", "scale_weight", "comfy_quant")


def open_projection(path: str | Path, width: int, layers: Sequence[tuple[str, str | None]] = ()) -> Projection:
    """The projection in the safetensors file at `path` for an encoder `width` wide, in float32.

    `layers` are (weight, bias or None) tensor names in the order in which they run; without them the file must
    be of a known model. Raises SkrrError when names are missing or widths do not fit.
    """
    header = read_header(path)
    name, layers = ("named layers", layers) if layers else _recognise(header)
    loaded = [tuple(None if n is None else _read(header, n) for n in layer) for layer in layers]
    for (weight_name, bias_name), (weight, bias) in zip(layers, loaded, strict=True):
        if weight.dim() != 2:
            raise SkrrError(f"{header.path.name}: {weight_name} has shape {list(weight.shape)}; a weight has 2 sides.")
        if bias is not None and bias.shape != weight.shape[:1]:
            raise SkrrError(
                f"{header.path.name}: bias {bias_name} has shape {list(bias.shape)}, its weight {weight_name} hands "
                f"out {weight.shape[0]} values. Name the bias right behind its own weight."
            )
    if loaded[0][0].shape[1] != width:
        raise SkrrError(
            f"The encoder is {width} wide, but {layers[0][0]} in {header.path.name} takes {loaded[0][0].shape[1]} "
            "values. Choose the denoiser that this encoder belongs to."
        )
    return linear_chain(f"{name}: {', '.join(weight for weight, _ in layers)}", loaded, STREAM)


def _recognise(header: Header) -> tuple[str, list[tuple[str, str | None]]]:
    looked_for = []
    for name, modules in KNOWN:
        for prefix in PREFIXES:
            weights = [f"{prefix}{module}.weight" for module in modules]
            looked_for.append(weights[0])
            if all(weight in header.tensors for weight in weights):
                biases = [f"{prefix}{module}.bias" for module in modules]
                return name, [(w, b if b in header.tensors else None) for w, b in zip(weights, biases, strict=True)]
    raise SkrrError(
        f"{header.path.name} is not a denoiser that this pack knows; looked for {', '.join(looked_for)}. Name its "
        "text layers with --weight and --bias."
    )


def is_plain(header: Header, name: str) -> bool:
    """Whether the tensor `name` is stored as plain floating-point numbers."""
    module = name.rpartition(".")[0]
    scaled = any(f"{module}.{companion}" in header.tensors for companion in COMPANIONS)
    return header.tensors[name].dtype in FLOATS and not scaled


def check_plain(header: Header, name: str) -> None:
    """Raises SkrrError when it is not."""
    if not is_plain(header, name):
        raise SkrrError(
            f"{header.path.name} stores {name} quantised ({header.tensors[name].dtype} with a scale of its own, or "
            "packed); a projection is read from F32, F16, BF16 or plain F8. Choose an unquantised file of the denoiser."
        )


def _read(header: Header, name: str) -> torch.Tensor:
    if name not in header.tensors:
        raise SkrrError(f"{header.path.name} has no tensor {name!r}. Check the name; it must be complete.")
    check_plain(header, name)
    with TensorReader(header) as file:
        return file.read(name, STREAM)
