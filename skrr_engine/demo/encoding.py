"""Captions through a text stack, in batches of equal length: nothing is padded inside the encoder."""

from collections.abc import Sequence

import torch

from ..encoders.stack import TextStack, TokenBatch
from ..measure.execute import Assignment, encode
from ..opening.tokenizing import Tokenizer

__all__ = ["encode_texts"]


@torch.no_grad()
def encode_texts(
    stack: TextStack, tokenizer: Tokenizer, captions: Sequence[str], assignment: Assignment
) -> tuple[torch.Tensor, torch.Tensor]:
    """(captions, tokens, width) of `stack` in its dtype and (captions, tokens) bool, true where there is text."""
    rows = [[*tokenizer.encode(text), tokenizer.end] for text in captions]
    longest = max(map(len, rows))
    text = torch.zeros(len(rows), longest, stack.architecture.width)
    for length in sorted({len(row) for row in rows}):
        alike = [n for n, row in enumerate(rows) if len(row) == length]
        batch = TokenBatch(torch.tensor([rows[n] for n in alike]), tuple(range(len(alike))), length, {})
        text[alike, :length] = encode(stack, assignment, batch)["sequence"].float()
    there = torch.arange(longest)[None] < torch.tensor([len(row) for row in rows])[:, None]
    return text, there
