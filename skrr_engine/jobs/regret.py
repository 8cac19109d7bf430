"""How much worse a plan gets with fewer calibration prompts, and so how many to use in a given time.

`REGRET` is the excess of the discrepancy on held-out prompts over the plan found on the most prompts, mean over levels
and calibration draws, as `python -m benchmarks.search_curve` printed it for the small encoder that ships with the pack
(docs/results/search_curve.json; a test holds the two together). Other encoders may need more or fewer.
"""

__all__ = ["REGRET", "prompts_in_time", "regret"]

# prompts -> mean excess.
REGRET = {16: 0.1432, 32: 0.0865, 64: 0.0725, 128: 0.04, 256: 0.02, 512: 0.0084}
# More prompts than bring the excess below this are not worth a person's time.
ENOUGH = 0.01


def regret(prompts: int) -> float:
    """The expected excess with that many prompts: of the next smaller number measured."""
    known = [size for size in REGRET if size <= prompts]
    return REGRET[max(known)] if known else max(REGRET.values())


def prompts_in_time(prompts: int, seconds: float, needed) -> int:
    """How many of `prompts` prompts to use when there are `seconds`: the most of the measured sizes for which
    `needed(size)` seconds are enough, none beyond what still helps; the smallest where none fits."""
    sizes = sorted({min(size, prompts) for size in REGRET} | {prompts})
    useful = next((size for size in sizes if regret(size) <= ENOUGH), sizes[-1])
    fitting = [size for size in sizes if size <= useful and needed(size) <= seconds]
    return max(fitting, default=sizes[0])
