"""One search under way: measures assignments row by row, records every result and reports progress."""

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

# Prompts that the speed of an encoder is measured on.
FEW = 8


class Run:
    """What choices (`search.exact`, `search.racing`) work with. `phase`, `level`, `beams` and the like are set by
    `jobs` and only reported."""

    def __init__(self, objective: Objective, state: Checkpoint | None = None, seed: int = 0, fast: bool = False):
        """With `fast`, all but finalists are measured in the device's narrow products."""
        self.objective = objective
        self.narrow = fast and objective.narrow is not None
        self.state = Checkpoint(None, "") if state is None else state
        self.calibration = objective.calibration
        self.shares = _row_shares(self.calibration)
        self.seed = seed
        # All rows in the seeded order, and those of them that are in play.
        self.all_rows = self.order = torch.randperm(self.rows, generator=torch.Generator().manual_seed(seed)).tolist()
        self.tokens = {row: batch.length for batch in self.calibration.batches for row in batch.row_ids}
        self.null_rows = sum(portion.rows for portion in objective.null)
        self.began, self.work_before = time.monotonic(), objective.applications
        self.row_errors: torch.Tensor | None = None  # (rows,) squared errors that predict which rows are hard
        self.phase, self.level, self.levels = "skip", 0, 0
        self.beams: tuple[Beam, ...] = ()
        self.best: float | None = None
        self.bytes_saved = 0
        self.at_first = self.seen = 0
        self.time_left = lambda: None
        self.deadline: float | None = None
        self._noticed: set[str] = set()

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
        """How many prompts the rows in play make up."""
        if len(self.order) == self.rows:
            return len(self.calibration.prompts)
        return self.shares[self.order].sum().item()

    def limit(self, rows: int) -> None:
        """From now on the first `rows` rows of the seeded order are in play, whole prompts or not."""
        self.order = self.all_rows[: max(1, rows)]

    def warm_up(self) -> None:
        """Runs a few prompts through the dense encoder, if nothing has run yet, to measure its speed."""
        if not self.work:
            self.objective.prepare()
            self.began = time.monotonic()
            for portion in portions_of(self.calibration, self.all_rows[:FEW]):
                self.objective.dense(portion)

    def shuffled(self, trials: Sequence[Trial]) -> list[int]:
        """The rows in play, in another order for each choice: the first prompts decide much, and should not be the same
        ones on every level. Deterministic in the seed and `trials`."""
        drawn = digest_json([self.seed, [as_json(trial.assignment) for trial in trials]])
        generator = torch.Generator().manual_seed(int(drawn[:15], 16))
        return [self.order[n] for n in torch.randperm(len(self.order), generator=generator)]

    def begin(self, trials: Sequence[Trial]) -> None:
        """A choice among `trials` begins."""
        self.at_first, self.seen = len(trials), 0

    def measure_null(self, trials: Sequence[Trial]) -> None:
        """Measures the null prompt, for those of `trials` that have not seen it."""
        for final in (False, True):
            some = [trial for trial in trials if not trial.null_seen and trial.final == final]
            self._fill(some, self.objective.null, None, self.narrow and not final)

    def measure(self, trials: Sequence[Trial], rows: Sequence[int], alive: int | None = None) -> None:
        """Measures `rows` of the prompts, for each of `trials` those that it has not seen. `alive` is the number of
        candidates to report, if not that of `trials`."""
        index = torch.as_tensor(rows, dtype=torch.long)
        missing: dict[tuple, list[Trial]] = {}
        for trial in trials:
            unseen = tuple(index[~trial.seen[index]].tolist())
            missing.setdefault((unseen, self.narrow and not trial.final), []).append(trial)
        for (unseen, narrow), some in missing.items():
            if unseen:
                self._fill(some, portions_of(self.calibration, unseen), unseen, narrow)
        self.seen = max(self.seen, len(rows))
        self.report_progress(len(trials) if alive is None else alive)

    def finalists(self, trials: Sequence[Trial]) -> list[Trial]:
        """`trials` for a last comparison in float32: new ones, which have seen the null prompt only, for those that
        were measured in narrow products."""
        if not self.narrow:
            return list(trials)
        finalists = []
        for trial in trials:
            finalists.append(trial if trial.final else Trial(self.objective, trial.assignment))
            finalists[-1].final = True
        self.measure_null(finalists)
        return finalists

    def give_up(self, trial: Trial) -> None:
        """`trial` is out: what it has not seen is reported as done."""
        unseen = len(self.order) - int(trial.seen.sum()) + (0 if trial.null_seen else self.null_rows)
        if unseen:
            self.objective.report(Step(unseen / (len(self.order) + self.null_rows)))

    def complete(self, trial: Trial) -> bool:
        """Whether `trial` has seen all rows in play and the null prompt."""
        return trial.null_seen and int(trial.seen.sum()) == len(self.order)

    def bound(self, trial: Trial) -> float:
        """A lower bound of `D` over the rows in play."""
        return trial.squared[trial.seen].sum().item() / self.prompts + self.objective.null_weight * trial.null

    def discrepancy(self, trial: Trial) -> Discrepancy:
        """`D` estimated from the rows that `trial` has seen; exact where it has seen all of them."""
        seen = int(trial.seen.sum())
        return trial.total(self.prompts if seen == len(self.order) else self.shares[trial.seen].sum().item())

    def value(self, trial: Trial, rows: Sequence[int]) -> float:
        """`D` estimated from `rows` and the null prompt."""
        index = torch.as_tensor(rows, dtype=torch.long)
        conditional = trial.squared[index].sum() / self.shares[index].sum()
        return conditional.item() + self.objective.null_weight * trial.null

    def standard_error(self, trial: Trial, rival: Trial, rows: Sequence[int]) -> float:
        """The standard error of the difference of their values on `rows`, from paired differences; infinite for a
        single row."""
        if len(rows) < 2:
            return torch.inf
        index = torch.as_tensor(rows, dtype=torch.long)
        difference = trial.squared[index] - rival.squared[index]
        return (difference.std() * len(rows) ** 0.5 / self.shares[index].sum()).item()

    def report_progress(self, candidates: int) -> None:
        """Reports a Progress event, with `candidates` left in the choice under way."""
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
        """Reports a sentence for the user, the same one only once."""
        if text not in self._noticed:
            self._noticed.add(text)
            self.objective.report(Notice(text))

    def _fill(
        self, trials: Sequence[Trial], portions: Sequence[Portion], rows: tuple[int, ...] | None, narrow: bool
    ) -> None:
        """Measures, or reads from disk what has been measured before."""
        if not trials or not portions:
            return
        assignments = [trial.assignment for trial in trials]
        key = digest_json(["null" if rows is None else rows, list(map(as_json, assignments)), narrow])[:32]
        with self.objective.narrowed() if narrow else nullcontext():
            found = self.state.once(key, lambda: self._sweep(assignments, portions))
        start = 0
        for portion in portions:
            values = found[:, :, start : start + portion.rows]
            start += portion.rows
            for trial, (squared, cosine, *norms) in zip(trials, values, strict=True):
                trial.note(portion, Terms(squared, cosine, tuple(norms) if portion.null else None))

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
