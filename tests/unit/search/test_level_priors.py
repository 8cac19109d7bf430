"""What a level hands on to the next."""

import torch

from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.running.run import Run
from skrr_engine.running.trial import Trial
from skrr_engine.search.beam import next_level
from skrr_engine.search.level_priors import apply_priors
from skrr_engine.search.racing import choose_by_racing


def objective_of(tiny, prompts=32):
    like = tiny.objective(tiny.stack(seed=1))
    return Objective(like.stack, tiny.rows(prompts), like.projection)


def test_the_hard_rows_are_those_of_the_best_set(tiny):
    run = Run(objective_of(tiny))
    beams = next_level(run, [], 3)
    apply_priors(run, beams, {})
    alone = Trial(run.objective, assign(8, beams[0].order))
    run.measure([alone], run.order)
    assert torch.allclose(run.row_errors, alone.squared, rtol=1e-9)
    apply_priors(run, [], {})
    assert run.row_errors is None


def test_each_set_gets_what_its_own_parent_expects_of_the_last_one(tiny):
    run = Run(objective_of(tiny, 64))
    beams = next_level(run, [], 3, choose_by_racing)
    assert all(candidate.prior is not None for candidate in beams)
    trials = {}
    for candidate in beams:
        for child in sorted(set(range(8)) - set(candidate.order)):
            order = (*candidate.order, child)
            trials[order] = Trial(run.objective, assign(8, order))
    stranger = (7, 6, 5)
    trials[stranger] = Trial(run.objective, assign(8, stranger))
    apply_priors(run, beams, trials)
    assert trials.pop(stranger).expected is None
    for order, trial in trials.items():
        parent = next(candidate for candidate in beams if candidate.order == order[:-1])
        assert trial.expected == parent.prior.of(order[-1])
        assert trial.expected.mean > 0 and trial.expected.variance > 0
