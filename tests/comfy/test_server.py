"""The whole mission through a real server: load, calibrate, search, apply, encode, sample, save; then with a preset."""

import json
import os
import tempfile
from pathlib import Path

import pytest

from . import model_files
from .graphs import file_graph, saved_picture, tiny_graph
from .server import PromptRejected, Server, find_comfy_roots

OURS = {
    "SkrrApply",
    "SkrrCLIPLoader",
    "SkrrCalibrate",
    "SkrrDemoModels",
    "SkrrLoadPlan",
    "SkrrProjection",
    "SkrrReport",
    "SkrrSaveEncoder",
    "SkrrSavePlan",
    "SkrrSearch",
}
PROMPTS = "a red fox\ntwo blue lanterns above a wooden boat\nfog over a harbour"


@pytest.fixture(scope="module")
def models():
    with tempfile.TemporaryDirectory(prefix="skrr-models-") as folder:
        model_files.write_ordinary_files(Path(folder))
        yield Path(folder)


@pytest.fixture(scope="module")
def server(models):
    with Server(find_comfy_roots()[0], models=models) as running:
        yield running


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def with_search(graph, model, clip, *, sparsity, encoder="largest", **search):
    """`graph` with its positive prompt encoded by the CLIP that SkrrSearch and SkrrApply make."""
    wanted = {"beam": 2, "saved_gb": 0.0, "null_weight": 1.0, "reuse": True, "name": "my plan", "pinned": "", **search}
    return {
        **graph,
        "calibrate": node("SkrrCalibrate", clip=clip, model=model, prompts="text", text=PROMPTS, limit=8),
        "search": node(
            "SkrrSearch",
            clip=clip,
            model=model,
            calibration=["calibrate", 0],
            encoder=encoder,
            sparsity=sparsity,
            **wanted,
        ),
        **_applied(clip, ["search", 0], sparsity),
        "text": node("CLIPTextEncode", clip=["apply", 0], text="a red cat on a mat"),
        "found": node("PreviewAny", source=["search", 1]),
    }


def with_plan(graph, clip, sparsity, source="auto", text=""):
    """`graph` with its positive prompt encoded by the CLIP that a plan made smaller."""
    return {
        **graph,
        "plan": node("SkrrLoadPlan", source=source, text=text, clip=clip),
        **_applied(clip, ["plan", 0], sparsity),
        "text": node("CLIPTextEncode", clip=["apply", 0], text="a red cat on a mat"),
    }


def _applied(clip, plan, sparsity):
    return {
        "apply": node("SkrrApply", clip=clip, plan=plan, sparsity=sparsity),
        "report": node("PreviewAny", source=["apply", 1]),
    }


def text_of(result, name):
    (text,) = result.outputs[name]["text"]
    return text


def test_the_pack_loads_without_a_warning(server):
    """A tooltip on every input and output, and one line in the log: the import time."""
    info = server.object_info()
    ours = {name for name, definition in info.items() if definition["category"] == "Skrr"}
    assert ours == OURS
    for name in ours:
        inputs = info[name]["input"]
        for group in ("required", "optional"):
            for field, definition in inputs.get(group, {}).items():
                assert len(definition) > 1 and definition[1].get("tooltip"), f"{name}.{field} has no tooltip"
        assert all(info[name]["output_tooltips"])
    said = [line for line in server.log.splitlines() if "skrr-for-comfyui" in line]
    assert len(said) == 1 and "seconds: " in said[0] and "FAILED" not in said[0], said
    assert "Traceback" not in server.log


@pytest.mark.parametrize("family, encoder", [("flux", "t5xxl"), ("pixart", "largest"), ("sd3", "clip_g")])
def test_calibrate_search_apply_sample_save(server, family, encoder):
    graph = with_search(tiny_graph(family), ["models", 0], ["models", 1], sparsity=0.01, encoder=encoder)
    result = server.run(graph)
    assert saved_picture(server, result).std() > 5
    assert "discrepancy" in text_of(result, "found")
    report = text_of(result, "report")
    assert "sub-blocks skipped" in report and "Whole CLIP" in report
    assert any(message["node"] == "search" for message in result.progress)
    dense = saved_picture(server, server.run(tiny_graph(family)))
    assert abs(saved_picture(server, result) - dense).mean() > 0


def test_the_same_graph_with_ordinary_loaders(server):
    """CLIPLoader, UNETLoader and VAELoader on real files: a real-size CLIP-L, one level."""
    names = (model_files.CLIP_L, "sd3", model_files.SD3, "taesd3")
    graph = file_graph(*names, side=64, latent="EmptySD3LatentImage")
    graph = with_search(graph, ["unet", 0], ["clip", 0], sparsity=0.01, beam=1)
    result = server.run(graph)
    assert saved_picture(server, result).std() > 5
    assert "clip_l: CLIP text encoder, 12 layers, 768 wide" in text_of(result, "found")


