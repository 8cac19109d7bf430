"""The workflows that come with the pack: sound against the real schemas, laid out, pictured, and runnable.

They name files of several GB. Where they run here, tiny models of the same kinds stand in for the loaders, and a plan
for the tiny encoder for the published one; every other node, link and value is the file's own.
"""

import copy
import json
import tempfile
from pathlib import Path

import numpy
import pytest
from PIL import Image

from . import model_files, tiny_language, tiny_models
from .comfy_roots import PACK
from .server import Server, find_comfy_roots
from .steps import plan_for
from .ui_graphs import check, to_api

FILES = sorted((PACK / "workflows").glob("*.json"))
TINY = {"skrr_3_plan_flux1_dev": "flux", "skrr_3_plan_sd3": "sd3", "skrr_3_plan_pixart_sigma": "pixart"}
TINY |= {"skrr_4_compare": "flux", "skrr_4_search": "flux", "skrr_1_demo": "pixart", "skrr_2_free_flux2_klein": "klein"}
DIRECTORIES = {"checkpoints", "diffusion_models", "text_encoders", "vae"}
TINY_PLAN = "of the tiny encoder.json"
WEIGHTS = PACK / "skrr_engine" / "demo" / "weights"
# Loaders -> which output of SkrrTestModels (MODEL, CLIP, VAE) each of theirs is.
LOADERS = {
    "UNETLoader": (0,), "CLIPLoader": (1,), "DualCLIPLoader": (1,), "TripleCLIPLoader": (1,), "VAELoader": (2,),
    "CheckpointLoaderSimple": (0, 1, 2), "SkrrProjection": (0,), "SkrrDemoModels": (0, 1, 2),
}  # fmt: skip


@pytest.fixture(scope="module")
def server():
    with tempfile.TemporaryDirectory(prefix="skrr-models-") as folder:
        model_files.write_ordinary_files(Path(folder))
        with Server(find_comfy_roots()[0], models=Path(folder)) as running:
            running.plans = Path(folder) / "skrr"
            yield running


@pytest.fixture(scope="module")
def info(server):
    return server.object_info()


