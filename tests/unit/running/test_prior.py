"""What a level lets expect of the next one, against measuring it, and what a race makes of that."""

import pytest
import torch

from skrr_engine.measure.execute import assign
from skrr_engine.measure.objective import Objective
from skrr_engine.running.prior import Guess, later
from skrr_engine.running.run import Run
from skrr_engine.running.trial import Trial
from skrr_engine.search.beam import next_level
from skrr_engine.search.racing import FIRST, choose_by_racing, gap


def objective_of(tiny, seed, prompts):
    like = tiny.objective(tiny.stack(layers=4, seed=seed))
    return Objective(like.stack, tiny.rows(prompts, seed), like.projection)


def value(objective, order):
    return objective.measure(assign(8, order)).value


def whole(run, *orders):
    tallies = [Trial(run.objective, assign(8, order)) for order in orders]
    run.measure_null(tallies)
    run.measure(tallies, run.order)
    return tallies


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_sum_of_what_was_measured(tiny, seed):
    """So few prompts that what is measured is measured whole: D(w) + D(b + c) - D(b), to rounding, and no variance but
    that of the sum. What was hopeless on the level before is not known so well."""
    objective = objective_of(tiny, seed, FIRST)
    level, before = [], 0.0
    for size in (1, 2, 3):
        level = next_level(Run(objective), level, 3, choose_by_racing)
        best, known, children = value(objective, level[0].order), 0, 0
        for kept in level:
            *parent, _ = kept.order
            own, left = value(objective, kept.order), value(objective, parent)
            assert kept.outlook.gap == pytest.approx(own - best, rel=1e-6, abs=1e-9)
            assert all(kept.outlook.children[n].isnan().all() for n in kept.order)
            for child in set(range(8)) - set(kept.order):
                expected, children = kept.outlook.of(child), children + 1
                least = (0.3 * (best - before)) ** 2
                if expected.variance == pytest.approx(least, rel=1e-6):
                    assert expected.mean == pytest.approx(own + value(objective, [*parent, child]) - left, rel=1e-6)
                    known += 1
                else:
                    assert expected.variance > least
        assert known == children if size == 1 else known > 1
        before = best


def test_it_tells_nearly_what_comes(tiny):
    """Of what a sub-block costs, most is known a level ahead: over six encoders."""
    off, spread = [], []
    for seed in range(6):
        objective = objective_of(tiny, seed, 64)
        (best, *_) = next_level(Run(objective), [], 3, choose_by_racing)
        children = [child for child in range(8) if child not in best.order]
        real = torch.tensor([value(objective, [*best.order, child]) for child in children])
        told = torch.tensor([best.outlook.of(child).mean for child in children])
        off.append((told - real).square().mean())
        spread.append(real.var(correction=0))
    assert sum(off) < 0.3 * sum(spread)


def test_the_gap_weighs_what_was_expected_by_its_precision(tiny):
    run = Run(objective_of(tiny, 1, 40))
    one, two = whole(run, [1], [4])
    rows = run.order[:16]
    measured = gap(run, one, two, rows)
    assert measured.mean == pytest.approx(run.value(one, rows) - run.value(two, rows))
    assert measured.variance == pytest.approx(run.scatter(one, two, rows) ** 2 * (1 - 16 / 40))
    one.expected, two.expected = Guess(3.0, 0.5), Guess(1.0, 0.25)
    assert gap(run, one, two, ()) == Guess(2.0, 0.75)
    weights = 1 / torch.tensor([measured.variance, 0.75], dtype=torch.float64)
    mean = (weights * torch.tensor([measured.mean, 2.0], dtype=torch.float64)).sum() / weights.sum()
    assert gap(run, one, two, rows) == pytest.approx((mean.item(), 1 / weights.sum().item()))
    assert gap(run, one, two, run.order) == (run.value(one, run.order) - run.value(two, run.order), 0.0)
    assert gap(run, one, one, rows) == (0.0, 0.0)


def test_what_is_expected_to_be_hopeless_is_not_measured(tiny):
    """And keeps what was expected of it, beside the winner."""
    run = Run(objective_of(tiny, 2, 256))
    tallies = [Trial(run.objective, assign(8, [n])) for n in range(8)]
    known = whole(run, *([n] for n in range(8)))
    for tally, real in zip(tallies, known, strict=True):
        tally.expected = Guess(run.found(real).value, 1e-12)
    tallies[3].expected = Guess(100.0, 1.0)
    kept = choose_by_racing(run, tallies, 2)
    assert tallies[3] not in kept and not tallies[3].seen.any() and not tallies[3].null_seen
    first = run.found(known[tallies.index(kept[0])]).value
    assert tallies[3].gap.mean == pytest.approx(100 - first, rel=1e-3)
    assert tallies[3].gap.variance == pytest.approx(1.0, rel=1e-3)
    assert kept[0].gap == (0.0, 0.0)


def test_a_vague_expectation_changes_nothing(tiny):
    run = Run(objective_of(tiny, 3, 128), seed=5)
    found = []
    for vague in (False, True):
        tallies = [Trial(run.objective, assign(8, [n])) for n in range(8)]
        for n, tally in enumerate(tallies):
            tally.expected = Guess(1.0 + n, 1e12) if vague else None
        found.append([(tally.assignment, tally.seen.tolist()) for tally in choose_by_racing(run, tallies, 3)])
    assert found[0] == found[1]


def test_a_wrong_expectation_is_overcome(tiny):
    """The best one was expected to be the worst, by as much as can be wrong."""
    run = Run(objective_of(tiny, 4, 128))
    known = whole(run, *([n] for n in range(8)))
    real = [run.found(tally).value for tally in known]
    tallies = [Trial(run.objective, assign(8, [n])) for n in range(8)]
    best = min(range(8), key=real.__getitem__)
    for n, tally in enumerate(tallies):
        tally.expected = Guess(max(real) if n == best else real[n], max(real) ** 2)
    (found,) = choose_by_racing(run, tallies, 1)
    assert found is tallies[best]


def test_parts_get_vaguer_from_level_to_level():
    assert later({"a": Guess(0.1, 0.01)}, 0.2) == {"a": pytest.approx((0.1, 0.01 + (0.15 * 0.2) ** 2))}


def test_every_choice_takes_the_prompts_in_an_order_of_its_own(tiny):
    run = Run(objective_of(tiny, 1, 64))
    one, two = ([Trial(run.objective, assign(8, [n, k])) for n in range(3)] for k in (5, 6))
    again = Run(run.objective)
    assert run.shuffled(one) == again.shuffled(one) != run.shuffled(two)
    assert sorted(run.shuffled(one)) == sorted(run.order)
    assert Run(run.objective, seed=1).shuffled(one) != run.shuffled(one)
    run.limit(10)
    assert sorted(run.shuffled(one)) == sorted(run.order) and len(run.order) == 10
