"""What is on disk of a search: the keys that files of earlier versions have, and what is read from them."""

import json

import torch

from skrr_engine.jobs.saved import Saved, SavedReuse
from skrr_engine.measure.discrepancy import Discrepancy
from skrr_engine.running.checkpoint import Checkpoint, packed
from skrr_engine.running.prior import Estimate, Prior
from skrr_engine.search.candidate import Candidate
from skrr_engine.search.reuse import Reuse

D = Discrepancy(conditional=0.5, null=0.25, null_weight=1.0, cosine=0.125, null_norm=1.5)
CHILDREN = torch.tensor([[0.75, 0.01], [torch.nan, torch.nan], [1.0, 0.02]], dtype=torch.float64)
ERRORS = torch.arange(8, dtype=torch.float64).reshape(2, 4)


def entry(order, errors=None, outlook=None):
    """A set as files have held it since there are priors."""
    return {"order": order, "discrepancy": D.to_json(), "errors": errors, "outlook": outlook}


def level(beams, behind=None, parts=(), prompts=4):
    return {"beams": beams, "behind": behind, "parts": list(parts), "prompts": prompts}


FIRST = level([entry([1], packed(ERRORS), {"gap": 0.5, "children": packed(CHILDREN)}), entry([2])])
SECOND = level([entry([1, 0])], entry([0]), [[1, [0.1, 0.02]]], 3)
REUSE = {"order": [1, 0], "pairs": [[0, 2]], "parts": [[[0, 2], [-0.1, 0.0]]], "discrepancy": D.to_json()}


def read(*levels):
    """A search whose file holds `levels`, and re-use for the second one."""
    checkpoint = Checkpoint(None, "")
    checkpoint.levels, checkpoint.reuse = json.loads(json.dumps(list(levels))), {"1": json.loads(json.dumps(REUSE))}
    return Saved(checkpoint)


def test_files_of_earlier_versions_are_read():
    saved = read(FIRST, SECOND)
    best, other = saved.beams(0)
    assert (best.order, best.discrepancy, other.order) == ((1,), D, (2,))
    assert torch.equal(best.errors, ERRORS) and (other.errors, other.prior) == (None, None)
    assert best.prior.gap == 0.5 and torch.equal(best.prior.children.nan_to_num(), CHILDREN.nan_to_num())
    assert best.prior.of(2) == Estimate(1.0, 0.02)
    assert saved.look_back_gaps(1) == {1: Estimate(0.1, 0.02)} and saved.look_back_gaps(0) == {}
    assert saved.reuse_gaps(1) == {(0, 2): Estimate(-0.1, 0.0)}
    assert (saved.levels, saved.prompts(1), saved.levels_with_reuse, saved.over) == (2, 3, 1, False)


def test_what_is_written_has_the_same_keys():
    saved = Saved(Checkpoint(None, ""))
    saved.add_level([Candidate((1,), D, ERRORS, Prior(0.5, CHILDREN)), Candidate((2,), D)], None, {}, 4)
    saved.add_level([Candidate((1, 0), D)], Candidate((0,), D), {1: Estimate(0.1, 0.02)}, 3)
    saved.add_reuse(1, (1, 0), Reuse({0: 2}, D, {(0, 2): Estimate(-0.1, 0.0)}))
    saved.finish(3)
    assert json.dumps(saved.checkpoint.levels) == json.dumps([FIRST, SECOND])
    assert json.dumps(saved.checkpoint.reuse) == json.dumps({"1": REUSE})
    assert saved.over and saved.checkpoint.over == {"prompts": 3}


def test_a_rung_is_the_better_set_of_a_look_back():
    saved = read(FIRST, SECOND)
    assert [rung.order for rung in saved.rungs(lambda order: len(order) == 2)] == [(0,), (1, 0)]
    # Where the beam itself has reached the target the search of a smaller target ends: it never looked back.
    assert [rung.order for rung in saved.rungs(lambda order: True)] == [(1,)]
    assert [rung.order for rung in read(FIRST).rungs(lambda order: False)] == [(1,)]


def test_re_use_counts_for_the_set_that_it_was_found_for():
    saved = read(FIRST, SECOND)
    assert saved.reuse(1, (1, 0)) == SavedReuse({0: 2}, D.to_json())
    assert saved.reuse(1, (0, 1)) is None and saved.reuse(0, (1,)) is None
