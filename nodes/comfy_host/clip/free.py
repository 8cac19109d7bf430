"""Free parts: what no picture ever reads of an encoder. Removing them changes no bit of any conditioning."""

from dataclasses import dataclass

import torch

from ..encoders import anatomy_of
from ..encoders.anatomy import Anatomy
from ..weights.host_table import HostTable, has_rows
from ..weights.memory import module_bytes
from .because import Because
from .guards import guard_projection, guard_states, refuse_pictures, refuse_text
from .kinds import writes_its_condition
from .reads import Reads, reads_of
from .trees import find_models

__all__ = ["FreePart", "find_free", "parts_of", "take_out"]


@dataclass(frozen=True)
class FreePart:
    """Modules of one encoder that are not read, or, of kind "table", not needed on the device.

    `kind`: "layers", "norm", "head", "tower", "projection" or "table". `paths` are below the transformer; `kept` is
    (layers, how many of them stay, whether the last norm stays). `size` is in bytes, in the storage format; `why` ends
    a sentence for people. `tensors` are (name, dtype that it stands for, shape) of its weights."""

    slot: str
    kind: str
    paths: tuple[str, ...]
    kept: tuple[int, int, bool]
    size: int
    why: Because
    tensors: tuple[tuple[str, torch.dtype, tuple[int, ...]], ...] = ()


def find_free(clip, *, pictures=False, text_generation=False, tables: bool | None = None) -> tuple[FreePart, ...]:
    """The free parts of a CLIP as it would encode now. `pictures` keeps what looks at pictures, `text_generation` what
    writes text. `tables`: whether embedding tables stay in RAM; by default where the encoder runs on a card. Nothing of
    a CLIP whose language model writes what the model reads. Changes nothing."""
    tree, found = clip.patcher.model, []
    if writes_its_condition(tree):
        return ()
    if tables is None:
        tables = clip.patcher.load_device.type != "cpu"
    for slot, sd_model in find_models(tree).items():
        anatomy = anatomy_of(sd_model.transformer)
        if anatomy is None:
            continue
        parts = list(_unread(sd_model.transformer, anatomy, reads_of(clip, slot, sd_model, anatomy)))
        if text_generation and hasattr(sd_model.transformer, "generate"):
            parts = []
        elif tables and _stays_in_ram(clip.patcher, sd_model.transformer.get_submodule(anatomy.table)):
            parts.append(("table", (anatomy.table,), Because("a prompt needs a few hundred of its rows")))
        if anatomy.tower and not pictures:
            parts.append(("tower", anatomy.tower, Because("this workflow shows the encoder no pictures")))
        found += _measured(slot, sd_model.transformer, anatomy, parts)
    return tuple(found)


def _stays_in_ram(patcher, table) -> bool:
    """Whether an embedding table can be looked up where it is stored: no LoRA, merge or hook changes it."""
    path = next(path for path, module in patcher.model.named_modules() if module is table)
    patched = {*patcher.patches, *(key for patches in patcher.hook_patches.values() for key in patches)}
    replaced = any(path == other or path.startswith(f"{other}.") for other in patcher.object_patches)
    return has_rows(table.weight) and f"{path}.weight" not in patched and not replaced


def _unread(transformer, anatomy: Anatomy, reads: Reads):
    """(kind, paths, why) of what the reads leave unread."""
    if dead := range(reads.layers, reads.of):
        yield "layers", tuple(f"{anatomy.layers}.{index}" for index in dead), reads.words
    if anatomy.norm is not None and not reads.norm:
        yield "norm", (anatomy.norm,), Because("this CLIP reads no state behind it")
    if anatomy.projection is not None and not reads.projection:
        yield "projection", (anatomy.projection,), Because("this CLIP hands on no projected pooled output")
    if anatomy.head:
        yield "head", anatomy.head, Because("only writing text uses it")


def _measured(slot: str, transformer, anatomy: Anatomy, parts) -> list[FreePart]:
    """`parts` as FreeParts with their bytes; those that are gone already are left out."""
    taken = {kind: paths for kind, paths, _ in parts}
    layers = len(transformer.get_submodule(anatomy.layers))
    kept = (layers, layers - len(taken.get("layers", ())), anatomy.norm is not None and "norm" not in taken)
    found = []
    for kind, paths, why in parts:
        modules = {path: transformer.get_submodule(path) for path in paths}
        size = sum(map(module_bytes, modules.values()))
        if size:
            weights = [(f"{path}.{name}", p) for path in paths for name, p in modules[path].named_parameters()]
            tensors = tuple((name, p.dtype, tuple(p.shape)) for name, p in weights)
            found.append(FreePart(slot, kind, paths, kept, size, why, tensors))
    return found


def parts_of(tree, parts) -> set[int]:
    """ids of the parameters and buffers that go with `parts`, the tables not counted."""
    gone, models = set(), find_models(tree)
    for part in parts:
        for path in part.paths if part.kind != "table" else ():
            module = models[part.slot].transformer.get_submodule(path)
            gone.update(id(tensor) for tensor in (*module.parameters(), *module.buffers()))
    return gone


def take_out(tree, parts, table=HostTable) -> None:
    """Removes `parts` from a tree that is ours alone, and has it say so where they would be used. `table` makes what
    stands in for an embedding table out of its module."""
    models = find_models(tree)
    for part in parts:
        sd_model = models[part.slot]
        transformer = sd_model.transformer
        anatomy = anatomy_of(transformer)
        for path in part.paths:
            _replace(transformer, path, part.kind, anatomy.stub if part.kind == "layers" else table)
        if part.kind in ("layers", "norm"):
            guard_states(transformer.get_submodule(anatomy.core), *part.kept)
        if part.kind == "projection":
            guard_projection(sd_model)
        if part.kind == "tower":
            transformer.preprocess_embed = refuse_pictures
        elif hasattr(transformer, "generate"):
            transformer.generate = refuse_text


def _replace(transformer, path: str, kind: str, stand_in) -> None:
    parent, _, name = path.rpartition(".")
    parent = transformer.get_submodule(parent)
    if kind in ("head", "tower"):
        delattr(parent, name)
    elif kind == "table":
        setattr(parent, name, stand_in(getattr(parent, name)))
    else:
        setattr(parent, name, stand_in() if kind == "layers" else torch.nn.Identity())
