"""The command that searches: opens encoder, tokenizer and projection, runs the search, writes the plan."""

import functools
import sys
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
    objective, settings, record = _prepare(args, encoder, out)
    objective.ranks = ranks
    if first and not args.projection:
        print(NO_PROJECTION, file=sys.stderr)
    with Bar() if first else nullcontext() as bar:
        objective.report = bar if first else silent
        if start is None:
            keep = functools.partial(_keep_partial, out.with_name(f"{out.stem}.partial.json"), bar)
            partial = {"on_partial": keep} if first else {}
            plan = find_plan(objective, settings, args.checkpoint, record, **partial)
        else:
            plan = refine_plan(objective, start, settings, record)
    told = None if ranks is None else ranks.summary(objective.applications)
    if not first:
        return
    write_atomically(out, dumps(plan).encode())
    print(plan_table(plan))
    if told:
        print(told)
    print(f"Written: {out}. Next: python -m skrr_engine apply --encoder FILE --plan {out} --sparsity S --out FILE")


def _prepare(args, encoder: OpenEncoder, out: Path) -> tuple[Objective, Settings, dict]:
    shape = encoder.stack.architecture
    tokenizer = open_tokenizer(args.tokenizer or args.encoder, shape.family)
    texts = calibration.read_prompts(args.prompts) if args.prompts else calibration.builtin_prompts()
    prompts = calibration.clean_prompts(texts, args.limit)
    rows = calibrate(prompts, tokenizer, shape, args.min_length)
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
        mode=args.mode,
        minutes=args.minutes,
        seed=args.seed,
    )
    record = {
        "denoiser": {"projection": projection.name},
        "calibration": {
            "prompts": len(prompts),
            "source": Path(args.prompts).name if args.prompts else "built-in",
            "tokenizer": tokenizer.name,
            "min_length": args.min_length,
            "digest": rows.identity[:16],
        },
        "search": settings.record(args.null_weight),
    }
    objective = Objective(encoder.stack, rows, projection, args.null_weight, device=args.device.partition(":")[0])
    if args.device.startswith("cuda"):
        feed(objective, torch.device(args.device), _free_memory(args))
    return objective, settings, record


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
