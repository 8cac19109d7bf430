"""What of a language model's output gets into the conditioning: which positions, and how several states are joined.

A CLIP cuts its template, drops what it padded and joins states in a way of its own. It is not written down here: the
CLIP's own encode is run on stand-ins for its encoders that hand out numbers of positions, then of states and columns,
and what comes out says where each went. No weight is touched but a few rows of the embedding table.
"""

import copy
from dataclasses import dataclass

import torch

from .kinds import tree_family
from .reads import encode_options
from .trees import find_models

__all__ = ["Selection", "joined", "select"]

# Kinds whose denoisers read every position that they get, masked or not.
READS_PADS = ("anima", "flux2", "longcat")
COLUMNS = 3  # enough to tell states side by side from columns side by side


@dataclass(frozen=True)
class Selection:
    """`positions`: for each position of the conditioning that the denoiser reads, where it was in the row of tokens.
    `states`: which of the states that the encoder hands out, in their order; `interleaved`: whether those of one column
    stand side by side, instead of the columns of one state."""

    positions: tuple[int, ...]
    states: tuple[int, ...]
    interleaved: bool


def select(clip, slot: str, tokens: dict) -> Selection | None:
    """The Selection of the encoder in `slot` for the tokens of one prompt (key -> rows of ids); None where the CLIP
    makes something else of its output than a selection."""
    tree = clip.patcher.model
    if hasattr(tree, "text_embedding_projection"):  # LTX-2's: it mixes all positions before anything leaves the CLIP
        return None
    model = find_models(tree)[slot]
    layer, _, _ = encode_options(clip, model)
    layers = len(model.transformer.model.layers)
    states = layers + 1 if layer == "all" else len(set(layer)) if isinstance(layer, list) else 0
    rows = {key: [[(token, 1.0) for token in row] for row in found] for key, found in tokens.items()}

    def by_position(length):
        return torch.arange(1, length + 1).view(1, 1, length, 1).expand(1, max(states, 1), length, COLUMNS)

    def by_column(length):
        codes = torch.arange(1, max(states, 1) * COLUMNS + 1).view(1, max(states, 1), 1, COLUMNS)
        return codes.expand(1, max(states, 1), length, COLUMNS)

    placed, masked = _encoded(tree, slot, rows, by_position, bool(states))
    columns, _ = _encoded(tree, slot, rows, by_column, bool(states))
    if placed is None or columns is None or not (_whole(placed) and (placed == placed[:, :1]).all()):
        return None
    positions = (placed[:, 0].long() - 1).tolist()
    if tree_family(tree) not in READS_PADS and any(masked):
        positions = [at if kept else -1 for at, kept in zip(positions, masked, strict=True)]
    read = tuple(at for at in positions if at >= 0)
    kept = columns[[at for at, n in enumerate(placed[:, 0].tolist()) if n]]
    if not read or not _whole(columns) or not (kept == kept[:1]).all():
        return None
    found = (kept[0].long() - 1).tolist()
    for interleaved in (False, True):
        order = tuple(dict.fromkeys(code // COLUMNS for code in found))
        if found == _order(order, interleaved):
            return Selection(read, order, interleaved)
    return None


def joined(sequence: torch.Tensor, selection: Selection | None, width: int) -> torch.Tensor:
    """`sequence` (…, states x width), as an encoder's TextStack gives it, with states as the conditioning has them."""
    if selection is None:
        return sequence
    states = sequence.unflatten(-1, (-1, width))
    if selection.states != tuple(range(states.shape[-2])):
        states = states[..., list(selection.states), :]
    return (states.transpose(-1, -2) if selection.interleaved else states).flatten(-2)


def _order(states, interleaved: bool) -> list[int]:
    """The codes of `states` in the one order or the other."""
    if interleaved:
        return [state * COLUMNS + column for column in range(COLUMNS) for state in states]
    return [state * COLUMNS + column for state in states for column in range(COLUMNS)]


def _whole(codes: torch.Tensor) -> bool:
    """Whether these are codes still: a CLIP that reckons with what it hands on would have changed them."""
    return bool((codes == codes.round()).all())


def _encoded(tree, slot: str, rows, codes, several: bool):
    """(what the CLIP hands on of `codes`, (positions, columns), whether each position is left by its mask)."""
    fakes = {}
    for name, model in find_models(tree).items():
        fakes[id(model)] = _stand_in(model, codes if name == slot else None, several)
    result = _over(tree, fakes).encode_token_weights(rows)
    extra = result[2] if len(result) > 2 else {}
    found = [part for part in (result[0], *extra.values()) if torch.is_tensor(part) and part.dim() > 2 and part.any()]
    if not found:
        return None, []
    codes = found[0].float()
    codes = (codes.movedim(1, 2).flatten(2) if codes.dim() == 4 else codes)[0]
    mask = extra.get("attention_mask")
    fits = torch.is_tensor(mask) and mask.shape[-1] == len(codes)
    return codes, mask.reshape(-1, len(codes))[0].bool().tolist() if fits else [True] * len(codes)


def _over(tree, fakes: dict):
    """`tree` with stand-ins for its encoders, itself unchanged."""
    if id(tree) in fakes:
        return fakes[id(tree)]
    shell = copy.copy(tree)
    shell._modules = {name: fakes.get(id(module), module) for name, module in tree._modules.items()}
    return shell


def _stand_in(model, codes, several: bool):
    """`model` as it is, but that it hands out `codes`, or zeros where there are none."""

    def forward(tokens):
        _, mask, _, _ = model.process_tokens(tokens, model.transformer.get_input_embeddings().weight.device)
        length = mask.shape[1]
        z = torch.zeros(len(tokens), length, COLUMNS) if codes is None else codes(length).float()
        z = z.clone() if codes is None or several else z[:, 0].clone()
        if model.zero_out_masked:
            z = z * mask.cpu().unsqueeze(-1)
        extra = ({"attention_mask": mask},) if model.return_attention_masks else ()
        return (z, torch.zeros(len(tokens), COLUMNS), *extra)

    fake = copy.copy(model)
    fake.__dict__["forward"] = forward
    return fake
