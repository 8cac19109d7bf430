"""Skrr Report's words: what the figures say of quality, where that was measured, and what each does not say."""

from statistics import median

from ....skrr_engine.measure.quality import GRADES, Quality, quality_of, turned
from .comparing import Comparison, EncoderSizes
from .pictures import PicturePair
from .probing import Change

__all__ = ["FP8_LAYER", "HEADS", "percent", "report_text", "size_in_words", "time_in_words", "verdict"]

# Root mean square by which rounding its weights to scaled fp8 (e4m3) moves a linear layer's output; a format that
# people use without a second thought. tests/comfy/test_report.py measures it.
FP8_LAYER = 0.0266
# Moved by as much as the features are large, or as far as the empty prompt is away: no nearer than having nothing.
ALL = 1.0
HEADS = (*GRADES, "large change")
SHOWN = 200


def verdict(comparison: Comparison, pair: PicturePair | None = None) -> tuple[str, str]:
    """A word or two for the plot's head, one of HEADS, and the sentences. The encoder that changed most decides."""
    measured = [encoder for encoder in comparison.encoders if encoder.change]
    worst = max(measured, key=lambda encoder: (HEADS.index(_head(encoder.change)), _extent(encoder.change)))
    change, name = worst.change, worst.slot
    head = _head(change)
    if head == "unchanged":
        said = f"Unchanged: what the denoiser reads of {name} is the same, bit for bit."
    elif head == "large change":
        said = f"Large change: {_why_large(change, name)} Take a smaller level, or search."
    else:
        said = f"{head.capitalize()}, by the figures of {name}. {_quality(change).sentences}"
        if head != "about as good":
            said += " Compare pictures of several seeds."
    if pair is not None and pair.same:
        said += " The two pictures are the same to the last step of an 8-bit picture."
    return head, said


def _extent(change: Change) -> float:
    return max(change.relative, change.null_relative)


def _quality(change: Change) -> Quality:
    return quality_of(turned(change.discrepancy.cosine))


def _head(change: Change) -> str:
    if not _extent(change):
        return "unchanged"
    if max(_extent(change), change.to_empty or 0.0) >= ALL:
        return "large change"
    # Features that only grow do not turn, but they are not the same.
    grade = _quality(change).grade
    return "about as good" if grade == "unchanged" else grade


def _why_large(change: Change, name: str) -> str:
    if change.relative >= ALL:
        return f"the prompt's features behind {name} moved by {percent(change.relative)} of their own size."
    if change.null_relative >= ALL:
        return (
            f"the empty prompt's features behind {name} moved by {percent(change.null_relative)} of their own size, "
            "which guidance multiplies."
        )
    return f"the prompt's features behind {name} moved {percent(change.to_empty)} of the way to the empty prompt's."


def report_text(comparison: Comparison, pair: PicturePair | None, about_pictures: str) -> str:
    """The lines of the report; the first is the verdict. `about_pictures` says why `pair` is None."""
    said = verdict(comparison, pair)[1]
    lines = [f"Verdict: {said}", *comparison.notes, _prompt(comparison.prompt)]
    lines += [_size_line(encoder) for encoder in comparison.encoders]
    before, after = comparison.clip_bytes
    lines.append(f"Whole CLIP: {_exact(before)} dense, {_exact(after)} pruned; {size_in_words(before - after)} saved.")
    lines.append(_time_line(comparison))
    for encoder in comparison.encoders:
        if encoder.change:
            lines += _change_lines(encoder)
    lines.append(about_pictures if pair is None else _picture_line(pair))
    return "\n".join(lines)


def _prompt(prompt: str) -> str:
    text = " ".join(prompt.split())
    if not text:
        return "The prompt is empty, so both passes are the empty prompt."
    return f"Prompt: {text[:SHOWN]}{' …' if len(text) > SHOWN else ''}"


def _size_line(encoder: EncoderSizes) -> str:
    before, after = encoder.bytes
    sizes = f"{_exact(before)} dense, {_exact(after)} pruned"
    if encoder.parameters is None:
        return f"{encoder.slot}: {sizes}."
    skipped = encoder.skipped[1]
    cut = f"{skipped} of {encoder.sub_blocks} sub-blocks skipped" if skipped else "whole"
    a, b = (f"{count:,}" for count in encoder.parameters)
    return f"{encoder.slot}: {cut}; parameters {a} dense, {b} pruned; {sizes}."


def _time_line(comparison: Comparison) -> str:
    runs = len(comparison.seconds[0])
    if not runs:
        return "Encode time: not taken (timed_runs is 0)."
    named = zip(("dense", "pruned"), comparison.seconds, strict=True)
    a, b = (f"{time_in_words(median(taken))} {name}{_range(taken)}" for name, taken in named)
    counted = f"the median of {runs} runs each" if runs > 1 else "one run each"
    line = (
        f"Encode time of this prompt on {comparison.device}: {a}, {b}: {counted}, after one that loaded the weights. "
        "Loading is not in it."
    )
    (least_a, most_a), (least_b, most_b) = ((min(s), max(s)) for s in comparison.seconds)
    if runs > 1 and least_a <= most_b and least_b <= most_a:
        line += " The two ranges overlap: this is no measurable difference."
    return line


def _range(taken: tuple[float, ...]) -> str:
    return f" ({time_in_words(min(taken))} to {time_in_words(max(taken))})" if len(taken) > 1 else ""


def _change_lines(encoder: EncoderSizes) -> list[str]:
    change, slot = encoder.change, encoder.slot
    found = change.discrepancy
    away = "" if change.to_empty is None else (
        f" That is {percent(change.to_empty)} of the way to the empty prompt's features."
    )  # fmt: skip
    return [
        f"{slot}: {change.behind}",
        f"{slot}: the prompt's features moved by {percent(change.relative)} of their size, the empty prompt's by "
        f"{percent(change.null_relative)}.{away}",
        f"{slot}: discrepancy {found.value:.4g} (prompt {found.conditional:.4g}, empty prompt {found.null:.4g}), "
        f"cosine {found.cosine:.4g} (1 - cos), empty prompt's norm x {found.null_norm:.3g}.",
    ]


def _picture_line(pair: PicturePair) -> str:
    if pair.same:
        return "Pictures: the same to the last step of an 8-bit picture."
    line = (
        f"Pictures: PSNR {pair.psnr:.1f} dB, mean difference {percent(pair.mean)}, largest {percent(pair.largest)} "
        f"of full scale. One flat colour would have {pair.flat_psnr:.1f} dB."
    )
    if pair.psnr <= pair.flat_psnr:
        return f"{line} So pixel by pixel they have nothing in common, which does not say that one is worse."
    return f"{line} This tells how alike they are, not which is better."


def _exact(size: int) -> str:
    return f"{size_in_words(size)} ({size:,} bytes)"


def percent(share: float) -> str:
    """A share in percent with two digits that count, from 10 % up without decimals."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"


def size_in_words(size: int) -> str:
    """Bytes with three digits that count, in the unit (of thousands) that suits them."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(size) >= unit:
            return f"{size / unit:.3g} {name}" if abs(size) < 999.5 * unit else f"{size / unit:,.0f} {name}"
    return f"{size:.0f} bytes"


def time_in_words(seconds: float) -> str:
    """Seconds, or milliseconds below one, with three digits that count."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
