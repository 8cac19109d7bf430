"""What the choices of the nodes hold and what ComfyUI's own validation makes of them."""

import asyncio
import json

import pytest

from ..comfy_roots import PACK


@pytest.fixture
def nodes(pack, tmp_path, monkeypatch):
    """Our nodes as ComfyUI knows them, with no model files and no plans."""
    import nodes as comfy_nodes

    ours = pack("nodes").NODE_CLASS_MAPPINGS
    for name, node in ours.items():
        monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, name, node)
        node.GET_SCHEMA()
    monkeypatch.setattr("folder_paths.models_dir", str(tmp_path))
    monkeypatch.setattr("folder_paths.get_filename_list", lambda kind: [])
    return ours


def errors_of(kind, **inputs):
    """What the person sees of ComfyUI's validation of one node."""
    import execution

    graph = {
        "1": {"class_type": kind, "inputs": inputs},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    from comfy_extras.nodes_preview_any import PreviewAny

    import nodes as comfy_nodes

    comfy_nodes.NODE_CLASS_MAPPINGS.setdefault("PreviewAny", PreviewAny)
    _, _, _, found = asyncio.run(execution.validate_prompt("x", graph, None))
    return str(found.get("1", {}).get("errors", ""))


def test_no_model_files(pack, nodes):
    """The page has nothing to send for a list without entries."""
    error = pack("skrr_engine.errors").SkrrError
    rest = {"file2": "none", "file3": "none", "file4": "none", "type": "flux", "sparsity": 0.4, "device": "cpu"}
    for sent in ({}, {"file1": None}):
        found = errors_of("SkrrCLIPLoader", **rest, **sent)
        assert "No file is chosen in Skrr CLIP Loader" in found and "positional argument" not in found
    for sent in ({}, {"file": None}):
        assert errors_of("SkrrProjection", **sent) == ""
        with pytest.raises(error, match=r"No file is chosen in Skrr Projection\. Put a \.safetensors"):
            nodes["SkrrProjection"].execute(**sent)


@pytest.mark.parametrize("name", ["qwen_3_8b-Q4_K_M.gguf", "a folder/T5.GGUF"])
def test_a_gguf_file_is_told_where_it_is_loaded(pack, nodes, name):
    """ComfyUI lists none in models/text_encoders, but a workflow may name one."""
    error, more = pack("skrr_engine.errors").SkrrError, ("none", "none", "none", "flux2", 0.4, "default")
    words = r"is a GGUF file.*ComfyUI-GGUF's CLIPLoader \(GGUF\) and put Skrr Apply behind it\.$"
    with pytest.raises(error, match=words):
        nodes["SkrrCLIPLoader"].execute(name, *more)
    with pytest.raises(error, match=r"ComfyUI-GGUF's Unet Loader \(GGUF\) and connect that MODEL instead\.$"):
        nodes["SkrrProjection"].execute(name)
    pytest.importorskip("gguf")
    from ..formats import gguf_nodes

    titles = {node.TITLE for node in vars(gguf_nodes()).values() if hasattr(node, "TITLE")}
    assert {"CLIPLoader (GGUF)", "Unet Loader (GGUF)"} <= titles


@pytest.mark.parametrize("node", ["SkrrSaveEncoder", "SkrrSearch"])
def test_a_list_of_encoders_has_every_one_that_comfyui_has(nodes, node):
    """By the slots of docs/models.md's families; of a CLIP that is one encoder and no more, "largest" is enough."""
    (choice,) = (i for i in nodes[node].GET_SCHEMA().inputs if i.id == "encoder")
    releases = json.loads((PACK / "docs" / "results" / "free.json").read_text(encoding="utf-8")).values()
    slots = {slot: encoder["kind"] for found in releases for row in found.values()
             for slot, encoder in row["encoders"].items()}  # fmt: skip
    known = {slot for slot, kind in slots.items() if kind is not None} - {"text"}
    assert len(known) > 25 and known <= set(choice.options) and choice.options[0] == "largest"
    assert len(choice.options) == len(set(choice.options))


def test_a_plan_saved_in_this_session_is_listed_and_valid(pack, nodes):
    plan = pack("skrr_engine.plans.presets").load_preset("flux1-dev")

    def options():  # what /object_info gives the page at R
        return nodes["SkrrLoadPlan"].GET_NODE_INFO_V1()["input"]["required"]["source"][1]["options"]

    assert "mine.json" not in options()
    nodes["SkrrSavePlan"].execute(plan, "mine", False)
    assert "mine.json" in options()
    assert errors_of("SkrrLoadPlan", source="mine.json", text="") == ""
    assert nodes["SkrrLoadPlan"].execute("mine.json", "")[0] == plan


def test_what_a_pinned_plan_makes_needless_may_be_missing(pack, nodes):
    """A shared workflow runs where its author's plan file and prompt file are not."""
    text = pack("skrr_engine.plans.plan_json").dumps(pack("skrr_engine.plans.presets").load_preset("sd3"))
    assert errors_of("SkrrLoadPlan", source="gone.json", text=text) == ""
    assert nodes["SkrrLoadPlan"].execute("gone.json", text)[0].name == "sd3"
    assert "not_in_list" not in errors_of("SkrrCalibrate", prompts="gone.txt", text="", limit=4)


def test_folders_and_files_that_cannot_be_used(pack, nodes, tmp_path, monkeypatch):
    error = pack("skrr_engine.errors").SkrrError
    plan = pack("skrr_engine.plans.presets").load_preset("flux1-dev")
    (tmp_path / "skrr").write_text("a file")
    with pytest.raises(error, match=r"mine\.json cannot be written into"):
        nodes["SkrrSavePlan"].execute(plan, "mine", False)
    (tmp_path / "a.txt").write_text("a fox")
    monkeypatch.setattr("folder_paths.get_input_directory", lambda: str(tmp_path))

    def broken(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pathlib.Path.read_bytes", broken)
    with pytest.raises(error, match=r"a\.txt cannot be read: Input/output error"):
        nodes["SkrrCalibrate"].fingerprint_inputs(None, "a.txt", "", 4)


def test_folders_of_extra_model_paths_and_endings_in_capitals(pack, nodes, tmp_path, monkeypatch):
    """As ComfyUI reads an entry `skrr:` of extra_model_paths.yaml; models/skrr goes first."""
    folders, plans = pack("nodes.comfy_host.files.folders"), pack("skrr_engine.plans.presets")
    dumps = pack("skrr_engine.plans.plan_json").dumps
    own, extra, gone = tmp_path / "skrr", tmp_path / "elsewhere", tmp_path / "gone"
    files = ((own, "a.json", "sd3"), (extra, "a.json", "pixart-sigma"), (extra, "B.JSON", "flux1-dev"))
    for folder, name, preset in files:
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(dumps(plans.load_preset(preset)))
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "skrr", ([str(gone), str(extra)], set()))
    assert folders.list_plans() == ["B.JSON", "a.json"]
    assert nodes["SkrrLoadPlan"].execute("a.json", "")[0] == plans.load_preset("sd3")
    assert nodes["SkrrLoadPlan"].execute("B.JSON", "")[0] == plans.load_preset("flux1-dev")
    monkeypatch.setattr("folder_paths.get_filename_list", lambda kind: ["A.SAFETENSORS", "b.SfT", "c.bin"])
    assert folders.list_model_files("text_encoders") == ["A.SAFETENSORS", "b.SfT"]
    (tmp_path / "A.TXT").write_text("a fox")
    monkeypatch.setattr("folder_paths.get_input_directory", lambda: str(tmp_path))
    assert folders.list_prompt_files() == ["A.TXT"]


def test_every_type_of_comfyuis_own_loaders_is_there(pack, monkeypatch):
    import nodes as comfy_nodes

    monkeypatch.setattr("folder_paths.get_filename_list", lambda kind: [])
    theirs = [
        loader.INPUT_TYPES()["required"]["type"][0] for loader in (comfy_nodes.CLIPLoader, comfy_nodes.DualCLIPLoader)
    ]
    assert {kind for kinds in theirs for kind in kinds} <= set(pack("nodes.comfy_host.files.loading").CLIP_TYPES)
