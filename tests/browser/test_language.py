"""The panels speak the language that ComfyUI's page is set to."""

import json
import urllib.request

import pytest
from playwright.sync_api import expect

from .test_apply import applied


@pytest.fixture
def language(server):
    """language(name): what pages opened from now on speak; English again at the end."""

    def choose(name):
        body = json.dumps({"Comfy.Locale": name}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/settings", body)
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read()

    yield choose
    choose("en")


def test_a_panel_in_another_language(tabs, workflow, language):
    """That every language has every text is tests/web's to hold."""
    language("zh")
    tab = tabs(fresh=True)
    tab.drop(applied(workflow, source="flux1-dev"))
    tab.look_at("SkrrApply")
    expect(tab.part("SkrrApply", "discrepancy")).to_have_text("未测量")
    expect(tab.panel("SkrrApply").locator(".legend")).to_contain_text("保留")
    tab.picture("language zh")