@pytest.mark.skipif(not os.environ.get("SKRR_BIG_TESTS"), reason="5 GB of disk, 12 GB of memory: SKRR_BIG_TESTS=1")
def test_the_same_graph_with_a_preset_on_a_real_size_t5(server, models):
    """CLIPLoader reads a T5-XXL in fp8; auto takes PixArt's published plan; the report holds the exact bytes."""
    model_files.write_pixart_files(models)
    t5 = models / "text_encoders" / model_files.T5XXL_FP8
    if not t5.exists():
        model_files.write_t5xxl_fp8(t5)
    names = (model_files.T5XXL_FP8, "pixart", model_files.PIXART, "taesdxl")
    graph = file_graph(*names, side=272, latent="EmptyLatentImage")
    result = server.run(with_plan(graph, ["clip", 0], 0.4), timeout=1800)
    assert saved_picture(server, result).std() > 5
    report = text_of(result, "report")
    assert "21 of 48 sub-blocks skipped" in report and "41.92 %" in report
    assert "4.762 GB (4,762,310,656 bytes) before, 2.766 GB (2,765,735,936 bytes) after" in report


def test_cancel_then_load_the_partial_plan_and_go_on(server):
    """Cancel takes effect, the plan so far is listed and usable, and the same search resumes."""
    graph = with_search(
        tiny_graph("pixart"), ["models", 0], ["models", 1], sparsity=0.05, name="cancelled", null_weight=0.5, beam=8
    )
    prompt_id = server.post(graph)
    # The bar counts thousandths of a measurement, and the first level takes twelve.
    server.wait_for_message(
        prompt_id,
        lambda kind, data: kind == "progress" and data["node"] == "search" and data["value"] > 13_000,
    )
    server.interrupt()
    result = server.wait(prompt_id)
    if result.status == "success":
        pytest.fail("the search ended before it could be cancelled: make it longer")
    assert result.status == "interrupted"
    options = json.dumps(server.object_info()["SkrrLoadPlan"]["input"])
    assert "cancelled (partial).json" in options
    partial = with_plan(tiny_graph("pixart"), ["models", 1], 0.001, source="cancelled (partial).json")
    assert server.run(partial).status == "success"
    assert server.run(graph).status == "success"


def test_save_load_and_share_as_text(server):
    """A saved plan comes back by name and as text; a file is not overwritten unasked."""
    graph = with_search(tiny_graph("flux"), ["models", 0], ["models", 1], sparsity=0.01, encoder="t5xxl")
    graph["saved"] = node("SkrrSavePlan", plan=["search", 0], filename="fox", overwrite=False)
    graph["as text"] = node("PreviewAny", source=["saved", 0])
    result = server.run(graph)
    assert text_of(result, "saved") == "Saved as fox.json in models/skrr."
    text = text_of(result, "as text")
    report = text_of(result, "report")
    for source, words in (("fox.json", ""), ("auto", text)):
        again = server.run(with_plan(tiny_graph("flux"), ["models", 1], 0.01, source, words))
        assert text_of(again, "report") == report
    graph["saved"]["inputs"]["overwrite"] = False
    graph["text"]["inputs"]["text"] = "another prompt"
    graph["saved"]["inputs"]["filename"] = "fox.json"
    assert "already in models/skrr" in server.run(graph).error["exception_message"]


def test_a_pinned_plan_evaluates_nothing_upstream(server):
    """A shared workflow runs with its author's plan: prompts that do not exist here are not even asked for."""
    plain = with_plan(tiny_graph("pixart"), ["models", 1], 0.01, "cancelled (partial).json")
    report = text_of(server.run(plain), "report")
    (line,) = (line for line in report.splitlines() if line.startswith("To share this level: "))
    pinned = line.removeprefix("To share this level: ")
    assert pinned.startswith("skrr1.") and len(pinned) < 300
    graph = with_search(tiny_graph("pixart"), ["other", 0], ["models", 1], sparsity=0.01, pinned=pinned)
    graph["other"] = node("SkrrProjection", file="the-authors-flux.safetensors")
    graph["calibrate"]["inputs"]["prompts"] = "not on this machine.txt"
    result = server.run(graph)
    assert saved_picture(server, result).std() > 5
    assert not {"other", "calibrate"} & set(result.executed)
    assert text_of(result, "found").startswith("Pinned, not searched.")
    again = [text for text in text_of(result, "report").splitlines() if "sub-blocks skipped" in text]
    assert again == [text for text in report.splitlines() if "sub-blocks skipped" in text]


