"""Corrections made up for tests, and what an encoder must give with them: by the engine, over the dense encoder."""

from dataclasses import replace

import torch

from .steps import SKIP, TEXT

# In a cut of SKIP and {0: 2} place 0 is re-used, 5 and 3 are skipped; 2 runs twice, so that it may not be re-fitted.
REUSE = {0: 2}
MATRICES, BRIDGES, BIASES = (4, 7, 9, 10), (5, 0), (3,)


def stack_of(pack, clip, slot="t5xxl"):
    """The dense encoder, at rest, as a TextStack."""
    encoder = pack("nodes.comfy_host.clip.trees").choose_encoder(clip, slot)
    pack("nodes.comfy_host.weights.memory").rest(clip.patcher)
    return encoder.adapter.stack(encoder)


def made_up(pack, clip, slot="t5xxl", skip=SKIP, reuse=None, matrices=MATRICES, dtype=torch.float16, size=0.5):
    """Corrections for `clip` under that cut: random, and so large that nothing is mistaken for rounding."""
    found, added = pack("skrr_engine.corrections.found"), pack("skrr_engine.corrections.added")
    run, plans = pack("skrr_engine.measure.execute"), pack("skrr_engine.plans.plan")
    stack, reuse = stack_of(pack, clip, slot), REUSE if reuse is None else reuse
    width, generator = stack.architecture.width, torch.Generator().manual_seed(7)

    def random(*shape):
        return (size * torch.randn(shape, generator=generator) / shape[-1] ** 0.5).to(dtype)

    return found.Corrections(
        stack.architecture,
        found.weights_digest(stack, run.assign(len(stack.subblocks), skip, reuse)),
        plans.make_cut(skip, reuse),
        {n: random(*stack.output_shape(n)) for n in matrices if n < len(stack.subblocks) and n not in skip},
        {n: added.Bridge(random(3, width + 1), random(width, 3)) for n in BRIDGES if n in skip}
        | {n: added.Bias(random(width)) for n in BIASES if n in skip},
    )


def corrected_plan(pack, one, slot="t5xxl", file="0" * 64):
    """A plan of one level that names `one`, in a side file with the digest `file`."""
    plan = pack("skrr_engine.plans.plan")
    info = {slot: plan.EncoderInfo(one.architecture)}
    note = plan.SideFileNote(file, {slot: one.weights})
    return plan.Plan("corrected", info, (plan.make_level(info, {slot: one.cut}, corrections=note),))


def corrected_clip(pack, clip, one, slot="t5xxl"):
    """Patched: what Skrr Apply makes of `clip`."""
    plan = corrected_plan(pack, one, slot)
    return pack("nodes.comfy_host.clip.patching").apply_level(clip, plan, plan.levels[0], {slot: one})


def wanted_with(pack, clip, one, slot="t5xxl", text=TEXT):
    """The outputs of the dense `clip`, corrected by the engine."""
    stack = stack_of(pack, clip, slot)
    stack.prepare()
    rows = clip.tokenize(text)[slot.removeprefix("clip_")]
    tokens = torch.tensor([[token for token, _ in row] for row in rows])
    batch = pack("skrr_engine.encoders.stack").TokenBatch(tokens, tuple(range(len(rows))), tokens.shape[1], {})
    corrected = one.applied(stack)
    with torch.inference_mode():
        return pack("skrr_engine.measure.execute").encode(corrected.stack, corrected.assignment, batch)


def other_weights(one):
    """The same corrections, fitted on other weights."""
    return replace(one, weights="f" * 64)
