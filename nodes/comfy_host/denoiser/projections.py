"""MODEL -> the denoiser's own projection of the text embedding, as private float32 copies of its few modules.

MODEL is not loaded for it. LoRA on MODEL is honoured: its patches are worked into the copies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from comfy.ldm.chroma.model import Chroma
from comfy.ldm.flux.model import Flux
from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT
from comfy.ldm.pixart.pixartms import PixArtMS

from ....skrr_engine.digest import digest_json, digest_tensors
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.measure.projection import Projection, no_projection, normalised_output
from ....skrr_engine.opening.projection_files import open_projection
from ..clip.trees import TextEncoder, text_encoders, tree_family
from ..encoders import llama
from ..weights.weights import raw_tensors
from .chains import chain_of, private_copy
from .denoiser_files import FileModel
from .readers import readers_of

__all__ = ["Family", "ProjectionFile", "find_projection", "found_for", "source_name"]

# SD3 joins these side by side; the columns of one that is missing are zeros, as many as its published width.
JOINED_IN_SD3 = {"clip_l": 768, "clip_g": 1280}


@dataclass(frozen=True)
class Family:
    """A kind of denoiser whose text projection is known: its class, the CLIP trees it is used with, and for each
    encoder slot the features as name -> (output read, path of the module)."""

    name: str
    model_class: type
    clips: tuple[str, ...]
    features: dict[str, dict[str, tuple[str, str]]]


@dataclass(frozen=True)
class ProjectionFile:
    """SKRR_PROJECTION: a denoiser's file, of which only the few tensors of its text projection are ever read."""

    path: Path


T5_IN = {"t5xxl": {"txt_in": ("sequence", "txt_in")}}
SD3_CLIP = {
    "context_embedder": ("sequence", "context_embedder"),
    "y_embedder": ("pooled", "y_embedder"),
}
FAMILIES = (
    Family("flux", Flux, ("flux",), T5_IN | {"clip_l": {"vector_in": ("pooled", "vector_in")}}),
    Family("chroma", Chroma, ("pixart", "flux", "sd3"), T5_IN),
    Family(
        "sd3",
        MMDiT,
        ("sd3",),
        {
            "t5xxl": {"context_embedder": ("sequence", "context_embedder")},
            "clip_l": SD3_CLIP,
            "clip_g": SD3_CLIP,
        },
    ),
    Family("pixart", PixArtMS, ("pixart",), {"t5xxl": {"y_proj": ("sequence", "y_embedder.y_proj")}}),
)


def model_family(model) -> Family | None:
    """The family of a MODEL, or None when its text projection is not known."""
    diffusion_model = model.get_model_object("diffusion_model")
    return next((family for family in FAMILIES if isinstance(diffusion_model, family.model_class)), None)


def found_for(family: str | None, kind: str) -> bool:
    """Whether a plan found behind the denoiser `family` is for CLIPs of this kind, as far as the family is known."""
    return next((kind in known.clips for known in FAMILIES if known.name == family), True)


def source_name(model, projection: Projection) -> str:
    """What `projection` was taken from, for a plan's record: a family, a class, or "none"."""
    if model is None:
        return "none"
    if isinstance(model, ProjectionFile):
        known, colon, _ = projection.name.partition(": ")
        return known if colon else projection.name.split()[0].lower()  # the known model's name begins it
    family, diffusion_model = model_family(model), model.get_model_object("diffusion_model")
    reader = next((one for one in readers_of(diffusion_model) if projection.name.startswith(f"{one.name}: ")), None)
    if reader is not None:
        return reader.name
    return type(diffusion_model).__name__ if family is None else family.name


