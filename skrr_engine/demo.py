"""The whole way once, on something made on the spot: calibrate, search, apply to a file, check, compare."""

import random
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel

from .calibration import builtin_prompts, clean_prompts
from .checkpoint import write_atomically
from .discrepancy import Discrepancy
from .errors import SkrrError
from .execute import assign, encode
from .files import write_pruned
from .hosts import OpenEncoder, open_encoder
from .objective import Objective
from .plan import Cut
from .plan_json import dumps
from .progress import Bar
from .projection_files import open_projection
from .search import Settings, find_plan
from .tables import plan_table
from .tokenizing import Tokenizer, calibrate

__all__ = ["demo"]

SEED, LAYERS, WIDTH, FEATURES, VOCABULARY = 0, 12, 64, 96, 384
SPARSITY = 0.4
PROMPTS, PROMPT_BYTES = 8, 48
RANDOM_SETS = 5
ALIKE = 0.9
# As ByT5: padding, end and unknown take the first three ids, then a token for every byte.
BYTES = Tokenizer("bytes", lambda text: [3 + byte for byte in text.encode()[:PROMPT_BYTES]], None, 1, 0)


@contextmanager
def _one_thread():
    """On tensors this small a second thread costs more than it brings, many times so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def demo(folder: str | Path) -> None:
    """Makes its files in `folder` and prints what happens; under a minute on two cores. No downloads.

    Raises SkrrError when the pruned file does not compute what its plan says."""
    folder = Path(folder)
    encoder_file, denoiser_file = folder / "demo-encoder.safetensors", folder / "demo-denoiser.safetensors"
    plan_file, pruned_file = folder / "demo-plan.json", folder / "demo-encoder-skrr.safetensors"
    print(f"1. A random T5 ({LAYERS} layers, {WIDTH} wide) and a random projection of a denoiser, in {folder}.")
    print("   Their weights are random: this shows the mechanics and says nothing about picture quality.")
    folder.mkdir(parents=True, exist_ok=True)
    _make_files(encoder_file, denoiser_file)
    encoder = open_encoder(encoder_file)

    print(f"2. Calibration: {PROMPTS} built-in prompts, {PROMPTS} others held out; every byte of the first")
    print(f"   {PROMPT_BYTES} is a token (a stand-in: a real encoder brings its own tokenizer).")
    prompts = clean_prompts(builtin_prompts(), 2 * PROMPTS)
    objective = _objective(encoder, denoiser_file, prompts[::2])
    held_out = _objective(encoder, denoiser_file, prompts[1::2])

    print(f"3. Search to {100 * SPARSITY:.0f} %, with re-use.")
    with Bar() as bar:
        objective.report = bar
        plan = find_plan(objective, Settings(encoder.slot, SPARSITY, name="demo"))
    write_atomically(plan_file, dumps(plan).encode())
    print(plan_table(plan))

    level = plan.level_for(SPARSITY)
    written = write_pruned(encoder_file, pruned_file, plan.with_levels([level]), overwrite=True)
    print(f"4. Applied to a file: {written.source_bytes:,} -> {written.target_bytes:,} bytes ({pruned_file.name}).")
    cut = level.cuts[encoder.slot]
    same = _same_outputs(encoder, cut, open_encoder(pruned_file), held_out)
    print(f"5. Check: the file opened again gives {'the same' if same else 'OTHER'} outputs as the plan, bit for bit.")
    if not same:
        raise SkrrError("The pruned file and its plan disagree: this is a bug in the pack, please report it.")

    print(f"6. Discrepancy on the {PROMPTS} held-out prompts (lower is better):")
    _compare(held_out, cut)
    print("Random weights, so: mechanics, not picture quality.")


def _make_files(encoder_file: Path, denoiser_file: Path) -> None:
    """Seeded. As in trained encoders, sub-blocks matter unequally (each has a gain of its own), and a layer is
    somewhat like the one before it, or there would be nothing to re-use."""
    config = T5Config(
        num_layers=LAYERS, d_model=WIDTH, d_kv=16, d_ff=2 * WIDTH, num_heads=4, vocab_size=VOCABULARY,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    generator = torch.Generator().manual_seed(SEED)
    state, before = {}, {}
    for name, like in T5EncoderModel(config).state_dict().items():
        noise = torch.randn(like.shape, generator=generator)
        if like.dim() == 1:
            state[name] = 1 + 0.1 * noise
        elif "block" in name and "bias" not in name:
            part = name.split(".", 3)[3]
            before[part] = ALIKE * before.get(part, noise) + (1 - ALIKE**2) ** 0.5 * noise
            state[name] = before[part] * (0.3 + torch.rand(1, generator=generator)) / like.shape[1] ** 0.5
        elif name != "encoder.embed_tokens.weight":  # the same tensor as shared.weight
            state[name] = noise
    save_file(state, encoder_file)
    weight = torch.randn(FEATURES, WIDTH, generator=generator) / WIDTH**0.5
    save_file({"txt_in.weight": weight, "txt_in.bias": torch.randn(FEATURES, generator=generator)}, denoiser_file)


def _objective(encoder: OpenEncoder, denoiser_file: Path, prompts) -> Objective:
    shape = encoder.stack.architecture
    return Objective(encoder.stack, calibrate(prompts, BYTES, shape), open_projection(denoiser_file, shape.width))


def _same_outputs(encoder: OpenEncoder, cut: Cut, pruned: OpenEncoder, objective: Objective) -> bool:
    """Whether the dense encoder under the plan and the pruned file hand out equal tensors."""
    planned = assign(encoder.stack.architecture.sub_blocks, cut.skip, cut.reuse_map)
    return all(
        torch.equal(
            encode(encoder.stack, planned, batch)["sequence"],
            encode(pruned.stack, pruned.assignment, batch)["sequence"],
        )
        for batch in objective.batches
    )


def _compare(objective: Objective, cut: Cut) -> None:
    """Dense, the plan with and without re-use, and the mean of random sets that remove as much."""
    count = len(objective.stack.subblocks)

    def show(name: str, value: float) -> None:
        print(f"   {name:<32} {value:8.4f}")

    def measure(skip, reuse=None) -> Discrepancy:
        return objective.measure(assign(count, skip, reuse))

    show("dense", measure(()).value)
    show("Skrr", measure(cut.skip, cut.reuse_map).value)
    show("Skrr without re-use", measure(cut.skip).value)
    sampler = random.Random(SEED)
    found = []
    for _ in range(RANDOM_SETS):
        # As many of each kind as the plan skips, hence as many parameters.
        kinds = [(start, sum(i % 2 == start for i in cut.skip)) for start in (0, 1)]
        found.append(measure([i for start, n in kinds for i in sampler.sample(range(start, count, 2), n)]).value)
    show(f"{RANDOM_SETS} random sets of that size, mean", sum(found) / RANDOM_SETS)
