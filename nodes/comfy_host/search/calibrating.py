"""Prompts -> tokens by the workflow's own tokenizer -> calibration rows for one encoder."""

from dataclasses import dataclass

import comfy.model_management as mm
import torch

from ....skrr_engine.errors import SkrrError
from ....skrr_engine.measure.calibration import Calibration, Row, check_tokens, make_calibration
from ..clip.conditioning import select
from ..clip.trees import TextEncoder, text_encoders, tree_family
from ..encoders import llama

__all__ = ["TokenizedPrompts", "calibration_for", "tokenize"]


@dataclass(frozen=True)
class TokenizedPrompts:
    """SKRR_CALIBRATION: prompts as the CLIP's tokenizer cut them. `tokens[n]` and `null` map a tokenizer key to
    rows of token ids (CLIP makes several rows of a long prompt). Emphasis such as (word:1.2) is left out: it
    scales the encoder's output and does not enter the encoder."""

    prompts: tuple[str, ...]
    tokens: tuple[dict[str, tuple[tuple[int, ...], ...]], ...]
    null: dict[str, tuple[tuple[int, ...], ...]]
    tokenizer: str


def tokenize(clip, prompts) -> TokenizedPrompts:
    """Tokenises through `clip.tokenize`, so that padding, minimum lengths and templates are the workflow's own.
    Raises SkrrError for a prompt that is too long for a search."""
    tokens = tuple(_ids(clip.tokenize(text), f"Calibration prompt {n}") for n, text in enumerate(prompts, 1))
    check_tokens(max(sum(map(len, rows)) for rows in found.values()) for found in tokens)
    return TokenizedPrompts(tuple(prompts), tokens, _ids(clip.tokenize(""), "The null prompt"), _name(clip))


def _name(clip) -> str:
    return type(clip.tokenizer).__name__


def _ids(tokenized, what: str) -> dict:
    found = {}
    for key, rows in tokenized.items():
        ids = tuple(tuple(item[0] for item in row) for row in rows)
        if not all(isinstance(token, int) for row in ids for token in row):
            raise SkrrError(f"{what} uses a textual-inversion embedding; calibration prompts must be plain text.")
        found[key] = ids
    return found


def calibration_for(encoder: TextEncoder, tokenized: TokenizedPrompts) -> Calibration:
    """The rows that `encoder` sees, the positions weighed that the denoiser reads."""
    clip = encoder.clip
    if tokenized.tokenizer != _name(clip):
        raise SkrrError(
            f"The calibration was made with another kind of CLIP ({tokenized.tokenizer}, here {_name(clip)}). "
            "Connect the same CLIP to Skrr Calibrate and Skrr Search."
        )
    key = encoder.slot.removeprefix("clip_") if encoder.slot not in tokenized.null else encoder.slot
    if key not in tokenized.null:
        raise SkrrError(
            f"The CLIP's tokenizer makes {', '.join(tokenized.null)}; nothing of it is for the encoder {encoder.slot}."
        )
    companion = _companion(encoder)
    rows = []
    for number, tokens in enumerate(tokenized.tokens):
        rows += _rows(encoder, number, tokens, key, companion)
    null = _rows(encoder, 0, tokenized.null, key, companion)
    return make_calibration(tokenized.prompts, rows, null)


def _rows(encoder: TextEncoder, prompt: int, tokens: dict, key: str, companion) -> list[Row]:
    companions = companion(tokens)
    if encoder.adapter is llama:
        reads = _reads_of_language_model(encoder, tokens, tokens[key])
    else:
        reads = [_reads(encoder.sd_model, row) for row in tokens[key]]
    total = sum(map(sum, reads))
    return [
        Row(
            tokens=row,
            prompt=prompt,
            weights={
                "sequence": tuple(read / total for read in reads[number]),
                # The pooled output of a prompt is that of its first row.
                "pooled": (1.0 if number == 0 else 0.0,),
            },
            companions=companions,
        )
        for number, row in enumerate(tokens[key])
    ]


def _reads(sd_model, row) -> list[int]:
    """1 for each position that reaches the denoiser. Padding does, unless the model masks it away."""
    if not (sd_model.return_attention_masks or sd_model.zero_out_masked):
        return [1] * len(row)
    end = sd_model.special_tokens.get("end", sd_model.special_tokens.get("pad"))
    last = row.index(end) if end in row else len(row) - 1
    return [1 if position <= last else 0 for position in range(len(row))]


def _reads_of_language_model(encoder: TextEncoder, tokens: dict, rows) -> list[list[int]]:
    """The same, by what the CLIP's own encode hands on; by the encoder's mask where it is no selection."""
    selection = select(encoder.clip, encoder.slot, tokens) if len(rows) == 1 else None
    if selection is not None:
        kept = set(selection.positions)
        return [[int(position in kept) for position in range(len(rows[0]))]]
    table = encoder.transformer.get_input_embeddings().weight
    masks = [encoder.sd_model.process_tokens([list(row)], table.device)[1][0].tolist() for row in rows]
    return masks if any(map(any, masks)) else [[1] * len(row) for row in rows]


def _companion(encoder: TextEncoder):
    """tokens -> constant tensors beside this encoder's outputs. SD3's pooled vector joins CLIP-L and CLIP-G
    before a layer that is not linear, so pruning one needs the dense other; a missing one is zeros."""
    others = {"clip_l": ("clip_g", "g", 1280), "clip_g": ("clip_l", "l", 768)}
    tree = encoder.clip.patcher.model
    if tree_family(tree) != "sd3" or encoder.slot not in others:
        return lambda tokens: {}
    slot, key, width = others[encoder.slot]
    other = text_encoders(encoder.clip).get(slot)
    return lambda tokens: {"pooled": _pooled(encoder.clip, other, tokens[key], width)}


def _pooled(clip, other: TextEncoder | None, rows, width: int):
    if other is None:
        return torch.zeros(width)
    mm.load_models_gpu([clip.patcher])
    clip.patcher.model.reset_clip_options()
    clip.patcher.model.set_clip_options({"execution_device": clip.patcher.load_device})
    _, pooled = other.sd_model.encode_token_weights([[(token, 1.0) for token in row] for row in rows])[:2]
    return pooled[0].float().cpu()
