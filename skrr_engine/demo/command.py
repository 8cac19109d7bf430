"""`python -m skrr_engine demo`: the paper's whole way on the small trained pipeline, with pictures and scores."""

from pathlib import Path

import torch
from tqdm import tqdm

from ..disk import make_folder, write_atomically
from ..errors import SkrrError
from ..files.files import write_pruned
from ..jobs.search import Settings, find_plan
from ..measure.execute import Assignment, assign, encode
from ..measure.objective import Objective
from ..opening.open_encoder import open_encoder
from ..opening.tokenizing import calibrate
from ..plans.plan import Level
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


def demo(folder: str | Path, weights: Path = WEIGHTS) -> None:
    """Searches, applies, draws and scores; prints what happens and writes plan, pruned encoder, picture grid and
    report into `folder`. Under three minutes on two cores, no downloads. `weights` is the folder of the pipeline.

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

    cases = evaluation_cases(PER_TASK, SEED)
    print(f"5. {len(cases)} captions that the search never saw, each drawn by {1 + len(levels)} encoders.")
    drawn, pictures = [], []
    with tqdm(total=len(cases) * (1 + len(levels)), desc="pictures") as bar:
        for level in (None, *levels):
            assignment = None if level is None else _assignment(pipeline, level)
            made = pipeline.pictures(
                [c.caption for c in cases], [c.seed for c in cases], assignment,
                report=lambda done, before=bar.n: bar.update(before + done - bar.n),
            )  # fmt: skip
            pictures.append(made)
            dense = tuple(range(len(stack.subblocks)))
            drawn.append(Drawn(level, held_out.measure(assignment or dense), right(cases, made)))
    shown = [n for n in range(len(cases)) if n % PER_TASK < ROWS_PER_TASK]
    titles = ["dense", *(f"{100 * level.sparsity:.0f} % removed" for level in levels)]
    grid = torch.stack([made[shown] for made in pictures])
    verdicts = torch.stack([part.right[shown] for part in drawn])
    save_grid(folder / "demo-pictures.png", titles, [cases[n].caption for n in shown], grid, verdicts)
    text = report(cases, drawn, stack)
    write_atomically(folder / "demo-report.md", text.encode())
    print(text)
    print(f"Written into {folder}: {plan_file.name}, {pruned_file.name}, demo-pictures.png, demo-report.md")


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