def find_projection(model, encoder: TextEncoder) -> tuple[Projection, str]:
    """The projection that `encoder`'s outputs go through in MODEL (or a ProjectionFile), and a sentence about it
    for the report.

    Without a MODEL, or with one whose projection is not known, the encoder's outputs themselves are compared, and
    the sentence says so. A MODEL and a CLIP that do not belong together are refused.
    """
    plain, how = no_projection(encoder.outputs), ""
    if encoder.adapter is llama:
        plain, how = normalised_output(encoder.architecture.width), ", each token divided by its size"
    if model is None:
        return plain, f"No MODEL was given: the encoder's own output is compared{how}, not what the denoiser sees."
    source = ""
    if isinstance(model, ProjectionFile):
        path, model = model.path, FileModel(model.path)
        source = f", read from {path.name}"
        known = model.diffusion_model is not None and (model_family(model) or readers_of(model.diffusion_model))
        if not known:
            return _from_unknown_file(path, encoder)
    family, kind = model_family(model), tree_family(encoder.clip.patcher.model)
    diffusion_model = model.get_model_object("diffusion_model")
    name, readers = type(diffusion_model).__name__, readers_of(diffusion_model)
    reader = next((one for one in readers if kind in one.clips and one.family == encoder.architecture.family), None)
    chain = None if reader is None else chain_of(reader, model, encoder)
    if chain is not None:
        return chain, f"Compared behind {name}'s own {chain.name.partition(': ')[2]}{source}."
    if readers and family is None and not any(kind in one.clips for one in readers):
        kinds = " or ".join(kind for one in readers for kind in one.clips)
        raise SkrrError(
            f"This MODEL ({name}) and this CLIP ({kind}, encoder {encoder.slot}) do not belong together: it reads a "
            f"CLIP of type {kinds}. Connect the CLIP that the workflow encodes this model's prompts with."
        )
    if any(kind in one.clips for one in readers):
        family = None  # of this kind of CLIP, but goes without the module
    if family is None:
        return plain, f"The text projection of {name} is not known: the encoder's own output is compared{how}."
    if kind not in family.clips or encoder.slot not in family.features:
        raise SkrrError(
            f"This MODEL ({name}, {family.name}) and this CLIP ({kind}, encoder {encoder.slot}) do not belong "
            f"together: {family.name} reads {', '.join(family.features)} of a CLIP of type "
            f"{' or '.join(family.clips)}. "
            "Connect the CLIP that the workflow encodes this model's prompts with."
        )
    features = {}
    for feature, (output, path) in family.features[encoder.slot].items():
        _check_width(family, encoder, output, path, model)
        features[feature] = (output, private_copy(model, path), _adjust(family, encoder, output, model))

    def apply(outputs, batch):
        found = {}
        for feature, (output, module, adjust) in features.items():
            found[feature] = module.to(outputs[output].device)(adjust(outputs[output].float(), batch))
        return found

    tensors = [(f"{f}.{n}", t) for f, (_, module, _) in features.items() for n, t in raw_tensors(module)]
    reads = {feature: output for feature, (output, _, _) in features.items()}
    identity = digest_json([family.name, encoder.slot, digest_tensors(tensors)])
    label = f"{family.name}: {', '.join(features)}"
    return Projection(label, reads, apply, identity), f"Compared behind {name}'s own {' and '.join(features)}{source}."


def _from_unknown_file(path: Path, encoder: TextEncoder) -> tuple[Projection, str]:
    """Of a file that ComfyUI does not know by its shapes: the layers by their names."""
    if encoder.outputs != ("sequence",):
        raise SkrrError(
            f"ComfyUI does not recognise {path.name} as FLUX, Chroma, SD3 or PixArt, and for {encoder.slot}, whose "
            "pooled output is read too, the projection is not read by names alone. Connect the MODEL itself."
        )
    projection = open_projection(path, encoder.architecture.width)
    return projection, f"Compared behind {projection.name}, read from {path.name}."


def _adjust(family: Family, encoder: TextEncoder, output: str, model) -> Callable:
    """What the host does to an encoder's output before the projection."""
    if family.name == "flux" and output == "pooled":
        width = model.get_model_object("diffusion_model.params").vec_in_dim
        return lambda values, batch: values[:, :width]
    if family.name == "flux":
        # Relatives of FLUX normalise the sequence first.
        norm = getattr(model.get_model_object("diffusion_model"), "txt_norm", None)
        copied = None if norm is None else private_copy(model, "txt_norm")
        return lambda values, batch: values if copied is None else copied.to(values.device)(values)
    if family.name == "sd3" and encoder.slot in JOINED_IN_SD3:
        if output == "sequence":
            width = model.get_model_object("diffusion_model.context_embedder").weight.shape[1]
            first = 0 if encoder.slot == "clip_l" else _joined_widths(encoder)["clip_l"]
            return lambda values, batch: torch.nn.functional.pad(values, (first, width - first - values.shape[-1]))
        return lambda values, batch: _joined_pooled(encoder.slot, values, batch.companions["pooled"])
    return lambda values, batch: values


def _joined_pooled(slot: str, values: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """SD3's pooled vector: CLIP-L's, then CLIP-G's; `other` is the one that is not being pruned, dense."""
    other = other.to(values)
    return torch.cat((values, other) if slot == "clip_l" else (other, values), dim=-1)


def _check_width(family: Family, encoder: TextEncoder, output: str, path: str, model) -> None:
    """Raises SkrrError when the module at `path` does not take what `encoder` gives, alone or joined."""
    name = family.model_class.__name__
    wrong, cure = "This MODEL and this CLIP do not belong together", "Connect the CLIP made for this model."
    module = model.get_model_object(f"diffusion_model.{path}")
    matrices = [p for p in module.parameters() if p.dim() == 2] if module is not None else []
    if not matrices:
        raise SkrrError(f"{wrong}: this {name} has no {path} to read the encoder {encoder.slot} with. {cure}")
    takes, gives, whose = matrices[0].shape[1], encoder.architecture.width, f"the encoder {encoder.slot} gives"
    joined = family.name == "sd3" and encoder.slot in JOINED_IN_SD3
    if joined:
        widths = _joined_widths(encoder)
        gives, whose = sum(widths.values()), " and ".join(f"{slot} ({n})" for slot, n in widths.items()) + " give"
    # A joined sequence is filled up with zeros.
    if not (gives <= takes if joined and output == "sequence" else gives == takes):
        raise SkrrError(f"{wrong}: {name}'s {path} takes {takes} values, {whose} {gives}. {cure}")


def _joined_widths(encoder: TextEncoder) -> dict[str, int]:
    """slot -> columns of SD3's two CLIPs, in the order in which they are joined."""
    found = text_encoders(encoder.clip)
    return {slot: found[slot].architecture.width if slot in found else n for slot, n in JOINED_IN_SD3.items()}
