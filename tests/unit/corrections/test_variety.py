"""Words exchanged: as many as asked, in every second prompt, and nothing that the encoder's form depends on."""

import pytest
import torch

from skrr_engine.corrections.variety import varied, varied_objective


@pytest.mark.parametrize("pooled", [False, True])
def test_words_change_in_every_second_prompt_and_nothing_else_does(tiny, pooled):
    made = tiny.rows(400, pooled=pooled, lengths=(9,))
    found = varied(made, 0.3)
    before, after = (torch.cat([batch.tokens for batch in one.batches]) for one in (made, found))
    rows = [n for batch in made.batches for n in batch.row_ids]
    changed = before != after
    assert not changed[[at for at, n in enumerate(rows) if n % 2 == 0]].any()
    second = changed[[at for at, n in enumerate(rows) if n % 2]]
    assert not second[:, -1].any(), "the end stays where it is"
    assert 0.25 < second[:, :-1].double().mean() < 0.33  # some are exchanged for themselves
    words, now = before[:, :-1], after[:, :-1]
    assert words.min() <= now.min() and now.max() <= words.max()
    for one, two in zip(made.batches, found.batches, strict=True):
        assert one.row_ids == two.row_ids and one.weights == two.weights
    assert found.prompts == made.prompts and found.null == made.null and found.identity != made.identity


def test_it_is_the_same_every_time(tiny):
    made = tiny.rows(50)
    one, two, three = varied(made, 0.3), varied(made, 0.3), varied(made, 0.3, seed=1)
    assert all(a.tokens.equal(b.tokens) for a, b in zip(one.batches, two.batches, strict=True))
    assert not all(a.tokens.equal(b.tokens) for a, b in zip(one.batches, three.batches, strict=True))
    assert one.identity == two.identity != three.identity


def test_without_a_share_it_is_itself(tiny):
    objective = tiny.objective(tiny.stack())
    assert varied_objective(objective, 0.0) is objective
    assert varied(objective.calibration, 0.0) is objective.calibration
    assert varied_objective(objective, 0.5).projection is objective.projection


def test_prompts_without_words_stay(tiny):
    made = tiny.rows(4, lengths=(1,))
    assert varied(made, 1.0) is made
