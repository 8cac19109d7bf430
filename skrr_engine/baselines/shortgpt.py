"""ShortGPT (arXiv 2403.03853): drop the blocks that turn the stream least, all at once.

    BI_i = 1 - E[ cos(X_i,t , X_i+1,t) ]        X_i = the residual stream entering block i, t a token

One pass over the dense encoder ranks all blocks; the lowest go first, attention and feed-forward together, and
nothing is scored again. Where the authors' code and the paper differ, the paper is followed, since each difference
is an accident of the code: it counts padding as tokens, weighs batches by their size, and turns an undefined
cosine into 0.5. Here every position that the denoiser reads counts once (all positions where it reads none, as of
a pooled output alone), negative cosines stay negative, and a stream that is not finite is an error. The null
prompt is not scored.

The trap of T5: transformers hands out the *normed* stream as its last hidden state, so a script that compares
hidden states measures the last block together with the final norm, and ranks it far too important. Skrr's table A1
has block 23 next to last, which looks like it. `behind_final_norm=True` measures so.
"""

import math

import torch

from ..encoders.stack import TextStack, TokenBatch
from ..errors import SkrrError
from ..events import Phase, Report, Step, silent
from ..measure.calibration import Calibration
from ..measure.execute import advance
from ..precision import SUM, widen
from .ladder import Rung, check_sparsity, make_ladder

__all__ = ["block_influence", "shortgpt"]


def shortgpt(
    stack: TextStack,
    calibration: Calibration,
    sparsity: float | None = None,
    *,
    behind_final_norm: bool = False,
    report: Report = silent,
) -> tuple[Rung, ...]:
    """The ladder of whole blocks, lowest block influence first (ties: the lower block), up to the first rung that
    reaches `sparsity`; None gives all blocks. A step removes a block's attention, then its feed-forward."""
    if sparsity is not None:
        check_sparsity(stack.architecture, sparsity)
    scores = block_influence(stack, calibration, behind_final_norm=behind_final_norm, report=report)
    blocks = sorted(range(len(scores)), key=lambda block: (scores[block], block))
    return make_ladder(stack.architecture, ((2 * block, 2 * block + 1) for block in blocks), sparsity)


def block_influence(
    stack: TextStack, calibration: Calibration, *, behind_final_norm: bool = False, report: Report = silent
) -> tuple[float, ...]:
    """BI of every block, 0 (the stream keeps its direction) to 2. `behind_final_norm` measures the last block of
    a T5 behind the final norm, as transformers' hidden states do."""
    if behind_final_norm and stack.architecture.family != "t5":
        raise SkrrError(
            "Only T5's last hidden state is the normed one; for a CLIP leave behind_final_norm out: its hidden "
            "states are the plain stream."
        )
    blocks = stack.architecture.layers
    total, count = torch.zeros(blocks, dtype=SUM), 0
    report(Phase("ShortGPT", 1))
    stack.prepare()
    for batch in calibration.batches:
        read = _positions_read(batch)
        hidden, context = stack.embed(batch)
        for block in range(blocks):
            before = hidden
            for place in (2 * block, 2 * block + 1):
                hidden = advance(stack, place, hidden, context, report)
            after = hidden
            if behind_final_norm and block == blocks - 1:
                after = stack.finish({name: hidden for name in stack.taps}, context)["sequence"]
            cosine = torch.nn.functional.cosine_similarity(widen(before), widen(after), dim=2)
            total[block] += cosine.cpu().to(SUM)[read].sum()
        count += int(read.sum())
        report(Step(len(batch.row_ids) / calibration.rows))
    scores = tuple((1 - total / count).tolist())
    for block, score in enumerate(scores):
        if not math.isfinite(score):
            raise SkrrError(
                f"The stream behind block {block} is not finite on the calibration prompts. The weights are damaged, "
                "or their precision is too small; load the encoder in another format."
            )
    return scores


def _positions_read(batch: TokenBatch) -> torch.Tensor:
    """(rows, tokens) bool: the positions of "sequence" that have a share in the discrepancy, or all of them."""
    if "sequence" in batch.weights:
        return batch.weights["sequence"] > 0
    return torch.ones(len(batch.row_ids), batch.length, dtype=torch.bool)
