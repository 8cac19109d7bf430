"""How much worse plans get with fewer calibration prompts: `python -m benchmarks.search_curve` prints one JSON object.

For every number of prompts and every draw of them the fast search finds a ladder; `excess` is its discrepancy on
held-out prompts over that of the ladder found on the most prompts, minus 1, the mean over levels and draws. curve.py
carries the result. The encoder is the demo's, or --encoder, --tokenizer, --denoiser, --prompts-file.
"""

import argparse
import json
from pathlib import Path

from benchmarks.search.cases import TrainedCase, by_size
from skrr_engine.demo.layout import DENOISER, ENCODER, TOKENIZER, WEIGHTS
from skrr_engine.jobs.search import Settings, find_plan
from skrr_engine.measure.execute import assign
from skrr_engine.measure.sweep import measure_many

SLOT = "t5xxl"


def held_out_values(case, prompts: int, draw: str, sparsity: float) -> dict[int, float]:
    """Sub-blocks skipped -> the held-out discrepancy of that level of the plan found on `prompts` prompts."""
    cuts = by_size(find_plan(case.objective(prompts, draw), Settings(SLOT, sparsity)), SLOT)
    count = len(case.stack.subblocks)
    places = {size: assign(count, cut.skip, cut.reuse_map) for size, cut in cuts.items()}
    found = measure_many(case.held_out, places.values())
    return {size: found[place].value for size, place in places.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, default=WEIGHTS / ENCODER)
    parser.add_argument("--tokenizer", type=Path, default=WEIGHTS / TOKENIZER)
    parser.add_argument("--denoiser", type=Path, default=WEIGHTS / DENOISER, help="the projection's file; 'none': none")
    parser.add_argument("--prompts-file", type=Path, help="text or JSON lines (default: captions of the demo)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512])
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--sparsity", type=float, default=0.4)
    options = parser.parse_args()
    denoiser = None if str(options.denoiser) == "none" else options.denoiser
    case = TrainedCase(options.encoder, options.tokenizer, denoiser, options.prompts_file, options.held_out)
    best = held_out_values(case, options.most, "most", options.sparsity)
    excess = {}
    for size in options.sizes:
        every = []
        for draw in range(options.draws):
            found = held_out_values(case, size, str(draw), options.sparsity)
            every += [found[level] / best[level] - 1 for level in found.keys() & best.keys()]
        excess[size] = round(sum(every) / len(every), 4)
    about = {"encoder": case.name, "identity": case.stack.identity, "most": options.most, "draws": options.draws}
    print(json.dumps(about | {"excess": excess}, indent=1))


if __name__ == "__main__":
    main()
