"""Corrections on disk: what was fitted comes back as it was, and nothing else is ever applied. Damage at random is in
tests/unit/benchmarks/test_fuzz.py."""

import os
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from skrr_engine.corrections.added import Bias
from skrr_engine.corrections.side_file import read_side_file, side_file_for, write_side_file
from skrr_engine.corrections.sites import KINDS, Settings
from skrr_engine.errors import SkrrError
from skrr_engine.measure.execute import assign
from skrr_engine.plans.plan import EncoderInfo, Plan, make_cut, make_level
from skrr_engine.plans.plan_json import CORRECTIONS, dumps, loads

from ..failing_disk import fail_everywhere
from .measuring import corrected, fitted

SETTINGS = Settings("all", "bridge", rank=3, stored=torch.float16)


def plan_for(stack, skip=(4, 1), reuse=None):
    info = {"t5xxl": EncoderInfo(stack.architecture)}
    return Plan("for a test", info, (make_level(info, {"t5xxl": make_cut(skip, reuse)}),))


@pytest.fixture
def kept(tiny, sets, tmp_path):
    """(stack, plan, what was fitted, its side file, the note)."""
    stack = tiny.stack()
    found, plan, path = fitted(sets, stack, settings=SETTINGS), plan_for(stack), tmp_path / "side.safetensors"
    return stack, plan, found, path, write_side_file(path, plan, {"t5xxl": found.corrections})


def test_what_was_fitted_comes_back_as_it_was(sets, kept):
    stack, plan, found, path, note = kept
    read = read_side_file(path)
    assert (read.plan, read.note) == (plan, note)
    one, two = found.corrections.tensors, read.corrections["t5xxl"].tensors
    assert one.keys() == two.keys()
    assert all(part.equal(two[key]) and part.dtype == two[key].dtype for key, part in one.items())
    again = replace(found, corrections=read.corrections["t5xxl"])
    selection = sets(stack, 30, 2)
    assert corrected(selection, stack, again).value == pytest.approx(found.after.value, rel=1e-9)
    assert os.listdir(path.parent) == [path.name]


def test_a_plan_that_names_its_side_file_finds_it(kept, sets):
    stack, plan, found, path, note = kept
    named = plan.with_levels([replace(plan.levels[0], corrections=note)])
    level = loads(dumps(named), {CORRECTIONS}).levels[0]
    one = side_file_for(path, level)["t5xxl"].applied(stack)
    assert one.stack.matrices.keys() == found.corrections.matrices.keys()
    assert write_side_file(path.with_name("b"), named, {"t5xxl": found.corrections}) == note, "the same bytes"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back(tiny, sets, tmp_path, kind):
    stack, reuse = tiny.stack(), {4: 6}
    found = fitted(sets, stack, assign(8, [1, 4], reuse), replace(KINDS[kind], rank=2))
    path = tmp_path / "side.safetensors"
    write_side_file(path, plan_for(stack, reuse=reuse), {"t5xxl": found.corrections})
    again = read_side_file(path).corrections["t5xxl"]
    assert again.tensors.keys() == found.corrections.tensors.keys()
    assert again.extra_bytes == found.corrections.extra_bytes
    held_out = sets(stack, 20, 3)
    one, two = (corrected(held_out, stack, replace(found, corrections=c)) for c in (found.corrections, again))
    assert one == two


