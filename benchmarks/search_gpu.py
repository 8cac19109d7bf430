"""What a card makes of the search at T5-XXL's shapes: `python -m benchmarks.search_gpu` prints one JSON object, in less
than ten minutes on any CUDA device.

`matmul` is the rate of one large matrix product in the search's dtype, measured in the same run. `resident` and
`budget` measure the candidates of two levels (1, and 12 with three beams) over the same prompts, once with all memory
that is free and once within --budget-gib, which the allocator is made to hold; `share` is the rate achieved over the
rate of `matmul`. `float32` measures one set as finalists are. Weights are random: a race gives nobody up on them, so
whole levels are measured, and the whole search is PROJECTED from these rates: the published search's work by its
closed form, the fast one's by --work-ratio, which `python -m benchmarks.search` prints for the trained small encoder.

--small runs all of it at a small size, on --device cpu too: a test, its figures mean nothing.
"""

import argparse
import json
import random
import time

import torch
from transformers import T5Config, T5EncoderModel

from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.events import Notice
from skrr_engine.measure.budget import LEAST_STREAMS, MOST_STREAMS, divide, feed
from skrr_engine.measure.calibration import Row, make_calibration
from skrr_engine.measure.execute import assign
from skrr_engine.measure.feeding import stored_bytes
from skrr_engine.measure.objective import CALL_TOKENS, GPU_CALL_TOKENS, Objective
from skrr_engine.measure.projection import linear_chain
from skrr_engine.measure.sweep import Trie, measure_many
from skrr_engine.precision import matrix_dtype
from skrr_engine.search.work import published_work

XXL = dict(num_layers=24, d_model=4096, d_kv=64, d_ff=10240, num_heads=64, vocab_size=32128)
SMALL = dict(num_layers=8, d_model=64, d_kv=8, d_ff=160, num_heads=8, vocab_size=128)
PAPER = {"levels": 24, "beam": 3, "prompts": 1000}
# Tokens of a prompt, and the width of the features.
SHORTEST, LONGEST, FEATURES = 32, 96, 4096
# What the two levels may take on the card that is measured, were it to reach half of its matrix-product rate.
SECONDS, LEAST_PROMPTS, MOST_PROMPTS = 60, 8, 128
GIB = 1 << 30
FREE_SHARE = 0.9


class Card:
    """The device, its clock, its memory."""

    def __init__(self, name: str):
        self.device = torch.device(name)
        self.cuda = self.device.type == "cuda"
        self.dtype = matrix_dtype(self.device) or torch.float32

    def seconds(self, work) -> float:
        """How long `work()` takes, until the device has finished it."""
        self.wait()
        began = time.monotonic()
        work()
        self.wait()
        return time.monotonic() - began

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def limit(self, total: int | None) -> None:
        """The allocator refuses more than `total` bytes from now on (None: no limit)."""
        if self.cuda:
            torch.cuda.empty_cache()
            whole = torch.cuda.get_device_properties(self.device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, (total or whole) / whole), self.device)
            torch.cuda.reset_peak_memory_stats(self.device)

    def taken(self) -> int:
        """Bytes in use now."""
        return torch.cuda.memory_allocated(self.device) if self.cuda else 0

    def free(self) -> int:
        """Bytes that are free."""
        return torch.cuda.mem_get_info(self.device)[0] if self.cuda else 64 * GIB

    def peaks(self) -> dict:
        """Peak memory, as the allocator counts it."""
        if not self.cuda:
            return {"allocated_bytes": None, "reserved_bytes": None}
        return {
            "allocated_bytes": torch.cuda.max_memory_allocated(self.device),
            "reserved_bytes": torch.cuda.max_memory_reserved(self.device),
        }

    def matmul(self, tokens: int, inner: int, outer: int) -> dict:
        """FLOP/s of one large product in the search's dtype."""
        values = torch.randn(tokens, inner, device=self.device).to(self.dtype)
        weight = torch.randn(outer, inner, device=self.device).to(self.dtype)
        for _ in range(3):
            values @ weight.T
        times = 100 if self.cuda else 5
        took = self.seconds(lambda: [values @ weight.T for _ in range(times)])
        return {"tokens": tokens, "inner": inner, "outer": outer, "flops": 2 * tokens * inner * outer * times / took}


