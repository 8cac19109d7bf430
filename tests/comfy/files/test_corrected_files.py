"""Corrected encoders and files: Skrr CLIP Loader with a corrected plan, and Skrr Save Encoder's files with everything
inside. What they give is what Skrr Apply makes of ComfyUI's own loader's CLIP, bit for bit, in every storage format."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from .. import narrow_files
from ..corrected import made_up
from ..dynamic_vram import CARD, simulate
from ..narrow_files import PLAIN, SCALED
from ..steps import TEXT, encode, make_lora, with_lora, without_free
from .test_file_formats import FORMATS, assert_same, bits, load_dense, tensors, write

SKIP, REUSE, MATRICES = (0, 5, 3, 46, 47), {0: 2}, (4, 7, 10, 45)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    narrow_files.narrow(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.setattr("folder_paths.get_folder_paths", lambda kind: [str(folder)])
    monkeypatch.setattr("folder_paths.models_dir", str(folder))
    (folder / "skrr").mkdir(exist_ok=True)


@pytest.fixture
def beside(pack, folder):
    """beside(clip, slot) -> (plan, corrections of that slot): corrections made up for a dense CLIP, their side file
    among the plans."""

    def make(clip, slot="t5xxl", weights=None, skip=SKIP, reuse=REUSE, matrices=MATRICES):
        plans, side = pack("skrr_engine.plans.plan"), pack("skrr_engine.corrections.side_file")
        one = made_up(pack, clip, slot, skip, reuse, matrices)
        one = one if weights is None else replace(one, weights=weights)
        info = {slot: plans.EncoderInfo(one.architecture)}
        plain = plans.Plan("fox", info, (plans.make_level(info, {slot: one.cut}),))
        path = folder / "skrr" / "new.safetensors"
        note = side.write_side_file(path, plain, {slot: one})
        path.rename(path.with_name(f"fox-{note.file[:12]}.safetensors"))
        return plain.with_levels([replace(plain.levels[0], corrections=note)]), one

    return make


@pytest.fixture
def apply(pack):
    """apply(dense CLIP, plan) -> Patched, as Skrr Apply and without its free parts, as the loader has it."""

    def make(clip, plan):
        found = pack("nodes.comfy_host.files.side_files").corrections_for(plan.levels[0])
        return without_free(pack, clip, plan, corrections=found)

    return make


@pytest.fixture
def load(pack):
    def make(*paths, kind="pixart", plan=None, **more):
        level = None if plan is None else plan.levels[0]
        return pack("nodes.comfy_host.files.loading").load_kept([*paths], kind, plan, level, **more)

    return make


@pytest.fixture
def save(pack, folder):
    """save(clip, name, slot) -> the file."""

    def make(clip, name, slot="t5xxl", bake_lora=False):
        encoder = pack("nodes.comfy_host.clip.trees").choose_encoder(clip, slot)
        said = pack("nodes.comfy_host.files.saving").save_encoder(encoder, name, bake_lora, overwrite=True)
        assert "corrections baked in" in said
        return folder / f"{name}.safetensors"

    return make


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(folder, beside, apply, load, save, name):
    file = write(folder, name)
    dense = load_dense(file)
    plan, one = beside(dense)
    cut = apply(dense, plan)
    wanted = encode(cut.clip)
    loaded = load(file, plan=plan)
    assert_same(loaded.clip, cut.clip)
    assert torch.equal(encode(loaded.clip), wanted)
    assert loaded.encoder_bytes == cut.encoder_bytes and loaded.clip_bytes == cut.clip_bytes

    baked, twin = save(cut.clip, "from cut"), save(loaded.clip, "from loaded")
    reopened = load(baked)
    assert_same(reopened.clip, cut.clip)
    assert torch.equal(encode(reopened.clip), wanted)
    assert reopened.clip_bytes[1] == cut.clip_bytes[1]
    third = save(reopened.clip, "from reopened")
    first, *others = (tensors(path) for path in (baked, twin, third))
    for other in others:
        assert other.keys() == first.keys() and all(torch.equal(bits(first[key]), bits(other[key])) for key in first)
    check_stored(first, tensors(file), one, name)


def check_stored(saved, original, one, name):
    """What was not fitted is as in the dense file, to the bit; what was is in the width that it runs in."""
    fitted = {f"encoder.block.{n // 2}.layer.{n % 2}.{'DenseReluDense.wo' if n % 2 else 'SelfAttention.o'}.weight": n
              for n in one.matrices}  # fmt: skip
    width = PLAIN[name] if name in ("fp32", "fp16", "bf16") else torch.float16
    for key, place in fitted.items():
        assert saved[key].dtype == width and torch.equal(saved[key], one.matrices[place].to(width))
        assert not any(other.startswith(key.removesuffix("weight")) for other in saved.keys() - {key})
    rest = {key for key in saved.keys() - fitted.keys() if key in original}
    assert rest and all(torch.equal(bits(saved[key]), bits(original[key])) for key in rest)
    added = {key: tensor for key, tensor in saved.items() if key.startswith("skrr_added.")}
    assert set(added) == {"skrr_added.0.down", "skrr_added.0.up", "skrr_added.5.down", "skrr_added.5.up",
                          "skrr_added.3.bias"}  # fmt: skip
    assert all(torch.equal(added[f"skrr_added.{n}.{part}"], tensor)
               for (n, part), tensor in one.tensors.items() if part != "matrix")  # fmt: skip


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_one_of_several(pack, folder, beside, apply, load, save, kind):
    """A CLIP text model among others: with its side file, and baked; the others stay what they are."""
    t5, clip_l = write(folder, "fp16"), folder / "clip_l.safetensors"
    save_file(narrow_files.clip_state(), clip_l)
    files = [clip_l, t5]
    if kind == "sd3":
        save_file(narrow_files.clip_state(large=True), folder / "clip_g.safetensors")
        files.insert(1, folder / "clip_g.safetensors")
    import comfy.sd

    dense = comfy.sd.load_clip([*map(str, files)], clip_type=getattr(comfy.sd.CLIPType, kind.upper()))
    plan, one = beside(dense, "clip_l", skip=(5, 0, 3), reuse={0: 2}, matrices=(4, 6, 7))
    cut = apply(dense, plan)
    loaded = load(*files, kind=kind, plan=plan).clip
    baked = load(save(loaded, "baked l", "clip_l"), *files[1:], kind=kind).clip
    for clip in (loaded, baked):
        assert_same(clip, cut.clip)
        if kind == "flux":  # SD3 joins encoders that are not as narrow as these
            assert torch.equal(encode(clip), encode(cut.clip)) and torch.equal(pooled(clip), pooled(cut.clip))
    assert one.added and one.matrices


def pooled(clip):
    """What CLIP-L gives to FLUX."""
    return clip.encode_from_tokens(clip.tokenize(TEXT), return_pooled=True)[1]


def test_the_nodes(folder, beside, save, pack, monkeypatch):
    """What people read: Skrr CLIP Loader's report of a corrected plan, Skrr Save Encoder's, and that of its file."""
    file, nodes = write(folder, "fp16"), pack("nodes.load")
    monkeypatch.setattr(nodes, "model_file", lambda kind, name: folder / name)
    plan, _ = beside(load_dense(file))

    def load(name, **more):
        others = dict.fromkeys(("file2", "file3", "file4"), "none")
        return nodes.SkrrCLIPLoader.execute(name, **others, type="pixart", sparsity=0.01, device="cpu", **more).args

    clip, report = load(file.name, plan=plan)
    assert "t5xxl: corrected, with what was fitted on these very weights." in report
    said = pack("nodes.save").SkrrSaveEncoder.execute(clip, "largest", "baked", False, True).args[0]
    assert "5 sub-blocks left out, " in said and "corrections baked in, LoRA none." in said
    again, report = load("baked.safetensors")
    assert "inside the file" in report and "t5xxl: corrected, with what was fitted on these very weights." in report
    assert report.endswith("which no line of text can carry. Share its files instead.")
    assert torch.equal(encode(again), encode(clip))


def test_a_lora_on_what_was_fitted_is_baked(folder, beside, apply, load, save):
    dense = load_dense(write(folder, "fp16"))
    cut = apply(dense, beside(dense)[0]).clip
    lora = make_lora(cut, (4, 7, 8))
    styled = with_lora(cut, lora)
    baked = load(save(styled, "styled", bake_lora=True)).clip
    assert torch.equal(encode(baked), encode(styled)) and not torch.equal(encode(baked), encode(cut))
    assert torch.equal(encode(load(save(styled, "left out")).clip), encode(cut))


@pytest.mark.parametrize("name", ["fp16", "fp8 e4m3fn", SCALED])
def test_dynamic_vram(folder, beside, apply, load, save, monkeypatch, name):
    file = write(folder, name)
    simulate(monkeypatch, 1 << 30)
    monkeypatch.setattr("comfy.model_management.text_encoder_device", lambda: CARD)
    dense = load_dense(file)
    plan, _ = beside(dense)
    cut, loaded = apply(dense, plan).clip, load(file, plan=plan).clip
    baked = load(save(loaded, "dynamic")).clip
    assert cut.patcher.is_dynamic() and loaded.patcher.is_dynamic() and baked.patcher.is_dynamic()
    for clip in (loaded, baked):
        assert_same(clip, cut)
    wanted = encode(cut)  # what was loaded once is not told bit by bit any more
    for clip in (loaded, baked):
        assert torch.equal(encode(clip), wanted)


def test_built_anew(folder, beside, load, save):
    """As ComfyUI does it for hooks and several GPUs: from the same files, with the same corrections."""
    file = write(folder, "fp16")
    loaded = load(file, plan=beside(load_dense(file))[0]).clip
    baked = load(save(loaded, "baked")).clip
    for clip in (loaded, baked):
        factory, arguments = clip.patcher.cached_patcher_init
        again = clip.clone()
        again.patcher = factory(*arguments, disable_dynamic=True)
        again.cond_stage_model = again.patcher.model
        assert torch.equal(encode(again), encode(loaded))


def test_layers_that_no_picture_reads(folder, beside, apply, load, save, pack):
    """By what a plan keeps there, too, corrections know their weights; after that the layers go as ever."""
    files = [folder / "clip_l.safetensors", folder / "clip_g.safetensors"]
    for path in files:
        save_file(narrow_files.clip_state(large=path.stem == "clip_g"), path)
    import comfy.sd

    dense = comfy.sd.load_clip([*map(str, files)])
    plan, _ = beside(dense, "clip_l", skip=(5, 3), reuse={}, matrices=(4, 23))
    cut = apply(dense, plan)
    assert any(part.kind == "layers" and part.slot == "clip_l" for part in cut.free)
    loaded = load(*files, kind="sdxl", plan=plan)
    assert loaded.clip_bytes == cut.clip_bytes
    for clip in (loaded.clip, load(save(loaded.clip, "baked l", "clip_l"), files[1], kind="sdxl").clip):
        assert_same(clip, cut.clip)


def test_other_weights_and_no_side_file(folder, beside, load, pack):
    file, error = write(folder, "fp16"), pack("skrr_engine.errors").SkrrError
    plan, _ = beside(load_dense(file), weights="f" * 64)
    with pytest.raises(error, match=r"t5xxl: These corrections were fitted on other weights than"):
        load(file, plan=plan)
    plan, _ = beside(load_dense(file))
    with pytest.raises(error, match=r"fitted on other weights"):
        load(write(folder, "fp8 e4m3fn"), plan=plan)
    for path in (folder / "skrr").iterdir():
        path.unlink()
    with pytest.raises(error, match=r"needs its corrections, and their side file .* is not in models/skrr"):
        load(file, plan=plan)


DAMAGED = {
    "no list": (lambda s, m: m.pop("skrr_fitted"), "its list of fitted sub-blocks is ''"),
    "a list of words": (lambda s, m: m.update(skrr_fitted='["4"]'), "its list of fitted sub-blocks is"),
    "far away": (lambda s, m: m.update(skrr_fitted="[4, 48]"), "its list of fitted sub-blocks is"),
    "twice": (lambda s, m: m.update(skrr_fitted="[4, 4]"), "its list of fitted sub-blocks is"),
    "true": (lambda s, m: m.update(skrr_fitted="[true]"), "its list of fitted sub-blocks is"),
    "deep": (lambda s, m: m.update(skrr_fitted="[" * 5000), "its list of fitted sub-blocks is"),
    "a removed one": (lambda s, m: m.update(skrr_fitted="[4, 5]"), "it lacks the fitted matrix"),
    "a shared one": (lambda s, m: m.update(skrr_fitted="[2]"), "expected no such tensor"),
    "shape": (lambda s, m: s.update({"skrr_added.5.up": torch.zeros(32, 4)}), "has two ranks"),
    "half": (lambda s, m: s.pop("skrr_added.5.up"), "expected a matrix, a bias or a bridge"),
    "a kept place": (lambda s, m: s.update({"skrr_added.4.bias": torch.zeros(32)}), "expected no such tensor"),
    "no place": (lambda s, m: s.update({"skrr_added.x.bias": torch.zeros(32)}), "is for no place"),
    "a matrix": (lambda s, m: s.update({"skrr_added.5.matrix": torch.zeros(32, 32)}), "is for no place"),
    "nan": (lambda s, m: s["skrr_added.3.bias"].fill_(torch.nan), "not finite"),
    "integers": (lambda s, m: s.update({"skrr_added.3.bias": torch.zeros(32, dtype=torch.int8)}), "is I8, expected"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_files(folder, beside, apply, load, save, pack, what):
    dense = load_dense(write(folder, "fp16"))
    file = save(apply(dense, beside(dense)[0]).clip, "whole")
    state, metadata = tensors(file), dict(pack("skrr_engine.files.header").read_header(file).metadata)
    damage, sentence = DAMAGED[what]
    damage(state, metadata)
    save_file(state, folder / "damaged.safetensors", metadata)
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match="damaged.safetensors is damaged: .*" + sentence):
        load(folder / "damaged.safetensors")


def test_a_plan_inside_that_corrects_another_encoder(folder, beside, save, load, pack):
    import comfy.sd

    files, plans = [folder / "clip_l.safetensors", write(folder, "fp16")], pack("skrr_engine.plans.plan")
    save_file(narrow_files.clip_state(), files[0])
    dense = comfy.sd.load_clip([*map(str, files)], clip_type=comfy.sd.CLIPType.FLUX)
    plan, one = beside(dense)
    file = save(load(*files, kind="flux", plan=plan).clip, "whole")
    choose = pack("nodes.comfy_host.clip.trees").choose_encoder
    infos = {slot: plans.EncoderInfo(choose(dense, slot).architecture) for slot in ("clip_l", "t5xxl")}
    note = plans.SideFileNote("0" * 64, {"clip_l": "0" * 64})
    level = plans.make_level(infos, {"clip_l": plans.make_cut((3,)), "t5xxl": one.cut}, None, note)
    metadata = dict(pack("skrr_engine.files.header").read_header(file).metadata)
    metadata["skrr_plan"] = pack("skrr_engine.plans.plan_json").dumps(plans.Plan("odd", infos, (level,)))
    save_file(tensors(file), folder / "odd.safetensors", metadata)
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=r"needs its corrections, and their side file"):
        load(files[0], folder / "odd.safetensors", kind="flux")


def test_no_other_reader_takes_it_for_a_plain_one(folder, beside, apply, save, pack):
    dense = load_dense(write(folder, "fp16"))
    file = save(apply(dense, beside(dense)[0]).clip, "baked")
    with pytest.raises(pack("skrr_engine.errors").PlanError, match="corrections"):
        pack("skrr_engine.files.files").read_plan(file)
    assert json.loads(pack("skrr_engine.files.header").read_header(file).metadata["skrr_fitted"]) == [*MATRICES]
