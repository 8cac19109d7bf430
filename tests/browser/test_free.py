"""Free parts on the panels of Skrr Apply and Skrr CLIP Loader: said before the run, in figures after it, gone with an
error."""

import re
import uuid

import pytest
from playwright.sync_api import expect

from skrr_engine.plans.architecture import Architecture
from skrr_engine.plans.plan import EncoderInfo, Plan, make_cut, make_level
from skrr_engine.plans.plan_json import dumps

from ..comfy.tiny_language import write_umt5

BEFORE = "What no picture reads goes free when this runs. Above a sparsity of 0 the best plan at hand takes out more."
LOADER_BEFORE = "What no picture reads goes free when this runs, without a plan; a plan takes out more."
FIGURES = re.compile(r"^(\d+\.\d+) → (\d+\.\d+) MB \((\d+) % smaller\), no bit of any picture changed$")


def shown(tab, kind="SkrrApply"):
    """The lines of the parts: (size, text)."""
    parts = tab.part(kind, "parts")
    return list(zip(parts.locator("dt").all_inner_texts(), parts.locator("dd").all_inner_texts(), strict=True))


def known(tab, route="/skrr/node"):
    """What the server knows of the node."""
    workflow, node = tab.page.evaluate(
        "[app.rootGraph.id, String(app.rootGraph.nodes.find((node) => node.type === 'SkrrApply').id)]"
    )
    return tab.ask(f"{route}?workflow={workflow}&node={node}")


def klein(workflow, seed, **apply):
    """A small FLUX.2 klein in front of Skrr Apply, nothing connected to `plan`. A seed that no run had: not cached."""
    graph = workflow(f"free {uuid.uuid4()}")
    models = graph.node("SkrrTestModels", (0, 0), family="klein", seed=seed)
    smaller = graph.node("SkrrApply", (480, 0), 420, clip=models[1], **apply)
    graph.node("PreviewAny", (960, 0), source=smaller[1])
    return graph


def test_before_the_run_a_sentence_and_after_it_every_part(tabs, workflow, renderer):
    tab = tabs()
    tab.drop(klein(workflow, 41 if renderer == "vue" else 42).json())
    tab.look_at("SkrrApply")
    panel = tab.panel("SkrrApply")
    expect(panel).to_contain_text(BEFORE)
    expect(panel.locator("[data-part=free]")).to_have_count(0)
    tab.picture("free before")
    tab.run()
    expect(tab.part("SkrrApply", "free")).to_have_text(FIGURES)
    expect(panel).not_to_contain_text(BEFORE)
    assert shown(tab)[0][1] == "9 layers: this CLIP reads layers 9, 18 and 27 of 36"
    told = known(tab)["free"]
    before, without, _ = told["clip"]
    said = FIGURES.match(tab.part("SkrrApply", "free").inner_text()).groups()
    assert said == (f"{before / 1e6:.1f}", f"{without / 1e6:.1f}", f"{100 * (1 - without / before):.0f}")
    assert len(shown(tab)) == len(told["parts"])
    assert "knows no such plan" in known(tab, "/skrr/node/text")["error"]
    tab.picture("free after")
    tab.set_widget("SkrrApply", "text_generation", True)
    expect(panel.locator("[data-part=free]")).to_have_count(0)
    expect(panel).to_contain_text(BEFORE)
    tab.set_widget("SkrrApply", "text_generation", False)
    expect(tab.part("SkrrApply", "free")).to_have_text(FIGURES)
    tab.reload()
    tab.look_at("SkrrApply")
    expect(tab.part("SkrrApply", "free")).to_have_text(FIGURES)


def test_where_all_is_kept_the_panel_says_so(tabs, workflow, renderer):
    tab = tabs()
    tab.drop(klein(workflow, 43 if renderer == "vue" else 44, text_generation=True).json())
    tab.look_at("SkrrApply")
    tab.run()
    expect(tab.part("SkrrApply", "free")).to_have_text("Everything that this CLIP holds is read: nothing goes free.")


