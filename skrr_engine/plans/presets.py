"""The published plans, ready to use: `skrr_engine/presets/*.json`.

There are presets for T5-XXL (T5 v1.1, 24 layers) only: the paper publishes none for umT5, CLIP or language
models, and a plan found on one encoder says nothing about another.
"""

from pathlib import Path

from ..disk import reading
from ..errors import SkrrError
from .plan import Plan
from .plan_json import loads

__all__ = ["load_preset", "preset_names"]

FOLDER = Path(__file__).parents[1] / "presets"


def preset_names() -> list[str]:
    """The presets' names, in alphabetical order."""
    with reading(FOLDER):
        return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_preset(name: str) -> Plan:
    """The preset called `name`."""
    if name not in preset_names():
        raise SkrrError(f"There is no preset {name!r}; there are {', '.join(preset_names())}.")
    path = FOLDER / f"{name}.json"
    with reading(path):
        text = path.read_text(encoding="utf-8")
    return loads(text)
