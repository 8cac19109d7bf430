"""`python -m skrr_engine demo`: the paper's whole way on the small trained pipeline, with pictures and scores."""

import copy
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from ..baselines.rebuilt import measure_rebuilt
from ..corrections.found import Corrections
from ..corrections.side_file import keep_beside, side_file_for
from ..corrections.sites import KINDS
from ..disk import make_folder, write_atomically
from ..errors import SkrrError
from ..files.files import write_pruned
from ..jobs.correcting import USUAL, correct_level
from ..jobs.search import Settings, find_plan
from ..measure.execute import Assignment, assign, encode
from ..measure.objective import Objective
from ..opening.open_encoder import open_encoder
from ..opening.tokenizing import calibrate
from ..plans.plan import Level, Plan
from ..plans.plan_json import dumps
from ..plans.tables import plan_table
from ..progress import Bar
from .layout import ENCODER, WEIGHTS
from .pipeline import Pipeline
from .report import Drawn, report
from .world.grid import save_grid
from .world.scoring import calibration_captions, evaluation_cases, right

__all__ = ["demo"]

SEED, PROMPTS, PER_TASK, ROWS_PER_TASK = 0, 64, 16, 1
SPARSITIES = (0.25, 0.33, 0.42)
# Captions that corrections are fitted on, and those that choose. More would be better, and the demo slower.
FIT, SELECTION = 600, 64


def demo(folder: str | Path, weights: Path = WEIGHTS) -> None:
    """Searches, applies, corrects, draws and scores; prints what happens and writes plans, side file, pruned encoder,
    picture grid and report into `folder`. A few minutes on two cores, no downloads. `weights` is the folder of the
    pipeline.

    Raises SkrrError when the pruned file does not compute what its plan says."""
    folder = make_folder(Path(folder))
    plan_file, pruned_file = folder / "demo-plan.json", folder / "demo-encoder-skrr.safetensors"
    pipeline = Pipeline(weights)
    stack = pipeline.encoder.stack
    print(f"1. The small pipeline: {stack.architecture.describe()}, trained, and its denoiser.")
    print(f"2. Calibration on {PROMPTS} captions; {PROMPTS} others are held out.")
    captions = calibration_captions(2 * PROMPTS, SEED)
    objective, held_out = (_objective(pipeline, part) for part in (captions[::2], captions[1::2]))

    print(f"3. Search to {100 * SPARSITIES[-1]:.0f} %, with re-use.")
    with Bar() as bar:
        objective.report = bar
        plan = find_plan(objective, Settings(pipeline.encoder.slot, SPARSITIES[-1], name="demo"))
    write_atomically(plan_file, dumps(plan).encode())
    print(plan_table(plan))

    levels = [plan.level_for(sparsity) for sparsity in SPARSITIES]
    write_pruned(weights / ENCODER, pruned_file, plan.with_levels([levels[-1]]), overwrite=True)
    _check(pipeline, pruned_file, held_out, _assignment(pipeline, levels[-1]))
    print("4. Applied to a file; opened again, it gives the same outputs as the plan, bit for bit.")

    print(f"5. Corrections for that level, fitted on {FIT} captions and chosen on {SELECTION}; nothing is trained.")
    fixed, one = _corrected(pipeline, plan, levels[-1], set(captions), folder)

    cases = evaluation_cases(PER_TASK, SEED)
    encoders = [(None, None), *((level, None) for level in levels), *([(fixed, one)] if one else [])]
    print(f"6. {len(cases)} captions that the search never saw, each drawn by {len(encoders)} encoders.")
    drawn, pictures = [], []
    with tqdm(total=len(cases) * len(encoders), desc="pictures") as bar:
        for level, corrections in encoders:
            runs, assignment = copy.copy(pipeline), None if level is None else _assignment(pipeline, level)
            if corrections is not None:
                applied = corrections.applied(stack)
                runs.encoder, assignment = replace(pipeline.encoder, stack=applied.stack), applied.assignment
            made = runs.pictures(
                [c.caption for c in cases], [c.seed for c in cases], assignment,
                report=lambda done, before=bar.n: bar.update(before + done - bar.n),
            )  # fmt: skip
            pictures.append(made)
            value = measure_rebuilt(held_out, runs.encoder.stack, assignment)
            drawn.append(Drawn(level, value, right(cases, made), corrections))
    shown = [n for n in range(len(cases)) if n % PER_TASK < ROWS_PER_TASK]
    titles = ["dense", *(f"{100 * level.sparsity:.0f} % removed" for level in levels), *(["corrected"] if one else [])]
    grid = torch.stack([made[shown] for made in pictures])
    verdicts = torch.stack([part.right[shown] for part in drawn])
    save_grid(folder / "demo-pictures.png", titles, [cases[n].caption for n in shown], grid, verdicts)
    text = report(cases, drawn, stack)
    write_atomically(folder / "demo-report.md", text.encode())
    print(text)
    more = ", demo-corrected.json and its side file" if one else ""
    print(f"Written into {folder}: {plan_file.name}, {pruned_file.name}, demo-pictures.png, demo-report.md{more}")


def _corrected(
    pipeline: Pipeline, plan: Plan, level: Level, seen: set[str], folder: Path
) -> tuple[Level, Corrections | None]:
    """`level` corrected and its corrections, their plan and side file in `folder`; None where none helps."""
    slot, encoder = pipeline.encoder.slot, pipeline.encoder
    texts = [text for text in calibration_captions(FIT + SELECTION + len(seen), "corrections") if text not in seen]
    fit, selection = (
        _objective(pipeline, some) for some in (texts[SELECTION : FIT + SELECTION], texts[:SELECTION])
    )
    kinds = {kind: replace(KINDS[kind], stored=encoder.stored) for kind in USUAL}
    unnamed = folder / ".fitted.safetensors"
    with Bar() as bar:
        fit.report = bar
        made = correct_level(plan, level, slot, fit, selection, unnamed, USUAL, kinds)
    if made.kind is None:
        print("   None lowers the discrepancy on captions that it has not seen: the plan stays plain.")
        return level, None
    (corrected,) = made.plan.levels
    side = keep_beside(unnamed, folder, "demo-corrected", corrected.corrections)
    write_atomically(folder / "demo-corrected.json", dumps(made.plan).encode())
    return corrected, side_file_for(side, corrected)[slot]


def _objective(pipeline: Pipeline, captions) -> Objective:
    calibration = calibrate(captions, pipeline.tokenizer, pipeline.encoder.stack.architecture)
    return Objective(pipeline.encoder.stack, calibration, pipeline.projection)


def _assignment(pipeline: Pipeline, level: Level) -> Assignment:
    cut = level.cuts[pipeline.encoder.slot]
    return assign(len(pipeline.encoder.stack.subblocks), cut.skip, cut.reuse_map)


def _check(pipeline: Pipeline, path: Path, objective: Objective, planned: Assignment) -> None:
    pruned = open_encoder(path)
    for batch in objective.batches:
        wanted = encode(pipeline.encoder.stack, planned, batch)["sequence"]
        if not torch.equal(wanted, encode(pruned.stack, pruned.assignment, batch)["sequence"]):
            raise SkrrError("The pruned file and its plan disagree: this is a bug in the pack, please report it.")
