"""How much worse a plan gets with fewer calibration prompts, and so how many to use in a given time.

`REGRET` is the excess of the discrepancy on held-out prompts over the plan found on the most prompts, mean over levels
and calibration draws, as `python -m benchmarks.search_curve` prints it. The figures below are PROVISIONAL, assumed: the
command has not been run on the shipped encoder yet.
"""

__all__ = ["REGRET", "prompts_in_time", "regret"]

# prompts -> mean excess.
REGRET = {16: 0.10, 32: 0.05, 64: 0.025, 128: 0.012, 256: 0.006, 512: 0.003}
# More prompts than bring the excess below this are not worth a person's time.
ENOUGH = 0.005


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
