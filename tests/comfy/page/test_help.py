"""What the page tells people about each node: tooltips, a help page, locales. All three against the real schemas."""

import json
import re
from pathlib import Path

import pytest

from ..comfy_roots import PACK
from ..locale_maker import english
from ..server import Server, find_comfy_roots
from ..workflow_maker import inputs_of

PAGES = PACK / "web" / "docs"
LANGUAGES = ("fr", "ja", "zh")
SECTIONS = ["## Inputs", "## Outputs", "## Example", "## Limits"]


@pytest.fixture(scope="module")
def info(pack):
    """The definitions of the pack's nodes as /object_info has them."""
    return {name: node.GET_NODE_INFO_V1() for name, node in pack("nodes").NODE_CLASS_MAPPINGS.items()}


def test_english_is_what_the_nodes_say(info):
    """To write it anew: python -m tests.comfy.make_workflows, see there."""
    written = json.loads((PACK / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert written == english(info)


def test_everything_has_a_tooltip(info):
    for name, definition in info.items():
        assert definition["description"] and definition["display_name"].startswith("Skrr "), name
        for field, (_, options) in inputs_of(definition).items():
            assert options.get("tooltip"), f"{name}.{field}"
        assert all(definition["output_tooltips"]), name


@pytest.mark.parametrize("word", ["vram", "low memory", "text encoder"])
def test_people_who_lack_memory_find_the_nodes(info, word):
    for name in ("SkrrApply", "SkrrCLIPLoader", "SkrrSearch"):
        assert word in info[name]["search_aliases"], name


def test_every_node_has_a_page_and_every_page_a_node(info):
    assert {path.stem for path in PAGES.glob("*.md")} == set(info)


def test_a_page_names_every_input_and_output_and_no_other(info):
    for name, definition in info.items():
        text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {definition['display_name']}\n"), name
        places = [text.index(f"\n{section}\n") for section in SECTIONS]
        assert places == sorted(places), name
        inputs, outputs = (re.findall(r"^\| (\*\*.+?) \|", part, re.M) for part in re.split(r"\n## ", text)[1:3])
        for rows, wanted in ((inputs, list(inputs_of(definition))), (outputs, definition["output_name"])):
            named = [field for row in rows for field in re.findall(r"\*\*(.+?)\*\*", row)]
            assert sorted(named) == sorted(wanted), name
        assert max(map(len, re.sub(r"^\|.*$", "", text, flags=re.M).splitlines())) <= 120, name


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translated_page_names_the_same(info, language):
    """In its own language the page has the node's title, every input and output, and nodes by their titles there."""
    texts = json.loads((PACK / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    titles = {name: text["display_name"] for name, text in texts.items()}
    workflows = {path.stem for path in (PACK / "workflows").glob("*.json")}
    for name, definition in info.items():
        text = (PAGES / name / f"{language}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {titles[name]}\n"), name
        parts = re.split(r"\n## ", text)
        assert len(parts) >= len(SECTIONS) + 1, name
        rows = [re.findall(r"^\| (\*\*.+?) \|", part, re.M) for part in parts[1:3]]
        for found, wanted in zip(rows, (list(inputs_of(definition)), definition["output_name"]), strict=True):
            named = [field for row in found for field in re.findall(r"\*\*(.+?)\*\*", row)]
            assert sorted(named) == sorted(wanted), name
        assert set(re.findall(r"\*\*(Skrr [^*]+)\*\*", text)) <= set(titles.values()), name
        assert set(re.findall(r"`(skrr_\d_\w+)`", text)) <= workflows, name
        assert "{" not in text, name


def test_english_pages_stand_where_the_page_asks_first(info):
    """Written by tests.comfy.make_workflows; the pages beside the folders are for languages without one."""
    for name in info:
        assert (PAGES / name / "en.md").read_bytes() == (PAGES / f"{name}.md").read_bytes(), name
        assert {path.stem for path in (PAGES / name).iterdir()} == {"en", *LANGUAGES}, name


def test_pages_speak_of_nodes_and_workflows_that_exist(info):
    known = {definition["display_name"] for definition in info.values()}
    workflows = {path.stem for path in (PACK / "workflows").glob("*.json")}
    for path in PAGES.glob("*.md"):
        text = " ".join(path.read_text(encoding="utf-8").split())
        assert set(re.findall(r"\*\*(Skrr [^*]+)\*\*", text)) <= known, path.name
        assert set(re.findall(r"[Ww]orkflow `(\w+)`", text)) <= workflows, path.name


def test_the_server_hands_them_out(pack):
    """Help pages and translations, at the addresses where the page asks for them."""
    import urllib.request

    with Server(find_comfy_roots()[0]) as server:
        base = f"http://127.0.0.1:{server.port}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for name in pack("nodes").NODE_CLASS_MAPPINGS:
            for page in (f"{name}.md", *(f"{name}/{language}.md" for language in ("en", *LANGUAGES))):
                with opener.open(f"{base}/extensions/skrr-for-comfyui/docs/{page}") as answer:
                    assert answer.read() == (PAGES / page).read_bytes()
        with opener.open(f"{base}/i18n") as answer:
            texts = json.loads(answer.read())
        for folder in (PACK / "locales").iterdir():
            wanted = json.loads((Path(folder) / "nodeDefs.json").read_text(encoding="utf-8"))
            assert texts[folder.name]["nodeDefs"].items() >= wanted.items()
            assert texts[folder.name]["nodeCategories"]["Skrr"] == "Skrr"
        with opener.open(f"{base}/api/workflow_templates") as answer:
            listed = json.loads(answer.read())["skrr-for-comfyui"]
        assert set(listed) == {path.stem for path in (PACK / "workflows").glob("*.json")}
        for name in listed:
            with opener.open(f"{base}/api/workflow_templates/skrr-for-comfyui/{name}.jpg") as answer:
                assert answer.headers["Content-Type"] == "image/jpeg"