def make_stack(sizes: dict, card: Card) -> T5Stack:
    """A random T5: matrices of sub-blocks in host memory, in the search's dtype, everything else on the card."""
    with torch.device("meta"):
        model = T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu")).eval()
    # One draw for all: what is measured is time.
    noise = torch.randn(sizes["d_model"] * sizes["d_ff"], generator=torch.Generator().manual_seed(0)).to(card.dtype)
    state = {}
    for name, parameter in model.state_dict().items():
        if "block" in name and parameter.dim() == 2 and "bias" not in name:
            state[name] = noise[: parameter.numel()].view(parameter.shape) * (0.5 / parameter.shape[1] ** 0.5)
        elif parameter.dim() == 1:
            state[name] = torch.ones(parameter.shape, device=card.device)
        else:
            dtype = torch.float32 if "bias" in name else card.dtype
            state[name] = torch.randn(parameter.shape, device=card.device).to(dtype)
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    return T5Stack(model)


def make_objective(stack: T5Stack, prompts: int, card: Card) -> Objective:
    """Over `prompts` prompts of random tokens, behind a random projection."""
    sampler, rows = random.Random(0), []
    vocabulary, width = stack.architecture.vocabulary, stack.architecture.width
    for number in range(prompts):
        length = sampler.randrange(SHORTEST, LONGEST + 1)
        tokens = tuple(sampler.randrange(2, vocabulary) for _ in range(length))
        rows.append(Row(tokens, number, {"sequence": (1 / length,) * length}))
    null = Row((1,), 0, {"sequence": (1.0,)})
    calibration = make_calibration([str(n) for n in range(prompts)], rows, [null])
    weight = torch.randn(min(FEATURES, width), width, generator=torch.Generator().manual_seed(1)) / width**0.5
    projection = linear_chain("random", [(weight, None)], torch.float32)
    return Objective(stack, calibration, projection, device=card.device.type)


