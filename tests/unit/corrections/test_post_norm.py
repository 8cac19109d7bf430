"""Encoders with a norm between the output matrix and the stream, as Gemma has: the fit goes through it."""

from dataclasses import replace

import pytest
import torch

from skrr_engine.corrections.fit import through_norm
from skrr_engine.corrections.sites import KINDS
from skrr_engine.encoders.t5 import T5Stack

from .measuring import SKIP, corrected, fitted, measured


class RMSNorm(torch.nn.Module):
    """With weights around 1, and no way to take a mean off."""

    def __init__(self, seed):
        super().__init__()
        noise = torch.randn(16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.weight = torch.nn.Parameter(0.4 + 0.2 * noise.abs())

    def forward(self, hidden):
        return self.weight * hidden * torch.rsqrt(hidden.square().mean(dim=-1, keepdim=True) + 1e-12)


class PostNormStack(T5Stack):
    """T5 with a norm behind every sub-block."""

    def __init__(self, model):
        super().__init__(model)
        self.subblocks = tuple(map(self.normed, self.subblocks))

    def normed(self, block):
        norm = RMSNorm(block.index)
        plain = block.residual
        return replace(
            block, residual=lambda hidden, context: norm(plain(hidden, context)).detach(), post_norm=norm,
            modules=(*block.modules, norm),
        )  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", ["next", "all", "bridge, all"])
def test_the_discrepancy_falls_on_prompts_that_neither_set_has(tiny, sets, seed, kind):
    stack = PostNormStack(tiny.t5(seed=seed))
    found, held_out = fitted(sets, stack, settings=replace(KINDS[kind], rank=3)), sets(stack, 40, 3)
    assert corrected(held_out, stack, found).value < 0.97 * measured(held_out, stack, SKIP).value
    assert found.corrections.matrices and all(site.error[1] < site.error[0] for site in found.sites if site.taken)


def test_a_fit_that_did_not_know_of_the_norm_would_be_worse(tiny, sets):
    knowing, blind = [], []
    for seed in range(4):
        stack = PostNormStack(tiny.t5(seed=seed))
        held_out = sets(stack, 40, 3)
        knowing.append(corrected(held_out, stack, fitted(sets, stack)).value)
        stack.subblocks = tuple(replace(block, post_norm=None) for block in stack.subblocks)
        blind.append(corrected(held_out, stack, fitted(sets, stack)).value)
    assert sum(knowing) < 0.98 * sum(blind)


def test_what_can_be_reached_exactly_is_the_solution():
    """Inputs and a matrix that makes the wanted direction: the positions' least squares find it."""
    generator = torch.Generator().manual_seed(0)
    inputs, true, old = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((40, 8), (8, 16), (8, 16)))
    norm = RMSNorm(3)
    wanted = norm(inputs @ true).detach()
    some = through_norm(norm, inputs, inputs @ true * 1.0, wanted, torch.ones(40), 40.0)
    assert some.missing.abs().max() < 1e-9
    some = through_norm(norm, inputs, inputs @ old, wanted, torch.ones(40), 40.0)
    aimed = norm(inputs @ old + some.missing).detach()
    torch.testing.assert_close(aimed, wanted, rtol=1e-6, atol=1e-9)
    # To first order an error of the map counts as it does behind the norm.
    step = 1e-6 * torch.randn(40, 16, generator=generator, dtype=torch.float64)
    base = inputs @ true
    step -= (step * base).sum(dim=1, keepdim=True) / base.square().sum(dim=1, keepdim=True) * base
    moved = (norm(base + step) - norm(base)).detach().square().sum(dim=1)
    near = through_norm(norm, inputs, base, wanted, torch.ones(40), 40.0)
    torch.testing.assert_close(near.weights * (step * near.gain).square().sum(dim=1), moved, rtol=1e-4, atol=0)


def test_a_position_where_nothing_goes_into_the_norm_has_no_weight():
    made = torch.zeros(2, 16, dtype=torch.float64)
    made[1] = 1
    ones = torch.ones(2, 8, dtype=torch.float64)
    some = through_norm(RMSNorm(0), ones, made, torch.ones(2, 16).double(), torch.ones(2), 2.0)
    assert some.weights[0] == 0 and torch.isfinite(some.weights).all()
