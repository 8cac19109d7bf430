"""What has been measured, cell by cell, in one JSON file that is whole at any moment: one line a cell."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from skrr_engine.digest import digest_json
from skrr_engine.disk import write_atomically
from skrr_engine.errors import SkrrError

__all__ = ["Cells"]

FORMAT, VERSION = "skrr-tables", 1


class Cells:
    """Cells by name. Each carries a fingerprint of all that it depends on and is measured anew when that changed;
    all of them go when the weights are other ones.

    `facts` says where and how was measured; `planned` names the cells of a whole run, so that gaps can be named.
    Several processes may fill one file, each with cells of its own: what another has written meanwhile is kept.
    """

    def __init__(self, path: str | Path, weights: str | None = None):
        """Reads `path` if it is there. `weights` is the digest of the weights at hand; None reads for printing."""
        self.path = Path(path)
        found = _read(self.path) if self.path.exists() else {}
        if weights is not None and found.get("weights") != weights:
            found = {"weights": weights}
        self.weights: str = found.get("weights", "")
        self.facts: dict = found.get("facts", {})
        self.planned: list[str] = found.get("planned", [])
        self.cells: dict[str, dict] = found.get("cells", {})
        self.own: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.cells

    def __getitem__(self, name: str) -> dict:
        """What was measured. KeyError where it was not."""
        return self.cells[name]["value"]

    @property
    def missing(self) -> list[str]:
        """Planned cells that are not measured."""
        return [name for name in self.planned if name not in self.cells]

    def fingerprint(self, content) -> str:
        """Of a cell of these weights that depends on `content`, any JSON value."""
        return digest_json([self.weights, content])[:32]

    def find(self, name: str, fingerprint: str) -> dict | None:
        """The value of cell `name` if it is fresh. A cell of another name with the same fingerprint serves too: two
        methods that found the same plan draw the same pictures."""
        for cell in (self.cells.get(name), *self.cells.values()):
            if cell is not None and cell["fingerprint"] == fingerprint:
                if self.cells.get(name) != cell:
                    self._keep(name, cell)
                return cell["value"]
        return None

    def value(self, name: str, content, measure: Callable[[], dict], say: Callable[[dict], str] = lambda _: "") -> dict:
        """What cell `name`, which depends on `content`, holds: taken if it is fresh, else measured, kept, and told with
        its seconds and what `say` makes of it."""
        fingerprint = self.fingerprint(content)
        found = self.find(name, fingerprint)
        if found is None:
            began = time.monotonic()
            found = measure()
            seconds = time.monotonic() - began
            self.put(name, fingerprint, seconds, found)
            print(f"{name}: {seconds:.1f} s {say(found)}".rstrip(), file=sys.stderr, flush=True)
        return found

    def put(self, name: str, fingerprint: str, seconds: float, value: dict) -> None:
        """Keeps a finding: on disk when this returns."""
        self._keep(name, {"fingerprint": fingerprint, "seconds": round(seconds, 2), "value": value})

    def only(self, names) -> None:
        """Drops all other cells: those of an earlier layout."""
        self.cells = {name: cell for name, cell in self.cells.items() if name in set(names)}
        self.write()

    def _keep(self, name: str, cell: dict) -> None:
        self.cells[name] = cell
        self.own.add(name)
        self.write()

    def write(self) -> None:
        """The file as it stands, in the planned order."""
        self._take_others()
        head = {"format": FORMAT, "version": VERSION, "weights": self.weights, "facts": self.facts}
        lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
        lines.append(f' "planned": {json.dumps(self.planned)}')
        place = {name: number for number, name in enumerate(self.planned)}
        self.cells = dict(sorted(self.cells.items(), key=lambda item: place.get(item[0], len(place))))
        cells = [f"  {json.dumps(name)}: {json.dumps(cell)}" for name, cell in self.cells.items()]
        lines.append(' "cells": {\n' + ",\n".join(cells) + "\n }")
        write_atomically(self.path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())

    def _take_others(self) -> None:
        """Cells that another process has put into the file; of two it is this one's own that stays."""
        if self.path.exists():
            found = _read(self.path)
            if found["weights"] == self.weights:
                new = {n: cell for n, cell in found["cells"].items() if n in self.planned and n not in self.own}
                self.cells |= new


def _read(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = (found["format"], found["version"]) == (FORMAT, VERSION)
    except (ValueError, LookupError, TypeError):
        whole = False
    if not whole:
        raise SkrrError(f"{path.name} holds no tables of this version. Delete it to measure anew.")
    return found
