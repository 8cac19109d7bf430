"""What `python -m benchmarks.corrections` has measured on the same weights: its plans, and its encoders, which are
those stored as fp16 here."""

from pathlib import Path

from benchmarks.corrections.cases import Case as Corrected
from benchmarks.corrections.command import FITTED, MEANING
from benchmarks.corrections.measuring import Bench
from benchmarks.front.cases import Case, drawn_elsewhere
from benchmarks.tables.cells import Cells

__all__ = ["DRAWN", "Known"]

TAKEN = ("extra bytes", "D", "null norm", "score", "tasks", "right")
DRAWN = ("score", "tasks", "right")


class Known:
    """The fresh cells of the file at `path`; nothing where it is missing or of other weights."""

    def __init__(self, path: Path, weights: str):
        found = Cells(path) if path.is_file() else None
        self.cells = found if found is not None and found.weights == weights else None

    def plan(self, draw: int, content) -> dict | None:
        """The plans of a draw's search, which depends on `content`."""
        return self._fresh(f"{draw}/plan", content)

    def measured(self, case: Case, order: list[int], bench: Bench) -> dict | None:
        """Of an encoder in fp16: extra bytes, D and, where it was drawn, its score."""
        if case.stored != "fp16":
            return None
        for pictured in (bench.pictured, *(() if case.pictures else (None,))):
            content = [order, case.way, bench.identity, pictured, *([] if case.way == "plain" else [FITTED])]
            if case.target is None:
                value = self._fresh("dense", ["dense", pictured])
            else:
                value = self._fresh(Corrected(case.draw, case.target, case.way).name, content)
            if value is not None:
                return {"extra bytes": 0} | {part: value[part] for part in TAKEN if part in value}
        return None

    def drawn(self) -> list[Case]:
        """The cases that were drawn there."""
        there = () if self.cells is None else self.cells
        names = {case: Corrected(case.draw, case.target, case.way).name for case in drawn_elsewhere()}
        return [case for case, name in names.items() if name in there and "right" in there[name]]

    def _fresh(self, name: str, content) -> dict | None:
        cell = None if self.cells is None else self.cells.cells.get(name)
        wanted = cell and self.cells.fingerprint([MEANING, content])
        return cell["value"] if cell and cell["fingerprint"] == wanted else None
