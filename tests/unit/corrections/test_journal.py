"""A fit that was stopped goes on: what comes out is what would have come out, and nothing is summed twice."""

import os
from dataclasses import replace

import pytest
import torch

import skrr_engine.corrections.fit as fitting_room
from skrr_engine.corrections.sites import KINDS
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.errors import SkrrError
from skrr_engine.events import Step

from .measuring import SKIP, fitted

SETTINGS = replace(KINDS["bridge, all"], rank=3)


class Cancelled(Exception):
    pass


def stop_after(steps):
    """A listener that raises at the last of so many steps."""
    left = [steps]

    def hear(event):
        left[0] -= isinstance(event, Step)
        if not left[0]:
            raise Cancelled

    return hear


@pytest.fixture
def count_fits(monkeypatch):
    """How many places are fitted from here on."""
    fitted_places, usual = [], fitting_room._Fit._fitted
    monkeypatch.setattr(
        fitting_room._Fit, "_fitted", lambda self, place, kind: fitted_places.append(place) or usual(self, place, kind)
    )
    return fitted_places


def fit(sets, stack, folder, settings=SETTINGS, **options):
    one, two = sets(stack, 150, 1, **options), sets(stack, 30, 2)
    return fitting_room.fit_corrections(one, two, SKIP, settings, folder=folder)


@pytest.mark.parametrize("kind", ["bridge, all", "bias"])
def test_a_stopped_fit_ends_in_what_it_would_have_found(tiny, sets, tmp_path, count_fits, kind):
    stack, folder, settings = tiny.stack(), tmp_path / "fit", replace(KINDS[kind], rank=3)
    whole = fitted(sets, stack, settings=settings)
    count_fits.clear()
    with pytest.raises(Cancelled):
        fit(sets, stack, folder, settings, report=stop_after(4))
    before = list(count_fits)
    assert before and len(os.listdir(folder)) == len(before)
    found = fit(sets, stack, folder, settings)
    assert len(count_fits) == len(whole.sites) and sorted(set(count_fits)) == [site.place for site in whole.sites]
    assert found.sites == whole.sites and found.after == whole.after
    assert found.corrections.tensors.keys() == whole.corrections.tensors.keys()
    assert all(part.equal(whole.corrections.tensors[key]) for key, part in found.corrections.tensors.items())
    assert not folder.exists()


def test_another_fit_or_a_damaged_file_is_fitted_anew(tiny, sets, tmp_path, count_fits):
    stack, folder = tiny.stack(), tmp_path / "fit"
    with pytest.raises(Cancelled):
        fit(sets, stack, folder, report=stop_after(4))
    done = len(count_fits)
    first = sorted(folder.iterdir())[0]
    first.write_bytes(first.read_bytes()[:-3])
    count_fits.clear()
    whole = fitted(sets, stack, settings=SETTINGS)
    count_fits.clear()
    found = fit(sets, stack, folder)
    assert len(count_fits) == len(whole.sites) - done + 1
    assert found.sites == whole.sites
    with pytest.raises(Cancelled):
        fit(sets, stack, folder, report=stop_after(4))
    count_fits.clear()
    fit(sets, stack, folder, replace(SETTINGS, ridges=(0.5,)))
    assert len(count_fits) == len(whole.sites)


def test_what_others_have_in_the_folder_stays(tiny, sets, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    fit(sets, tiny.stack(), tmp_path)
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_a_folder_that_cannot_be_written_is_a_sentence(tiny, sets, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SkrrError, match=r"0001\.safetensors.* cannot be (read|written)"):
        fit(sets, tiny.stack(), tmp_path / "file" / "fit")


def test_a_place_that_is_left_alone_is_remembered_too(tiny, sets, tmp_path, count_fits):
    model = tiny.t5()
    model.encoder.block[1].layer[0].SelfAttention.v.weight.data.zero_()
    stack, settings = T5Stack(model), KINDS["all"]
    with pytest.raises(Cancelled):
        fit(sets, stack, tmp_path / "fit", settings, report=stop_after(4))
    assert 2 in count_fits
    count_fits.clear()
    found = fit(sets, stack, tmp_path / "fit", settings)
    assert 2 not in count_fits and not next(site for site in found.sites if site.place == 2).taken
    assert torch.isnan(torch.tensor(next(site for site in found.sites if site.place == 2).rho))
