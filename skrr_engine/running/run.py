"""One search under way: measures assignments row by row, writes every finding down, and tells how far it is."""

import time
from collections.abc import Sequence
from contextlib import nullcontext

import torch

from ..digest import digest_json
from ..events import Beam, Notice, Progress, Step
from ..measure.discrepancy import Discrepancy
from ..measure.execute import as_json
from ..measure.objective import Objective, Terms
from ..measure.portions import Portion, portions_of
from ..measure.sweep import sweep
from .checkpoint import Checkpoint
from .deadline import TimeUp, until
from .trial import Trial

__all__ = ["Run"]

# Prompts that tell how fast an encoder is.
FEW = 8


class Run:
    """What the choosers (`exact`, `racing`) work with. `level`, `levels`, `beams` and the like are set by `search` and
    only told on."""

    def __init__(self, objective: Objective, state: Checkpoint | None = None, seed: int = 0, fast: bool = False):
        """`fast` measures in the device's narrow products, all but finalists."""
        self.objective = objective
        self.narrow = fast and objective.narrow is not None
        self.state = Checkpoint(None, "") if state is None else state
        self.calibration = objective.calibration
        self.shares = _row_shares(self.calibration)
        self.seed = seed
        # The rows in play.
        self.every = self.order = torch.randperm(self.rows, generator=torch.Generator().manual_seed(seed)).tolist()
        self.tokens = {row: batch.length for batch in self.calibration.batches for row in batch.row_ids}
        self.null_rows = sum(portion.rows for portion in objective.null)
        self.began, self.work_before = time.monotonic(), objective.applications
        self.hard: torch.Tensor | None = None  # (rows,) squared errors that tell where those to come are large
        self.phase, self.level, self.levels = "skip", 0, 0
        self.beams: tuple[Beam, ...] = ()
        self.best: float | None = None
        self.bytes_saved = 0
        self.at_first = self.seen = 0
        self.time_left = lambda: None
        self.deadline: float | None = None
        self._told: set[str] = set()

    @property
    def rows(self) -> int:
        """Rows of all prompts."""
        return self.calibration.rows

    @property
    def work(self) -> int:
        """Sub-block x token applications of this run."""
        return self.objective.applications - self.work_before

    @property
    def seconds(self) -> float:
        """How long this run has lasted."""
        return time.monotonic() - self.began

    @property
    def prompts(self) -> float:
        """How many prompts the rows in play are."""
        if len(self.order) == self.rows:
            return len(self.calibration.prompts)
        return self.shares[self.order].sum().item()

    def limit(self, rows: int) -> None:
        """From now on the first `rows` rows of the seeded order are in play, whole prompts or not."""
        self.order = self.every[: max(1, rows)]

    def warm_up(self) -> None:
        """Runs a few prompts through the dense encoder, if nothing has run yet: then its speed is known."""
        if not self.work:
            self.objective.prepare()
            self.began = time.monotonic()
            for portion in portions_of(self.calibration, self.every[:FEW]):
                self.objective.dense(portion)

    def shuffled(self, tallies: Sequence[Trial]) -> list[int]:
        """The rows in play in an order of its own for each choice: what comes first decides much, and is not to be the
        same prompts on every level. The same for the same seed and `tallies`."""
        drawn = digest_json([self.seed, [as_json(tally.assignment) for tally in tallies]])
        generator = torch.Generator().manual_seed(int(drawn[:15], 16))
        return [self.order[n] for n in torch.randperm(len(self.order), generator=generator)]

    def begin(self, tallies: Sequence[Trial]) -> None:
        """A choice among `tallies` begins."""
        self.at_first, self.seen = len(tallies), 0

    def measure_null(self, tallies: Sequence[Trial]) -> None:
        """The null prompt, for those of `tallies` that have not seen it."""
        for final in (False, True):
            some = [tally for tally in tallies if not tally.null_seen and tally.final == final]
            self._fill(some, self.objective.null, None, self.narrow and not final)

    def measure(self, tallies: Sequence[Trial], rows: Sequence[int], alive: int | None = None) -> None:
        """`rows` of the prompts, for each of `tallies` those it has not seen. `alive` tells how many candidates there
        are in all, if not these."""
        index = torch.as_tensor(rows, dtype=torch.long)
        missing: dict[tuple, list[Trial]] = {}
        for tally in tallies:
            unseen = tuple(index[~tally.seen[index]].tolist())
            missing.setdefault((unseen, self.narrow and not tally.final), []).append(tally)
        for (unseen, narrow), some in missing.items():
            if unseen:
                self._fill(some, portions_of(self.calibration, unseen), unseen, narrow)
        self.seen = max(self.seen, len(rows))
        self.tell(len(tallies) if alive is None else alive)

    def finalists(self, tallies: Sequence[Trial]) -> list[Trial]:
        """`tallies` for a last comparison, in float32: where they were measured in less, new ones that have seen the
        null prompt only."""
        if not self.narrow:
            return list(tallies)
        found = []
        for tally in tallies:
            found.append(tally if tally.final else Trial(self.objective, tally.assignment))
            found[-1].final = True
        self.measure_null(found)
        return found

    def give_up(self, tally: Trial) -> None:
        """Nothing more will be measured of `tally`."""
        unseen = len(self.order) - int(tally.seen.sum()) + (0 if tally.null_seen else self.null_rows)
        if unseen:
            self.objective.report(Step(unseen / (len(self.order) + self.null_rows)))

    def whole(self, tally: Trial) -> bool:
        """Whether `tally` has seen all that is in play."""
        return tally.null_seen and int(tally.seen.sum()) == len(self.order)

    def bound(self, tally: Trial) -> float:
        """`D` over the rows in play cannot be below this."""
        return tally.squared[tally.seen].sum().item() / self.prompts + self.objective.null_weight * tally.null

    def found(self, tally: Trial) -> Discrepancy:
        """`D` as the rows that `tally` has seen tell it: exact where it has seen all that are in play."""
        seen = int(tally.seen.sum())
        return tally.total(self.prompts if seen == len(self.order) else self.shares[tally.seen].sum().item())

    def value(self, tally: Trial, rows: Sequence[int]) -> float:
        """`D` as `rows` and the null prompt tell it."""
        index = torch.as_tensor(rows, dtype=torch.long)
        conditional = tally.squared[index].sum() / self.shares[index].sum()
        return conditional.item() + self.objective.null_weight * tally.null

    def scatter(self, tally: Trial, rival: Trial, rows: Sequence[int]) -> float:
        """The standard error of the difference of their values, over `rows`; infinite for a single row."""
        if len(rows) < 2:
            return torch.inf
        index = torch.as_tensor(rows, dtype=torch.long)
        difference = tally.squared[index] - rival.squared[index]
        return (difference.std() * len(rows) ** 0.5 / self.shares[index].sum()).item()

    def tell(self, candidates: int) -> None:
        """A Progress event."""
        self.objective.report(
            Progress(
                phase=self.phase,
                level=self.level,
                levels=self.levels,
                candidates=candidates,
                candidates_at_first=self.at_first,
                prompts=self.seen,
                prompts_in_all=len(self.order),
                beams=self.beams,
                best=self.best,
                bytes_saved=self.bytes_saved,
                work=self.work,
                seconds=self.seconds,
                seconds_left=self.time_left(),
            )
        )

    def notice(self, text: str) -> None:
        """A sentence for the user; the same one is told once."""
        if text not in self._told:
            self._told.add(text)
            self.objective.report(Notice(text))

    def _fill(
        self, tallies: Sequence[Trial], portions: Sequence[Portion], rows: tuple[int, ...] | None, narrow: bool
    ) -> None:
        """Measures, or reads from disk what has been measured before."""
        if not tallies or not portions:
            return
        assignments = [tally.assignment for tally in tallies]
        key = digest_json(["null" if rows is None else rows, list(map(as_json, assignments)), narrow])[:32]
        with self.objective.narrowed() if narrow else nullcontext():
            found = self.state.once(key, lambda: self._sweep(assignments, portions))
        start = 0
        for portion in portions:
            values = found[:, :, start : start + portion.rows]
            start += portion.rows
            for tally, (squared, cosine, *norms) in zip(tallies, values, strict=True):
                tally.note(portion, Terms(squared, cosine, tuple(norms) if portion.null else None))

    def _sweep(self, assignments: list, portions: Sequence[Portion]) -> torch.Tensor:
        """(assignments, 2 or 4, rows): squared and cosine terms, for the null prompt its norms too. Raises TimeUp when
        the time of processes that search together is over for one of them."""
        kinds = 4 if portions[0].null else 2
        at = {row: n for n, row in enumerate(row for portion in portions for row in portion.batch.row_ids)}
        found = torch.zeros((len(assignments), kinds, len(at)), dtype=torch.float64)
        objective, ranks, late = self.objective, self.objective.ranks, False
        numbers, parts = (range(len(assignments)), portions) if ranks is None else ranks.share(assignments, portions)
        share = (1 if ranks is None else ranks.size) / (len(self.order) + self.null_rows)

        def sink(number: int, portion: Portion, terms: Terms) -> None:
            columns = [at[row] for row in portion.batch.row_ids]
            for kind, values in enumerate((terms.squared, terms.cosine, *(terms.norms or ()))):
                found[numbers[number], kind, columns] = values
            objective.report(Step(portion.rows * share))

        if ranks is None:
            sweep(objective, assignments, parts, sink)
            return found
        report = objective.report
        if self.deadline is not None:
            objective.report = until(self.deadline, report)
        try:
            with ranks.measure():
                sweep(objective, [assignments[number] for number in numbers], parts, sink)
        except TimeUp:
            late = True
        finally:
            objective.report = report
        found, late = ranks.together(found, late)
        if late:
            raise TimeUp
        return found


def _row_shares(calibration) -> torch.Tensor:
    """How much of a prompt each row is, (rows,) float64: 1 where prompts are single rows."""
    shares = torch.zeros(calibration.rows, dtype=torch.float64)
    for batch in calibration.batches:
        parts = [weights.sum(dim=1) for weights in batch.weights.values()]
        shares[list(batch.row_ids)] = torch.stack(parts).mean(dim=0)
    return shares
