"""The measured cells as arrays, and what the tables say of them."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from skrr_engine.demo.world.world import TASKS

from ..tables.cells import Cells
from ..tables.statistics import Estimate, estimate, verdict

__all__ = ["Measured", "claim", "fact", "interval_text", "paper", "signed", "summary", "table"]

KINDS = ("reproduced", "not reproduced", "holds", "does not hold", "within noise")
UNPUBLISHED = {"reproduced": "holds", "not reproduced": "does not hold"}
PAPER = Path(__file__).parents[1] / "tables" / "paper.json"


def paper() -> dict:
    """The paper's figures, as printed."""
    return json.loads(PAPER.read_text(encoding="utf-8"))


class Measured:
    """The cells of one file. Names of cells as in `tables.layout`; several names are several plans of one method."""

    def __init__(self, cells: Cells):
        self.cells = cells

    def there(self, *names: str) -> bool:
        """Whether all these cells are measured, and hold something."""
        return all(name in self.cells and "absent" not in self.cells[name] for name in names)

    def present(self, names: Sequence[str]) -> list[str]:
        """Those that are."""
        return [name for name in names if self.there(name)]

    def draws(self, method: str, key: str) -> list[str]:
        """The cells of `method` near the sparsity `key`, one a draw of calibration captions."""
        return self.present([f"{method}/{key}/{seed}" for seed in range(self.cells.facts["sizes"]["seeds"])])

    def pairs(self, one: str, other: str, key: str) -> tuple[list[str], list[str]]:
        """The cells of two methods on the draws that both have."""
        pairs = [(f"{one}/{key}/{seed}", f"{other}/{key}/{seed}") for seed in range(self.cells.facts["sizes"]["seeds"])]
        both = [pair for pair in pairs if self.there(*pair)]
        return [a for a, _ in both], [b for _, b in both]

    def __getitem__(self, name: str) -> dict:
        return self.cells[name]

    def values(self, names: Sequence[str], what: str = "right", per_task: int | None = None) -> torch.Tensor:
        """(names, tasks, cases) float64: "right" 0 or 1, "ssim" from 0 to 1; the first cases that all have."""
        rows = [[_numbers(part) for part in self[name][what]] for name in names]
        size = min(len(part) for row in rows for part in row)
        size = size if per_task is None else min(size, per_task)
        found = torch.tensor([[part[:size] for part in row] for row in rows], dtype=torch.float64)
        return found / 1000 if what == "ssim" else found

    def mean(self, names: Sequence[str], what: str = "right", tasks: Sequence[int] = range(len(TASKS))) -> Estimate:
        """The mean over tasks, over the plans `names`."""
        return _estimate(self.values(names, what)[:, list(tasks)])

    def difference(
        self, ones: Sequence[str], others: Sequence[str], what: str = "right", tasks: Sequence[int] = range(len(TASKS))
    ) -> Estimate:
        """The paired difference, caption by caption at the same noise, plan by plan; one plan on a side is compared
        with all of the other side."""
        size = min(self.values(names, what).shape[2] for names in (ones, others))
        one, other = (self.values(names, what, size)[:, list(tasks)] for names in (ones, others))
        return _estimate(one - other)

    def tasks(self, names: Sequence[str]) -> list[float]:
        """The score of every task, mean over the plans."""
        return self.values(names).mean(dim=(0, 2)).tolist()

    def median(self, names: Sequence[str], objective: str, field: str) -> float:
        """The median over the plans of a field of the discrepancy on held-out prompts."""
        found = [self[name]["discrepancy"][objective][field] for name in names]
        return torch.tensor(found, dtype=torch.float64).quantile(0.5).item()

    def pictures(self, names: Sequence[str]) -> int:
        """How many pictures a plan."""
        return self.values(names)[0].numel()


def _numbers(part: str | list) -> list:
    return [int(one) for one in part]


def _estimate(values: torch.Tensor) -> Estimate:
    plans, tasks, cases = values.shape
    groups = [range(task * cases, (task + 1) * cases) for task in range(tasks)]
    return estimate(groups, values.reshape(plans, -1))


# --- text -----------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, all columns but the first to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def interval_text(found: Estimate, digits: int = 2) -> str:
    """0.81 (0.78 … 0.84)."""
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} … {found.high:.{digits}f})"


def signed(found: Estimate, digits: int = 3) -> str:
    """+0.121 (+0.083 … +0.160)."""
    return f"{found.value:+.{digits}f} ({found.low:+.{digits}f} … {found.high:+.{digits}f})"


def claim(what: str, found: Estimate, published: float | str | None = None, digits: int = 3) -> tuple[str, str]:
    """(verdict, a line of a list). `found` is oriented so that the claim says "above 0"; `published` is the paper's
    figure for the same difference. Where the paper has none, the claim "holds" or "does not hold"."""
    said = verdict(found)
    if published is None:
        said = UNPUBLISHED.get(said, said)
    figure = f"{published:+.{digits}f}" if isinstance(published, float) else published or "no figure"
    line = f"- *{said}*: {what}: {signed(found, digits)}; paper: {figure}"
    return said, f"{line}; the sample can show {found.smallest:.{digits}f}."


def fact(what: str, yes: bool, figure: str, published: str | None = None) -> tuple[str, str]:
    """A claim whose figure is counted, not sampled: (verdict, a line of a list)."""
    said = ("reproduced" if yes else "not reproduced") if published else ("holds" if yes else "does not hold")
    return said, f"- *{said}*: {what}: {figure}; paper: {published or 'no figure'}."


def summary(claims: Sequence[tuple[str, str]]) -> list[str]:
    """One sentence that counts the verdicts, then the claims."""
    if not claims:
        return ["Not measured yet."]
    counts = Counter(said for said, _ in claims)
    counted = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    return [f"**Of {len(claims)} claim{'s' * (len(claims) > 1)}: {counted}.**", "", *(line for _, line in claims)]