def candidates(count: int) -> list:
    """Those of level 1, and of a level behind three beams of a quarter of the sub-blocks that share all but one."""
    first = [assign(count, [i]) for i in range(count)]
    base = list(range(1, count, 4))[: count // 4]
    beams = [[*base[:-1], last] for last in (base[-1], 2, count - 2)]
    later = {assign(count, {*beam, i}) for beam in beams for i in range(count) if i not in beam}
    return [first, sorted(later, key=str)]


def flops(stack: T5Stack, levels: list, tokens: int) -> int:
    """Of the matrix products of `levels`, each swept once over `tokens` tokens; scores and norms do not count."""
    total = 0
    for some in levels:
        for steps in Trie(some, set(stack.taps.values())).steps:
            for source, pairs in steps:
                total += 0 if source is None else len(pairs) * tokens * matrix_flops(stack, source)
    return total


def matrix_flops(stack: T5Stack, index: int) -> int:
    """Of the matrix products of one sub-block on one token."""
    shape = stack.architecture
    inner = shape.heads * shape.head_width
    return 2 * shape.width * (4 * inner if index % 2 == 0 else 3 * shape.feed_forward)


def measured(stack: T5Stack, prompts: int, card: Card, total: int, rate: float) -> tuple[dict, dict]:
    """The two levels within `total` bytes; their figures and what was found."""
    objective, notices = make_objective(stack, prompts, card), []
    card.limit(total)
    # A part is lost between the allocator's blocks.
    budget = feed(objective, card.device, int((FREE_SHARE if card.cuda else 1) * (total - card.taken())))
    objective.report = lambda event: notices.append(event.text) if isinstance(event, Notice) else None
    levels = candidates(len(stack.subblocks))
    with objective.narrowed():
        measure_many(objective, levels[0][:1])  # the dense features, and everything that is made once
        stack.feeder.copied_bytes, found = 0, {}
        took = card.seconds(lambda: [found.update(measure_many(objective, some)) for some in levels])
    work = flops(stack, levels, objective.tokens)
    figures = {
        "seconds": took, "flops": work / took, "share": work / took / rate, "candidates": [len(s) for s in levels],
        "resident_sub_blocks": len(budget.resident), "copied_bytes": stack.feeder.copied_bytes,
        "room_for_streams": budget.streams, "peak": card.peaks(), "notices": notices,
    }  # fmt: skip
    one = assign(len(stack.subblocks), [1])
    measure_many(objective, [one])
    wide = card.seconds(lambda: measure_many(objective, [one]))
    figures["float32"] = {"seconds": wide, "flops": flops(stack, [[one]], objective.tokens) / wide}
    stack.feeder = None
    return figures, {str(places): value.value for places, value in found.items()}


def projected(stack: T5Stack, figures: dict, prompts: int, tokens: int, ratio: float | None) -> dict:
    """The published setting at the rates measured."""
    count = len(stack.subblocks)
    levels = min(PAPER["levels"], count // 2)
    a_token = sum(matrix_flops(stack, n) for n in (0, 1)) / 2
    work = published_work(count, PAPER["prompts"] * tokens // prompts, PAPER["beam"], levels)
    hours = work * a_token / figures["flops"] / 3600
    # The best set of every level, and every level with its re-use, whole.
    finals = 2 * levels * figures["float32"]["seconds"] * PAPER["prompts"] / prompts / 3600
    return {
        "what": "PROJECTED, not measured: the published setting's Skip by the rates of this run",
        "setting": {**PAPER, "levels": levels, "tokens_a_prompt": tokens / prompts},
        "published_hours": hours,
        "work_ratio": ratio,
        "fast_hours": None if ratio is None else hours / ratio + finals,
        "of_which_float32_hours": finals,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget-gib", type=float, default=6.0)
    parser.add_argument("--work-ratio", type=float, help="published ÷ fast work, from benchmarks.search, (a)")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    card, sizes = Card(options.device), SMALL if options.small else XXL
    tokens = GPU_CALL_TOKENS if card.cuda else CALL_TOKENS
    matmul = card.matmul(tokens, sizes["d_model"], sizes["d_ff"])
    stack = make_stack(sizes, card)
    a_prompt = flops(stack, candidates(len(stack.subblocks)), (SHORTEST + LONGEST) // 2)
    prompts = int(min(MOST_PROMPTS, max(LEAST_PROMPTS, SECONDS * matmul["flops"] / 2 / a_prompt)))
    budget = int(options.budget_gib * GIB)
    if options.small:
        prompts, whole = 4, divide(64 * GIB, stack, tokens, LONGEST)
        weights = [stored_bytes(block) for block in stack.subblocks]
        budget = card.taken() + whole.call + whole.buffers + 2 * max(weights) + LEAST_STREAMS + sum(weights) // 2
    resident, one = measured(stack, prompts, card, card.free() + card.taken(), matmul["flops"])
    within, two = measured(stack, prompts, card, budget, matmul["flops"])
    card.limit(None)
    counted = make_objective(stack, prompts, card).tokens
    found = {
        "device": torch.cuda.get_device_name(card.device) if card.cuda else str(card.device),
        "torch": torch.__version__, "dtype": str(card.dtype), "shapes": sizes, "prompts": prompts, "tokens": counted,
        "matmul": matmul, "resident": resident, "budget_bytes": budget, "budget": within,
        "budget_time_ratio": within["seconds"] / resident["seconds"],
        "largest_difference": max(abs(two[name] / one[name] - 1) for name in one),
        "targets": {"share": 0.6, "budget_time_ratio": 1.3, "most_room": MOST_STREAMS},
        "projection": projected(stack, resident, prompts, counted, options.work_ratio),
    }  # fmt: skip
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