def test_other_weights_another_level_or_another_file_are_refused(tiny, kept):
    stack, plan, found, path, note = kept
    with pytest.raises(SkrrError, match="fitted on other weights"):
        read_side_file(path).corrections["t5xxl"].applied(tiny.stack(seed=1))
    level = replace(plan.levels[0], corrections=replace(note, file="0" * 64))
    with pytest.raises(SkrrError, match=r"not the side file that the plan names \([0-9a-f]{12} instead of 0{12}"):
        side_file_for(path, level)
    for skip, reuse in (((1,), None), ((1, 4), {4: 6})):
        level = replace(plan_for(stack, skip, reuse).levels[0], corrections=note)
        with pytest.raises(SkrrError, match="fitted for another level"):
            side_file_for(path, level)
        with pytest.raises(SkrrError, match="fitted for another level"):
            write_side_file(path, plan_for(stack, skip, reuse), {"t5xxl": found.corrections})
    with pytest.raises(SkrrError, match="cannot be read: No such file"):
        side_file_for(path.with_name("gone"), replace(plan.levels[0], corrections=note))
    with pytest.raises(SkrrError, match=r"no corrections: its metadata are .*expected skrr_corrections"):
        other = path.with_name("other.safetensors")
        save_file({"a": torch.zeros(2)}, other)
        read_side_file(other)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"2/matrix": torch.zeros(16, 9)}, r"t5xxl/2/matrix has shape \[16, 9\], expected \[16, 8\]"),
        ({"3/matrix": torch.zeros(16, 8)}, r"t5xxl/3/matrix has shape \[16, 8\], expected \[16, 24\]"),
        ({"1/matrix": torch.zeros(16, 24)}, "t5xxl/1/matrix .*expected no such tensor"),
        ({"2/bias": torch.zeros(16)}, "t5xxl/2/bias .*expected no such tensor"),
        ({"1/bias": torch.zeros(16)}, "t5xxl/1 has bias and down and up; expected a matrix, a bias or a bridge"),
        ({"1/up": torch.zeros(16, 17)}, r"t5xxl/1/up has shape \[16, 17\], expected \[16, 16\]"),
        ({"1/up": torch.zeros(16, 2)}, "the bridge t5xxl/1 has two ranks"),
        ({"1/down": torch.zeros(0, 17)}, r"t5xxl/1/down has shape \[0, 17\], expected \[1, 17\]"),
        ({"1/gain": torch.zeros(16)}, "t5xxl/1/gain .*expected no such tensor"),
        ({"8/matrix": torch.zeros(16, 8)}, "t5xxl/8/matrix .*expected no such tensor"),
        ({"01/bias": torch.zeros(16)}, "t5xxl/01/bias is for no sub-block of its encoders"),
        ({"2/matrix": torch.zeros(16, 8, dtype=torch.int8)}, "t5xxl/2/matrix is I8, expected F16"),
        ({"2/matrix": torch.full((16, 8), torch.nan)}, "t5xxl/2/matrix holds numbers that are not finite"),
        ({"2/matrix": torch.full((16, 8), torch.inf)}, "t5xxl/2/matrix holds numbers that are not finite"),
    ],
)
def test_hostile_tensors_are_sentences(kept, change, sentence):
    path = kept[3]
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = {**load_file(path), **{f"t5xxl/{name}": tensor for name, tensor in change.items()}}
    save_file(tensors, path, metadata)
    with pytest.raises(SkrrError, match=sentence):
        read_side_file(path)


def test_a_truncated_file_is_a_sentence(kept):
    path = kept[3]
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(SkrrError):
            read_side_file(path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(kept, monkeypatch):
    _, plan, found, path, _ = kept
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SkrrError, match=r"side\.safetensors cannot be written into .*: No space left on device\."):
        write_side_file(path, plan, {"t5xxl": found.corrections})
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_every_access_to_the_disk_may_fail(kept):
    _, plan, found, path, _ = kept
    ends = fail_everywhere(path.parent, lambda number: read_side_file(path), SkrrError)
    assert ends and all(error is not None for _, error in ends)
    corrections = {"t5xxl": found.corrections}
    ends = fail_everywhere(path.parent, lambda number: write_side_file(path, plan, corrections), SkrrError)
    assert {call for call, error in ends if error is None} <= {"mkdir", "unlink"}
    read_side_file(path)


def test_numbers_that_are_not_finite_are_never_written(kept):
    _, plan, found, path, _ = kept
    broken = replace(found.corrections, added={1: Bias(torch.full((16,), torch.nan))})
    with pytest.raises(SkrrError, match="holds numbers that are not finite"):
        write_side_file(path.with_name("new"), plan, {"t5xxl": broken})
    assert os.listdir(path.parent) == [path.name]