def test_a_projection_file_stands_in_for_model(server):
    """The same plan as with the MODEL of the same file, which is not loaded."""
    graph = with_search(tiny_graph("sd3"), ["unet", 0], ["models", 1], sparsity=0.01, encoder="t5xxl", beam=1)
    graph["unet"] = node("UNETLoader", unet_name=model_files.SD3, weight_dtype="default")
    with_model = text_of(server.run(graph), "found").splitlines()
    graph["unet"] = node("SkrrProjection", file=model_files.SD3)
    with_file = server.run(graph)
    assert text_of(with_file, "found").splitlines()[1:] == with_model[1:]


def test_load_kept_save_and_open_again(server):
    """SkrrCLIPLoader with a plan, SkrrSaveEncoder, SkrrCLIPLoader with the file alone: the same picture."""
    searched = file_graph(model_files.CLIP_L, "sd3", model_files.SD3, "taesd3", side=64, latent="EmptySD3LatentImage")
    searched = with_search(searched, ["unet", 0], ["clip", 0], sparsity=0.01, beam=1)
    loader = {"file1": model_files.CLIP_L, "type": "sd3", "sparsity": 0.01, "device": "default"}
    loader |= {f"file{number}": "none" for number in (2, 3, 4)}
    searched["kept"] = node("SkrrCLIPLoader", plan=["search", 0], **loader)
    searched["write"] = node(
        "SkrrSaveEncoder", clip=["kept", 0], encoder="clip_l", filename="kept", bake_lora=False, overwrite=True
    )
    whole_then_cut = server.run(searched)
    assert "LoRA none" in text_of(whole_then_cut, "write")
    opened = file_graph(model_files.CLIP_L, "sd3", model_files.SD3, "taesd3", side=64, latent="EmptySD3LatentImage")
    opened["small"] = node("SkrrCLIPLoader", **{**loader, "file1": "kept.safetensors"})
    opened["text"]["inputs"]["clip"] = ["small", 0]
    assert (saved_picture(server, server.run(opened)) == saved_picture(server, whole_then_cut)).all()


def test_an_edited_prompt_file_is_read_again(server):
    """ComfyUI caches by inputs, and a file's name is all it sees."""
    prompts = server.base / "input" / "mine.txt"
    prompts.parent.mkdir(exist_ok=True)
    prompts.write_text("a fox\na boat\n")
    graph = with_search(tiny_graph("pixart"), ["models", 0], ["models", 1], sparsity=0.01, beam=1)
    graph["calibrate"]["inputs"]["prompts"] = "mine.txt"
    assert "calibrate" in server.run(graph).executed
    assert "calibrate" in server.run(graph).cached
    prompts.write_text("a lighthouse\n")
    assert "calibrate" in server.run(graph).executed


def errors():
    """(name, change to a graph, words of the sentence)."""
    cut = '{"format": "skrr-plan", "version": 1,'
    future = json.dumps({"format": "skrr-plan", "version": 1, "requires": ["bridges"], "name": "x"})
    return [
        ("truncated", {"text": cut}, "breaks off or is wrong at line 1"),
        ("unknown requires", {"text": future}, "needs features this pack does not have: bridges. Update the pack"),
        ("another architecture", {"source": "flux1-dev"}, "is for another encoder than t5xxl"),
        ("no such file", {"source": "../secret.json"}, "There is no plan '../secret.json'"),
    ]


@pytest.mark.parametrize("name, change, words", errors(), ids=[e[0] for e in errors()])
def test_bad_plans_are_one_clear_sentence(server, name, change, words):
    graph = with_plan(tiny_graph("flux"), ["models", 1], 0.4)
    graph["plan"]["inputs"].update(change)
    result = server.run(graph)
    assert result.status == "error"
    assert words in result.error["exception_message"]
    assert server.run(tiny_graph("flux")).status == "success"


@pytest.mark.parametrize(
    "where, change, words",
    [
        ("search", {"sparsity": 1.0}, "cannot be reached: with every sub-block skipped it is"),
        ("search", {"sparsity": 0.0}, "The target is 0"),
        ("search", {"name": "../up"}, "is no plain file name"),
        ("calibrate", {"text": "  \n "}, "the text is empty"),
        ("apply", {"sparsity": 0.9}, "its largest level is"),
    ],
)
def test_bad_settings_are_one_clear_sentence(server, where, change, words):
    graph = with_search(tiny_graph("pixart"), ["models", 0], ["models", 1], sparsity=0.01)
    graph[where]["inputs"].update(change)
    result = server.run(graph)
    assert result.status == "error"
    assert words in result.error["exception_message"]


def test_model_and_clip_of_different_families(server):
    graph = with_search(tiny_graph("pixart"), ["other", 0], ["models", 1], sparsity=0.01)
    graph["other"] = node("SkrrTestModels", family="sd3", seed=0)
    assert "do not belong together" in server.run(graph).error["exception_message"]


def test_a_number_out_of_range_is_refused_before_anything_runs(server):
    graph = with_plan(tiny_graph("flux"), ["models", 1], 1.5)
    with pytest.raises(PromptRejected):
        server.run(graph)
