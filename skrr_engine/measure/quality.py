"""What a change of the features has cost in pictures, in words: for reports and pages.

The figure is how far the features turn: the root of twice the mean of 1 - cos between dense and changed features, which
is the way between the two as a share of their size where their lengths agree. Of all that D is made of it told best
what pictures lose, over encoders that were pruned by several methods, corrected, or stored in few bits. All numbers
here are what `python -m benchmarks.front` prints for the small pipeline that ships with the pack (docs/front.md; a test
holds the two together). Other pipelines may lose more or less.
"""

import math
from dataclasses import dataclass

__all__ = ["FORMATS", "GRADES", "PIPELINE", "Quality", "quality_of", "turned"]

# lost = FACTOR x turned ^ POWER, and half the band of 95 % = BAND x turned, over about a hundred encoders, none
# of which turned farther than FARTHEST.
FACTOR, POWER, BAND, FARTHEST = 0.55, 3.3, 0.18, 1.15
# How far storing that pipeline's dense encoder in a format turns its features.
FORMATS = {"Q8_0": 0.010, "fp8": 0.049, "Q5_0": 0.078, "Q4_0": 0.159, "3 bit": 0.268, "2 bit": 0.502}
# By what factor "about as far" may be off.
ALIKE = math.log(1.25)
PIPELINE = "the pack's small pipeline (a T5 of 24 layers that draws coloured shapes)"
# Worst last; the share of right pictures that a grade may lose by the curve.
GRADES = {"unchanged": 0.0, "about as good": 0.01, "hardly worse": 0.05, "worse": 0.15, "much worse": math.inf}


@dataclass(frozen=True)
class Quality:
    """What is expected of features that turned by `turned`: `grade` is one of GRADES, `lost` the share of right
    pictures that go wrong, between `low` and `high`; `like` the format that turns them about as far, None where none
    does."""

    turned: float
    grade: str
    lost: float
    low: float
    high: float
    like: str | None

    @property
    def sentences(self) -> str:
        """For a person: what it cost, within what, and where that was measured."""
        if not self.turned:
            return "The features are the same."
        found = f"The features turn by {_percent(self.turned)} % of their size"
        if self.turned > FARTHEST:
            return f"{found}, farther than those of any encoder that was measured on {PIPELINE}."
        low, lost, high = (f"{100 * share:.0f}" for share in (self.low, self.lost, self.high))
        found += (
            f". On {PIPELINE}, encoders whose features turned as far lost about {lost} of 100 right pictures ({low} to "
            f"{high}); another model may lose more or fewer."
        )
        return f"{found} Storing that encoder as {self.like} turns them about as far." if self.like else found


def turned(cosine: float) -> float:
    """How far features turn whose mean of 1 - cos is `cosine`: a plan's or a report's own figure."""
    return math.sqrt(2 * max(0.0, cosine))


def quality_of(far: float) -> Quality:
    """What features that turned by `far` (see `turned`) are expected to cost."""
    lost, band = min(1.0, FACTOR * far**POWER), BAND * far
    grade = next(name for name, most in GRADES.items() if lost <= most) if far else "unchanged"
    near = {name: abs(math.log(far / one)) for name, one in FORMATS.items()} if far else {}
    like = min(near, key=near.get, default=None)
    like = like if like is not None and near[like] <= ALIKE else None
    return Quality(far, grade, lost, max(0.0, lost - band), min(1.0, lost + band), like)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.2g}"
