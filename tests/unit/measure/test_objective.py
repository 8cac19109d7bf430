"""What an objective knows of its batches, and that it brings the encoder where it runs once."""

import torch

from skrr_engine.events import Step
from skrr_engine.measure.calibration import Row, make_calibration
from skrr_engine.measure.execute import assign, encode
from skrr_engine.measure.objective import Objective, Tally
from skrr_engine.measure.sweep import measure_many


def two_nulls(tiny):
    """An objective whose null prompt has two rows of different lengths."""
    like = tiny.objective(tiny.stack())
    rows = [Row((5, 6, 7, 1), 0, {"sequence": (0.25,) * 4}), Row((8, 9, 1), 1, {"sequence": (1 / 3,) * 3})]
    null = [Row((1,), 0, {"sequence": (0.5,)}), Row((2, 1), 0, {"sequence": (0.25,) * 2})]
    return Objective(like.stack, make_calibration(["a", "b"], rows, null), like.projection)


def test_a_batch_is_of_the_null_prompt_or_of_the_prompts(tiny):
    objective = two_nulls(tiny)
    calibration = objective.calibration
    assert len(calibration.null) == 2
    assert [objective.portion(batch).null for batch in calibration.null] == [True, True]
    assert [objective.portion(batch).null for batch in calibration.batches] == [False] * len(calibration.batches)
    assert [portion.null for portion in objective.portions] == [True, True, False, False]


def test_a_tally_takes_the_outputs_of_every_batch(tiny):
    objective = two_nulls(tiny)
    assignment = assign(8, [2, 5], {5: 3})
    tally = Tally(objective)
    for batch in objective.batches:
        assert not tally.seen.all()
        tally.add(batch, encode(objective.stack, assignment, batch))
    assert tally.total() == objective.measure(assignment)
    assert tally.total().value > 0


def test_the_encoder_is_brought_where_it_runs_once(tiny):
    for use in (lambda o: measure_many(o, [assign(8, [1])]), lambda o: o.measure(assign(8, [1]))):
        objective, brought = tiny.objective(tiny.stack()), []
        objective.stack.prepare = lambda brought=brought: brought.append(1)
        use(objective)
        use(objective)
        assert brought == [1]


def test_dense_features_travel_once_for_all_assignments_of_a_portion(tiny):
    objective = tiny.objective(tiny.stack())
    first, second = objective.portions[:2]
    near = objective._near(first, torch.device("cpu"))
    assert objective._near(first, torch.device("cpu")) is near
    assert objective._near(second, torch.device("cpu")) is not near


def test_many_measurements_report_a_step_each(tiny):
    steps = []
    objective = tiny.objective(tiny.stack(), report=lambda event: steps.append(event) if isinstance(event, Step) else 0)
    measure_many(objective, [assign(8, [n]) for n in range(5)])
    assert abs(sum(step.evaluations for step in steps) - 5) < 1e-9
