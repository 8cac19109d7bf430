"""The command that searches: opens encoder, tokenizer and projection, runs the search, writes the plan."""

import functools
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from ..disk import exists, write_atomically
from ..errors import SkrrError
from ..events import silent
from ..files.files import open_plan
from ..jobs.search import Settings, find_plan, refine_plan
from ..measure import calibration
from ..measure.budget import feed
from ..measure.objective import Objective
from ..measure.projection import Projection, no_projection
from ..measure.ranks import Ranks, join
from ..opening.open_encoder import OpenEncoder, open_encoder
from ..opening.projection_files import open_projection
from ..opening.tokenizing import calibrate, open_tokenizer
from ..plans.plan import Plan
from ..plans.plan_json import dumps
from ..plans.tables import plan_table
from ..progress import Bar
from .cli_corrections import CORRECTED, Prompts, check, correct, find, keep, kinds, split

__all__ = ["search"]

NO_PROJECTION = (
    "No --projection: the discrepancy is taken on the encoder's own output, which finds worse plans than behind the "
    "denoiser's first layer (paper, Table A13)."
)
# The rest is lost between the blocks of PyTorch's allocator.
FREE_SHARE = 0.9


def search(args) -> None:
    """Searches and writes the plan; stopped, writes what was found beside it as NAME.partial.json. Started by torchrun,
    several processes search together, and the first one speaks and writes."""
    out = Path(args.out)
    if exists(out) and not args.overwrite:
        raise SkrrError(f"{out.name} exists already. Choose another name, or say --overwrite.")
    start = open_plan(args.refine) if args.refine else None
    ranks = join(args.device)
    args.mode = "exact" if args.mode == "paper" else args.mode
    if args.corrections or args.mode == CORRECTED:
        check(args, ranks is not None)
    if ranks is None:
        _search(args, out, start, None)
        return
    args.device = ranks.device
    _search(args, out, start, ranks)
    ranks.leave()


def _search(args, out: Path, start: Plan | None, ranks: Ranks | None) -> None:
    first = ranks is None or ranks.rank == 0
    encoder = open_encoder(
        args.encoder, slot=args.slot, heads=args.heads, clip_layer=args.clip_layer, device=args.device,
        fed=args.device.startswith("cuda"),
    )  # fmt: skip
    if encoder.plan is not None:
        raise SkrrError(f"{args.encoder} is pruned already. Search on the dense encoder it was made from.")
    objective_on, prompts, settings, record = _prepare(args, encoder, out)
    objective = objective_on(prompts.searched)
    objective.ranks = ranks
    if first and not args.projection:
        print(NO_PROJECTION, file=sys.stderr)
    with Bar() if first else nullcontext() as bar:
        objective.report = bar if first else silent
        heard = functools.partial(_heard, objective_on, bar)
        fits, made = kinds(encoder.stored), None
        if args.mode == CORRECTED:
            made = find(objective, heard, prompts, settings, args, record, fits)
            plan = made.plan
        elif start is None:
            partly = functools.partial(_keep_partial, out.with_name(f"{out.stem}.partial.json"), bar)
            partial = {"on_partial": partly} if first else {}
            plan = find_plan(objective, settings, args.checkpoint, record, **partial)
        else:
            plan = refine_plan(objective, start, settings, record)
        if args.corrections and made is None:
            made = correct(plan, heard, prompts, settings, args, fits)
            plan = plan if made.kind is None else made.plan
    told = None if ranks is None else ranks.summary(objective.applications)
    if not first:
        return
    corrected = None if made is None else keep(made, args)
    write_atomically(out, dumps(plan).encode())
    print(plan_table(plan))
    if told:
        print(told)
    if plan.levels[-1].corrections is not None:
        print(f"{corrected}\nWritten: {out}.")
        return
    if corrected:
        print(corrected)
    print(f"Written: {out}. Next: python -m skrr_engine apply --encoder FILE --plan {out} --sparsity S --out FILE")


def _heard(objective_on: Callable[..., Objective], bar: Bar, prompts: Sequence[str]) -> Objective:
    """An objective that reports to `bar`."""
    made = objective_on(prompts)
    made.report = bar
    return made


def _prepare(args, encoder: OpenEncoder, out: Path) -> tuple[Callable[..., Objective], Prompts, Settings, dict]:
    """What makes objectives on prompts, the prompts, the settings and the plan's records."""
    shape = encoder.stack.architecture
    tokenizer = open_tokenizer(args.tokenizer or args.encoder, shape.family)
    texts = calibration.read_prompts(args.prompts) if args.prompts else calibration.builtin_prompts()
    if args.corrections or args.mode == CORRECTED:
        prompts = split(calibration.clean_prompts(texts), args.limit)
    else:
        prompts = Prompts(calibration.clean_prompts(texts, args.limit), (), ())
    projection = _projection(args, shape)
    # Of the two targets, the one that was not given asks for nothing.
    sparsity = args.sparsity if args.sparsity is not None else (0.4 if args.saved_gb is None else 0.0)
    settings = Settings(
        slot=encoder.slot,
        sparsity=sparsity,
        bytes_saved=round((args.saved_gb or 0) * 1e9),
        beam=args.beam,
        reuse=args.reuse,
        name=out.stem[:200],
        mode="fast" if args.mode == CORRECTED else args.mode,
        minutes=args.minutes,
        seed=args.seed,
    )

    rooms: list[int] = []  # one feeder and one budget for all objectives: they run one after another

    def objective_on(some: Sequence[str]) -> Objective:
        rows = calibrate(some, tokenizer, shape, args.min_length)
        made = Objective(encoder.stack, rows, projection, args.null_weight, device=args.device.partition(":")[0])
        if args.device.startswith("cuda"):
            rooms.append(rooms[0] if rooms else feed(made, torch.device(args.device), _free_memory(args)).streams)
            made.room = lambda: rooms[0]
        return made

    record = {
        "denoiser": {"projection": projection.name},
        "calibration": {
            "prompts": len(prompts.searched),
            "source": Path(args.prompts).name if args.prompts else "built-in",
            "tokenizer": tokenizer.name,
            "min_length": args.min_length,
            "digest": calibrate(prompts.searched, tokenizer, shape, args.min_length).identity[:16],
        },
        "search": settings.record(args.null_weight),
    }
    return objective_on, prompts, settings, record


def _free_memory(args) -> int:
    """Bytes that the search may take on its device, beyond those it has taken."""
    free = torch.cuda.mem_get_info(args.device)[0]
    if args.memory_gb is not None:
        free = min(free, round(args.memory_gb * 1e9) - torch.cuda.memory_allocated(args.device))
    return int(FREE_SHARE * free)


def _projection(args, shape) -> Projection:
    if args.projection:
        return open_projection(args.projection, shape.width, args.layers)
    if args.layers:
        raise SkrrError("--weight and --bias name tensors of a denoiser; say its file with --projection.")
    return no_projection(("sequence", "pooled") if shape.family == "clip" else ("sequence",))


def _keep_partial(path: Path, bar: Bar, plan: Plan) -> None:
    bar.close()
    write_atomically(path, dumps(plan).encode())
    print(
        f"Stopped: {len(plan.levels)} levels, up to {100 * plan.levels[-1].sparsity:.2f} %, are kept in {path}.",
        file=sys.stderr,
    )