@pytest.fixture(scope="module")
def encoder(server):
    """The name of a small umT5 file among the server's text encoders."""
    folder = server.base / "models" / "text_encoders"
    folder.mkdir(parents=True, exist_ok=True)
    write_umt5(folder / "small_umt5.safetensors")
    return "small_umt5.safetensors"


def test_skrr_clip_loader_shows_what_it_did_not_read(tabs, workflow, renderer, encoder):
    graph = workflow(f"free {uuid.uuid4()}")
    files = {"file1": encoder, "file2": "none", "file3": "none", "file4": "none"}
    cpu = {"device": "cpu"} if renderer == "vue" else {}  # other values than the run before: not cached
    loader = graph.node("SkrrCLIPLoader", (0, 0), 420, type="wan", **files, **cpu)
    graph.node("PreviewAny", (480, 0), source=loader[1])
    tab = tabs()
    tab.drop(graph.json())
    tab.look_at("SkrrCLIPLoader")
    panel = tab.panel("SkrrCLIPLoader")
    expect(panel).to_contain_text(LOADER_BEFORE)
    tab.run()
    expect(tab.part("SkrrCLIPLoader", "free")).to_have_text(FIGURES)
    expect(panel).not_to_contain_text(LOADER_BEFORE)
    said = "embedding table, stays in its file: a prompt needs a few hundred of its rows"
    assert shown(tab, "SkrrCLIPLoader") == [("16.4 MB", said)]
    tab.picture("free loader")
    tab.set_widget("SkrrCLIPLoader", "file1", "other.safetensors")
    expect(panel.locator("[data-part=free]")).to_have_count(0)
    expect(panel).to_contain_text(LOADER_BEFORE)
    tab.run()
    expect(panel.get_by_role("alert")).to_contain_text("other.safetensors")
    expect(panel.locator("[data-part=free]")).to_have_count(0)


# The testing pack's tiny T5 of the FLUX family.
T5 = {"t5xxl": EncoderInfo(Architecture("t5", 6, 64, 128, 4, 16, 32128, "gelu_tanh", True, "first", 32))}


def test_with_a_plan_its_figures_stand_below_and_an_error_leaves_none(tabs, workflow, renderer):
    plan = Plan("tiny", T5, (make_level(T5, {"t5xxl": make_cut([8, 9])}, None),))
    graph = workflow(f"free {uuid.uuid4()}")
    models = graph.node("SkrrTestModels", (0, 0), family="flux", seed=45 if renderer == "vue" else 46)
    loaded = graph.node("SkrrLoadPlan", (0, 300), 420, text=dumps(plan))
    smaller = graph.node("SkrrApply", (480, 0), 420, clip=models[1], plan=loaded[0], sparsity=0.01)
    graph.node("PreviewAny", (960, 0), source=smaller[1])
    tab = tabs()
    tab.drop(graph.json())
    tab.look_at("SkrrApply")
    panel = tab.panel("SkrrApply")
    expect(tab.part("SkrrApply", "name")).to_have_text("tiny")
    expect(panel.locator("[data-part=free]")).to_have_count(0)
    tab.run()
    expect(tab.part("SkrrApply", "after")).to_contain_text("with the plan: ")
    head, name = (tab.part("SkrrApply", part).bounding_box()["y"] for part in ("free", "name"))
    assert head < name
    tab.picture("free with a plan")
    other = {"t5xxl": EncoderInfo(Architecture("t5", 5, 64, 128, 4, 16, 32128, "gelu_tanh", True, "first", 32))}
    wrong = Plan("other", other, (make_level(other, {"t5xxl": make_cut([6, 7])}, None),))
    tab.set_widget("SkrrLoadPlan", "text", dumps(wrong))
    tab.run()
    expect(panel.get_by_role("alert")).to_contain_text("is for another encoder")
    for part in ("free", "parts", "after", "name", "saved"):
        expect(panel.locator(f"[data-part={part}]")).to_have_count(0)
    tab.picture("free error")
    assert known(tab) == {}
