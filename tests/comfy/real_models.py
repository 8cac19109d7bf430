"""The trained language models of benchmarks/language/models.py in ComfyUI's own classes."""

import functools
import importlib.util
import sys
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location(
    "skrr_language_models", PACK / "benchmarks" / "language" / "models.py"
)
models = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(models)
MODELS = models.MODELS
# Ordinary words of either model's table.
IDS = [300 + (97 * n) % 6007 for n in range(46)]


@functools.cache
def _state(slot):
    """Reading takes the most time; tensors are only ever read."""
    return models.state_of(MODELS[slot])


def real_clip(slot, **more):
    """A CLIP of the model with its trained weights; skips, aloud and by name, where its packages are not there."""
    try:
        models.find_file(MODELS[slot])
    except models.Missing as missing:
        pytest.skip(str(missing))
    return models.clip_of(MODELS[slot], state=_state(slot), **more)


def encoded(clip, slot, ids=None):
    """All that the CLIP hands on."""
    row = [(token, 1.0) for token in (IDS if ids is None else ids)]
    return clip.encode_from_tokens({slot: [row]}, return_dict=True)
