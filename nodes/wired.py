"""What came through a link must be there: a loader may have nothing to give, and ComfyUI hands that on as None."""

from ..skrr_engine.errors import SkrrError
from ..skrr_engine.plans.plan import Plan

__all__ = ["UNWIRED", "check_clip", "check_plan"]


# What an input without a link has: a link may bring None, and that is another thing.
UNWIRED = object()


def check_clip(clip, node: str) -> None:
    """Raises SkrrError when what is connected to `node` is no CLIP."""
    if clip is None:
        raise SkrrError(
            f"{node} was handed no CLIP: the loader in front of it has none to give, as with a checkpoint without a "
            "text encoder. Load the text encoder with a CLIP loader and connect that."
        )
    if not hasattr(clip, "patcher"):
        raise SkrrError(f"{node} was handed a {type(clip).__name__} instead of a CLIP. Connect a CLIP loader.")


def check_plan(plan, node: str) -> None:
    """Raises SkrrError when what is connected to `node` is no plan."""
    if not isinstance(plan, Plan):
        what = "nothing" if plan is None else f"a {type(plan).__name__}"
        raise SkrrError(f"{node} was handed {what} instead of a plan. Connect Skrr Load Plan or Skrr Search.")