def read(name):
    return json.loads((PACK / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_agrees_with_the_real_schemas(info, path):
    """Nodes, slots, links, the number, order, type and range of widget values."""
    check(read(path.stem), info)


def test_every_node_of_the_pack_is_in_one(info):
    ours = {name for name, definition in info.items() if definition["category"] == "Skrr"}
    used = {node["type"] for path in FILES for node in read(path.stem)["nodes"]}
    assert ours <= used


def break_values(graph):
    graph["nodes"][4]["widgets_values"].pop()


def break_order(graph):
    next(n for n in graph["nodes"] if n["type"] == "KSampler")["widgets_values"].reverse()


def break_link(graph):
    graph["links"][0][4] += 1


def break_type(graph):
    next(n for n in graph["nodes"] if n["type"] == "SkrrApply")["type"] = "SkrrAplly"


def break_input(graph):
    graph["nodes"][5]["inputs"][0]["name"] = "klip"


def break_range(graph):
    next(n for n in graph["nodes"] if n["type"] == "SkrrApply")["widgets_values"][0] = 1.5


BREAKS = [break_values, break_order, break_link, break_type, break_input, break_range]


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
def test_the_check_finds_what_is_wrong(info, damage):
    graph = read("skrr_3_plan_flux1_dev")
    check(graph, info)
    damage(graph)
    with pytest.raises((AssertionError, IndexError)):
        check(graph, info)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nodes_do_not_overlap_and_groups_hold_theirs(path):
    graph = read(path.stem)
    boxes = {
        node["id"]: (x, y - 30, x + node["size"][0], y + node["size"][1])
        for node in graph["nodes"]
        for x, y in [node["pos"]]
    }
    for a in boxes:
        for b in boxes:
            if a < b:
                (l1, t1, r1, b1), (l2, t2, r2, b2) = boxes[a], boxes[b]
                assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1, (graph["nodes"][a - 1]["type"], b)
    frames = [(g["bounding"][0], g["bounding"][1], g["bounding"][0] + g["bounding"][2], g["bounding"][1] +
               g["bounding"][3]) for g in graph["groups"]]  # fmt: skip
    for left, top, right, bottom in boxes.values():
        for fl, ft, fr, fb in frames:
            inside = fl <= left and ft <= top and right <= fr and bottom <= fb
            assert inside or right <= fl or fr <= left or bottom <= ft or fb <= top


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_that_is_named_can_be_downloaded(path):
    """As the page's dialog of missing models wants it: name, address and folder, in the node that loads the file."""
    named = 0
    for node in read(path.stem)["nodes"]:
        values = [value for value in node.get("widgets_values", ()) if isinstance(value, str)]
        files = [value for value in values if value.endswith((".safetensors", ".pth")) and " " not in value]
        models = node.get("properties", {}).get("models", [])
        assert [model["name"] for model in models] == files, node["type"]
        for model in models:
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith("/" + model["name"])
            assert "/resolve/main/" in model["url"] and model["directory"] in DIRECTORIES
        named += len(models)
    assert named or path.stem == "skrr_1_demo"


def test_every_workflow_has_skrr_in_its_title_and_the_demo_is_the_first():
    assert FILES[0].stem == "skrr_1_demo"
    for path in FILES:
        (note,) = (node for node in read(path.stem)["nodes"] if node["type"] == "MarkdownNote")
        assert path.stem.startswith("skrr_") and note["widgets_values"][0].startswith("# Skrr: ")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_thumbnail_has_the_same_name(path):
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.format == "JPEG" and picture.size == (640, 400)
        assert len(picture.getcolors(1 << 20)) > 500


def with_stand_ins(posted, family, plan):
    """The posted graph with tiny models in the place of its loaders, small and short."""
    gone = {number: LOADERS[node["class_type"]] for number, node in posted.items() if node["class_type"] in LOADERS}
    kept = {number: node for number, node in posted.items() if number not in gone}
    for node in kept.values():
        inputs = node["inputs"]
        for name, value in inputs.items():
            if isinstance(value, list) and value[0] in gone:
                inputs[name] = ["models", gone[value[0]][value[1]]]
        match node["class_type"]:
            case "SkrrLoadPlan":
                inputs["text"] = plan
            case "SkrrApply" if "plan" in inputs:
                inputs["sparsity"] = 0.001
            case "SkrrApply" if inputs["sparsity"]:
                inputs |= {"sparsity": 0.001, "source": TINY_PLAN}
            case "SkrrCalibrate":
                inputs |= {"prompts": "text", "text": "a red fox\ntwo lanterns", "limit": 2}
            case "SkrrSearch":
                inputs |= {"sparsity": 0.01, "beam": 1}
            case "KSampler":
                inputs["steps"] = 2
            case "EmptySD3LatentImage" | "EmptyLatentImage" | "EmptyFlux2LatentImage":
                inputs |= dict.fromkeys(("width", "height"), tiny_models.image_side(family))
    return kept | {"models": {"class_type": "SkrrTestModels", "inputs": {"family": family, "seed": 0}}}


@pytest.mark.parametrize("name", TINY)
def test_a_workflow_runs_on_tiny_models(server, info, pack, name):
    family = TINY[name]
    make = {"flux": tiny_models.flux_clip, "sd3": tiny_models.sd3_clip, "pixart": tiny_models.pixart_clip}.get(family)
    plan = "" if make is None else pack("skrr_engine.plans.plan_json").dumps(plan_for(pack, make(), (3, 5)))
    server.plans.mkdir(exist_ok=True)
    (server.plans / TINY_PLAN).write_text(plan)
    posted = to_api(read(name), info)
    result = server.run(with_stand_ins(posted, family, plan), timeout=1800)
    assert result.status == "success", result.error
    wanted = {number for number, node in posted.items() if node["class_type"] not in LOADERS}
    assert wanted <= {*result.executed, *result.cached}
    said = " ".join(text for shown in result.outputs.values() for text in shown.get("text", ()))
    words = {
        "skrr_4_search": ("discrepancy", "Saved as my flux plan.json"),
        "skrr_1_demo": ("Verdict: ", "sub-blocks skipped", "Pictures: "),
        "skrr_4_compare": ("Verdict: ", "2 of 12 sub-blocks skipped", "Pictures: "),
        "skrr_2_free_flux2_klein": ("9 layers", "this CLIP reads layers 9, 18 and 27 of 36"),
    }
    assert all(word in said for word in words.get(name, ("2 of 12 sub-blocks skipped",)))


def test_the_loading_workflow_runs_on_a_file(server, info, pack):
    """SkrrCLIPLoader needs a real file: a real-size CLIP-L, as SD3 takes it alone."""
    posted = to_api(read("skrr_4_load_less"), info)
    from comfy import sd1_clip

    trees, plans = pack("nodes.comfy_host.encoders.clip"), pack("skrr_engine.plans.plan")
    transformer = sd1_clip.SDClipModel(device="meta").transformer
    encoders = {"clip_l": plans.EncoderInfo(trees.architecture(transformer))}
    level = plans.make_level(encoders, {"clip_l": plans.make_cut((3, 5))})
    text = pack("skrr_engine.plans.plan_json").dumps(plans.Plan("test", encoders, (level,)))
    posted = with_stand_ins(posted, "sd3", text)
    for node in posted.values():
        if node["class_type"] == "SkrrCLIPLoader":
            node["inputs"] |= {"file1": model_files.CLIP_L, "file2": "none", "type": "sd3", "sparsity": 0.001}
        if node["class_type"] == "SkrrSaveEncoder":
            node["inputs"]["encoder"] = "largest"
    files = {
        "unet": {"class_type": "UNETLoader", "inputs": {"unet_name": model_files.SD3, "weight_dtype": "default"}},
        "vae": {"class_type": "VAELoader", "inputs": {"vae_name": "taesd3"}},
    }
    for node in posted.values():
        for name, value in node["inputs"].items():
            if value == ["models", 0]:
                node["inputs"][name] = ["unet", 0]
            elif value == ["models", 2]:
                node["inputs"][name] = ["vae", 0]
    del posted["models"]
    result = server.run(posted | files, timeout=1800)
    assert result.status == "success", result.error
    said = " ".join(text for shown in result.outputs.values() for text in shown.get("text", ()))
    assert "t5xxl_skrr.safetensors" in said and "2 of 24 sub-blocks skipped" in said


def test_the_demo_calibrates_on_its_own_world(pack):
    """The pack's prompts for photographs would say nothing about a model that knows coloured shapes."""
    (node,) = (node for node in read("skrr_1_demo")["nodes"] if node["type"] == "SkrrCalibrate")
    prompts, text, _ = node["widgets_values"]
    captions = pack("skrr_engine.demo.world.scoring").calibration_captions(64)
    assert prompts == "text" and text.split("\n") == captions


def test_the_demo_runs_as_it_is(server, info):
    """Nothing stands in for anything: search, two pictures, report."""
    result = server.run(to_api(read("skrr_1_demo"), info), timeout=1800)
    assert result.status == "success", result.error
    said = " ".join(text for shown in result.outputs.values() for text in shown.get("text", ()))
    assert "Verdict: " in said and "sub-blocks skipped" in said and "Pictures: " in said


def test_the_free_picture_is_the_dense_one(server, info):
    """The workflow of free parts with Skrr Apply, and with the prompt taken from the loader: equal pixel by pixel."""
    posted = with_stand_ins(to_api(read("skrr_2_free_flux2_klein"), info), tiny_language.KLEIN, "")
    dense = copy.deepcopy(posted)
    (apply,) = (number for number, node in posted.items() if node["class_type"] == "SkrrApply")
    for node in dense.values():
        if node["class_type"] == "CLIPTextEncode" and node["inputs"]["clip"] == [apply, 0]:
            node["inputs"]["clip"] = ["models", 1]
    free, whole = (picture_of(server, server.run(graph, timeout=1800)) for graph in (posted, dense))
    assert free.shape == whole.shape and free.std() > 5
    assert (free == whole).all()


def picture_of(server, result):
    """The one picture that a run saved, as numbers."""
    assert result.status == "success", result.error
    (image,) = (image for shown in result.outputs.values() for image in shown.get("images", ()))
    with Image.open(server.base / "output" / image["filename"]) as picture:
        return numpy.asarray(picture, dtype=float)
