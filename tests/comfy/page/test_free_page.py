"""What the page is told of free parts: every figure, every reason as data, nothing of a run before."""

import json
from types import SimpleNamespace

import comfy.sd
import pytest
import torch

from .. import narrow_files, tiny_models
from ..comfy_roots import PACK

CLIPS = {"clip_l_model_config": tiny_models._CLIP, "clip_g_model_config": tiny_models._CLIP}


class NoTokenizer:
    """Nothing is encoded here."""

    def __init__(self, embedding_directory=None, tokenizer_data=None):
        pass


def sdxl_clip():
    """Two small CLIP text models, of which SDXL reads the states behind all layers but the last."""
    from comfy.sdxl_clip import SDXLClipModel

    target = SimpleNamespace(params={}, clip=SDXLClipModel, tokenizer=NoTokenizer)
    return comfy.sd.CLIP(target, model_options={"dtype": torch.float16, **CLIPS})


@pytest.fixture
def told(pack, monkeypatch):
    """As if a server ran the node 7 of the workflow w: what is known of it, as JSON has it, or None."""
    state = pack("nodes.comfy_host.page.pages_state")
    monkeypatch.setattr(state, "place", lambda: state.Place("w", "7", "p"))
    monkeypatch.setattr(state, "tell", lambda event, data: None)
    monkeypatch.setattr(state, "NODES", state.Bounded(4))

    def known():
        found = state.NODES.get(("w", "7"))
        return None if found is None else json.loads(json.dumps(found.page()))

    return known


def apply(pack, clip, **inputs):
    return pack("nodes.apply").SkrrApply.execute(clip=clip, **inputs).result


def test_without_a_plan_every_part_has_its_bytes_and_why(pack, told):
    clip = sdxl_clip()
    smaller, _ = apply(pack, clip)
    page = told()
    assert page["plan"] is None and page["exact"] == {} and page["warnings"] == []
    size = pack("nodes.comfy_host.weights.memory").module_bytes
    before, without, after = page["free"]["clip"]
    assert (before, after) == (size(clip.patcher.model), size(smaller.patcher.model))
    assert without == after == before - sum(part["bytes"] for part in page["free"]["parts"]) < before
    found = {(part["slot"], part["kind"]): part for part in page["free"]["parts"]}
    layer = found["clip_l", "layers"]
    assert layer["count"] == 1 and page["free"]["sparsity"] is None
    why = {"text": "this CLIP reads layer {read} of {layers}", "values": {"read": 3, "layers": 4}}
    assert layer["why"] == why
    assert found["clip_l", "norm"]["why"] == {"text": "this CLIP reads no state behind it", "values": {}}


def test_with_a_plan_its_level_is_told_beside_the_free_parts(pack, told):
    plans, clip = pack("skrr_engine.plans.plan"), sdxl_clip()
    encoder = pack("nodes.comfy_host.clip.trees").choose_encoder(clip, "clip_g")
    encoders = {"clip_g": plans.EncoderInfo(encoder.architecture)}
    level = plans.make_level(encoders, {"clip_g": plans.make_cut((2, 3))})
    smaller, _ = apply(pack, clip, plan=plans.Plan("two", encoders, (level,)), sparsity=0.001)
    page = told()
    before, without, after = page["free"]["clip"]
    assert page["plan"]["name"] == "two" and page["free"]["sparsity"] == page["plan"]["levels"][0]["sparsity"]
    assert after == pack("nodes.comfy_host.weights.memory").module_bytes(smaller.patcher.model)
    assert before > without > after
    assert without - after == sum(page["exact"]["clip_g"]["sub_blocks"][i] for i in (2, 3))


def test_where_nothing_is_free_that_is_told_too(pack, told):
    once, _ = apply(pack, sdxl_clip())
    assert told()["free"]["parts"]
    again, report = apply(pack, once)
    assert again is once and "passed on unchanged" in report
    (before, without, after), size = told()["free"]["clip"], pack("nodes.comfy_host.weights.memory").module_bytes
    assert before == without == after == size(once.patcher.model) and told()["free"]["parts"] == []


def test_the_loader_tells_what_it_did_not_read(pack, told, monkeypatch, tmp_path):
    narrow_files.narrow(monkeypatch)
    file = narrow_files.write_t5(tmp_path / "t5.safetensors", "fp16")
    monkeypatch.setattr(pack("nodes.load"), "model_file", lambda kind, name: file)
    load = pack("nodes.load").SkrrCLIPLoader.execute
    clip, report = load(file.name, "none", "none", "none", "pixart", 0.4, "default").result
    free, table = told()["free"], narrow_files.t5_state()["shared.weight"].numel() * 2
    (part,) = free["parts"]
    assert (part["slot"], part["kind"], part["bytes"]) == ("t5xxl", "file_table", table)
    assert free["clip"][0] - table == free["clip"][1] == free["clip"][2]
    assert free["clip"][2] == pack("nodes.comfy_host.weights.memory").module_bytes(clip.patcher.model)
    assert "stays in its file" in report
    with pytest.raises(pack("skrr_engine.errors").SkrrError):
        load(None, "none", "none", "none", "pixart", 0.4, "default")
    assert told() is None


def test_a_run_that_fails_leaves_no_figures_of_the_one_before(pack, told):
    apply(pack, sdxl_clip())
    assert told() is not None
    with pytest.raises(pack("skrr_engine.errors").SkrrError):
        apply(pack, None)
    assert told() is None


def test_lists_and_sentences_are_bounded(pack):
    because, pages = pack("nodes.comfy_host.clip.because"), pack("nodes.comfy_host.page.pages_free")
    part = pack("nodes.comfy_host.clip.free").FreePart
    why = because.Because("x" * 999 + "{read}", read=because.Listed(range(999)))
    many = tuple(part("s" * 999, "layers", ("a", "b"), (4, 2, True), 1, why) for _ in range(99))
    patched = SimpleNamespace(clip_bytes=(1000, 900), free=many, level=None, shared=True)
    assert len(json.dumps(pages.free_page(patched))) < 32 * 1000


def test_a_reason_is_a_sentence_and_its_parts(pack):
    because = pack("nodes.comfy_host.clip.because")
    three = because.Because("reads layers {read} of {layers}", read=because.Listed([9, 18, 27]), layers=36)
    assert three == "reads layers 9, 18 and 27 of 36" and f"{three}." == "reads layers 9, 18 and 27 of 36."
    assert three.template == "reads layers {read} of {layers}" and three.values["read"] == (9, 18, 27)
    assert str(because.Listed([4])) == "4"


def test_the_page_knows_every_reason_in_its_languages():
    """Reasons are written where they are found; the page says them word for word in its own language."""
    import re

    clip = PACK / "nodes" / "comfy_host" / "clip"
    source = "".join((clip / name).read_text(encoding="utf-8") for name in ("reads.py", "free.py"))
    said = set(re.findall(r'"((?:this CLIP|this workflow|only|a prompt) [^"]+)"', source))
    said -= {"this CLIP encodes in a way of its own"}  # then all is read
    known = (PACK / "web" / "free.mjs").read_text(encoding="utf-8")
    assert len(said) == 9 and all(f'"{text}"' in known for text in said), said
