"""Tiny random encoders of the transformers library, seeded, and calibrations over random tokens."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from skrr_engine.demo import pipeline
from skrr_engine.encoders.clip import ClipStack
from skrr_engine.encoders.t5 import T5Stack
from skrr_engine.measure.calibration import Row, make_calibration
from skrr_engine.measure.objective import Objective
from skrr_engine.measure.projection import linear_chain, no_projection

# On tensors this small a second thread only waits, long on a busy machine.
torch.set_num_threads(1)
# What was imported stays until the end: the collector need not walk through it again and again.
gc.freeze()


def randomize(model, seed, scale=0.5):
    """Fills every parameter: matrices scaled by their fan-in, norms around 1, tables and biases small."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if parameter.dim() == 1:
            value = 1 + 0.1 * noise
        else:
            value = scale * noise / parameter.shape[1] ** 0.5 * (4 if min(parameter.shape) < 8 else 1)
        parameter.data.copy_(value)
    return model.eval()


def make_t5(layers=4, seed=0, dtype=torch.float64, umt5=False, **changes):
    """A T5EncoderModel (or umT5), 16 wide."""
    sizes = dict(
        num_layers=layers, d_model=16, d_kv=4, d_ff=24, num_heads=2, vocab_size=40, feed_forward_proj="gated-gelu"
    )
    config = (UMT5Config if umt5 else T5Config)(**{**sizes, **changes})
    model = (UMT5EncoderModel if umt5 else T5EncoderModel)(config)
    return randomize(model.to(dtype), seed)


def make_clip(layers=3, seed=0, dtype=torch.float64, **changes):
    """A CLIPTextModelWithProjection, 16 wide, 12 positions."""
    sizes = dict(
        num_hidden_layers=layers, hidden_size=16, intermediate_size=24, num_attention_heads=2, vocab_size=40,
        max_position_embeddings=12, projection_dim=16, bos_token_id=38, eos_token_id=39, pad_token_id=39,
    )
    return randomize(CLIPTextModelWithProjection(CLIPTextConfig(**{**sizes, **changes})).to(dtype), seed)


def make_rows(count=3, seed=0, pooled=False, lengths=(5, 7)):
    """`count` prompts of random tokens that end in token 1 (T5) or 39 (CLIP), and a null prompt."""
    generator = torch.Generator().manual_seed(seed)

    def row(prompt, length):
        tokens = torch.randint(2, 38, (length - 1,), generator=generator).tolist()
        weights = {"sequence": (1 / length,) * length}
        if pooled:
            weights["pooled"] = (1.0,)
        return Row((*tokens, 39 if pooled else 1), prompt, weights)

    rows = [row(n, lengths[n % len(lengths)]) for n in range(count)]
    return make_calibration([f"prompt {n}" for n in range(count)], rows, [row(0, 1)])


def make_objective(stack, seed=0, project=True, **options):
    """An objective over 3 random prompts, behind a random linear projection."""
    pooled = stack.architecture.family == "clip"
    width = stack.architecture.width
    matrix = torch.randn(5, width, generator=torch.Generator().manual_seed(seed + 99), dtype=torch.float64)
    outputs = ("sequence", "pooled") if pooled else ("sequence",)
    projection = linear_chain("random", [(matrix, None)], torch.float64) if project else no_projection(outputs)
    return Objective(stack, make_rows(seed=seed, pooled=pooled), projection, **options)


def save_encoder(model, path, dtype=torch.float32, prefix="", metadata=None):
    """Writes a model to `path` in the tensor names of transformers, behind `prefix`; returns the path."""
    state = {
        prefix + name: tensor.to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "encoder.embed_tokens.weight"
    }
    save_file(state, path, metadata)
    return path


@pytest.fixture(scope="module")
def few_steps():
    """Pictures in two steps instead of twenty: enough where random weights draw noise anyway."""
    usual = pipeline.sample
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "sample", lambda predict, noise, steps, guidance: usual(predict, noise, 2, guidance))
        yield


@pytest.fixture(scope="session")
def forked(tmp_path_factory):
    """What jobs/forked_searches.py found; "folder" is where, "errors" what it wrote to stderr."""
    here, folder = Path(__file__).parent, tmp_path_factory.mktemp("forked")
    done = subprocess.run(
        [sys.executable, here / "jobs" / "forked_searches.py", folder], capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "folder": folder, "errors": done.stderr}


@pytest.fixture
def one_at_a_time(monkeypatch):
    """No two streams share a call. On some processors a product's last bit depends on how many rows it has; what is
    equal in exact arithmetic is then equal bit for bit."""
    monkeypatch.setattr("skrr_engine.measure.objective.CALL_TOKENS", 1)


@pytest.fixture
def tiny():
    """The builders of this file, as a namespace."""

    class Builders:
        t5, clip, rows, objective = (staticmethod(f) for f in (make_t5, make_clip, make_rows, make_objective))
        stack = staticmethod(lambda *args, **options: T5Stack(make_t5(*args, **options)))
        save = staticmethod(save_encoder)
        clip_stack = staticmethod(lambda *args, layer=1, **options: ClipStack(make_clip(*args, **options), layer))

    return Builders
