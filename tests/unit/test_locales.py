"""The files in locales/: sound JSON in the languages that ComfyUI has, saying nothing about what does not exist."""

import json
from pathlib import Path

import pytest

LOCALES = Path(__file__).resolve().parents[2] / "locales"
LANGUAGES = {"en", "fr", "ja", "zh"}
FILES = sorted(LOCALES.glob("*/*.json"))
# vue-i18n, which reads them, takes these for its own syntax.
SYNTAX = set("{}@|")


def unique(pairs):
    """A dict of the pairs, if no key stands twice."""
    found = dict(pairs)
    assert len(found) == len(pairs), [key for key, _ in pairs]
    return found


def read(path):
    return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)


def leaves(tree, path=()):
    """(path, text) of every text."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def test_the_languages_are_there():
    assert {path.name for path in LOCALES.iterdir()} == LANGUAGES
    assert {(path.parent.name, path.name) for path in FILES} == {
        (language, name) for language in LANGUAGES for name in ("main.json", "nodeDefs.json")
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_is_sound(path):
    """Texts only, none empty, no key twice, nothing that the page would read as a placeholder."""
    for place, text in leaves(read(path)):
        assert isinstance(text, str) and text.strip() == text and text, place
        assert not SYNTAX & set(text), (place, text)
        assert all("." not in key for key in place), f"{place}: a dot parts keys"


@pytest.mark.parametrize("language", sorted(LANGUAGES - {"en"}))
@pytest.mark.parametrize("name", ["main.json", "nodeDefs.json"])
def test_a_translation_has_the_english_keys(language, name):
    """Every key it has exists in English; every node, input and output has a name in it."""
    english, other = ({place for place, _ in leaves(read(LOCALES / tongue / name))} for tongue in ("en", language))
    assert other <= english
    missing = {place for place in english - other if place[-1] != "tooltip"}
    assert not missing


@pytest.mark.parametrize("language", sorted(LANGUAGES - {"en"}))
def test_a_translation_is_one(language):
    """Names may be the same in both languages (CLIP, VAE), descriptions may not."""
    english, other = (read(LOCALES / tongue / "nodeDefs.json") for tongue in ("en", language))
    assert all(node["description"] != english[name]["description"] for name, node in other.items())
    names = [node["display_name"] for node in other.values()]
    assert len(set(names)) == len(names)
    for node in other.values():
        shown = [entry["name"] for entry in node.get("inputs", {}).values()]
        assert len(set(shown)) == len(shown), f"two inputs of {node['display_name']} have one name"
