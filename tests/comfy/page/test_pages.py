"""What the server keeps for the page: bounded, right under two threads, and silent where there is no server."""

from threading import Thread
from types import SimpleNamespace

import pytest


def test_the_oldest_is_forgotten(pack):
    kept = pack("nodes.comfy_host.page.pages_state").Bounded(3)
    for n in range(5):
        kept.put(n, str(n))
    kept.put(2, "again")
    kept.put(5, "5")
    assert kept.values() == ["4", "again", "5"]
    assert kept.get(3) is None and kept.get(2) == "again"


def test_two_threads_put_at_once(pack):
    kept = pack("nodes.comfy_host.page.pages_state").Bounded(50)
    threads = [Thread(target=lambda start=start: [kept.put(start + n, n) for n in range(2000)]) for start in (0, 10**6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept.values()) == 50


def test_without_a_server_a_search_is_passed_on_and_nothing_kept(pack):
    pages, events = pack("nodes.comfy_host.page.pages_search"), pack("skrr_engine.events")
    heard = []
    settings = pack("skrr_engine.jobs.settings").Settings("t5xxl")
    with pages.SearchPage(SimpleNamespace(applied=None), settings, heard.append) as page:
        page(events.Tick())
        page.found(None)
    assert heard == [events.Tick()] and pages.RUNS.values() == []


def test_a_cancel_passes_through(pack):
    pages, events = pack("nodes.comfy_host.page.pages_search"), pack("skrr_engine.events")

    def cancel(event):
        raise KeyboardInterrupt

    settings = pack("skrr_engine.jobs.settings").Settings("t5xxl")
    with pytest.raises(KeyboardInterrupt):
        with pages.SearchPage(SimpleNamespace(applied=None), settings, cancel) as page:
            page(events.Tick())


def test_warnings_of_a_level(pack):
    from dataclasses import replace

    warn = pack("nodes.comfy_host.page.pages_plans").level_warnings
    make = pack("skrr_engine.plans.plan")
    plan = pack("skrr_engine.plans.presets").load_preset("sd3")
    assert warn(plan, plan.levels[0]) == []
    (partial,) = warn(replace(plan, name="fox (partial)"), plan.levels[0])
    assert "cancelled before it reached its target" in partial
    found = {"conditional": 1.0, "null": 0.0, "null_weight": 1.0, "cosine": 0.0, "value": 1.0}
    calm, loud = (replace(plan.levels[0], discrepancy={**found, "null_norm": norm}) for norm in (1.2, 1.3))
    assert warn(plan, calm) == []
    assert "1.30 times as long as dense" in warn(plan, loud)[0]
    all_attention = make.make_level(plan.encoders, {"t5xxl": make.make_cut(range(0, 48, 2))})
    assert warn(plan, all_attention) == ["This level leaves no attention or no feed-forward at all."]


def test_quality_in_words(pack):
    from dataclasses import replace

    say = pack("nodes.comfy_host.page.pages_plans").level_quality
    level = pack("skrr_engine.plans.presets").load_preset("sd3").levels[0]
    assert "not measured" in say(level)["text"]
    found = {"conditional": 1.0, "null": 0.0, "null_weight": 1.0, "null_norm": 1.0, "value": 1.0}
    words = [say(replace(level, discrepancy={**found, "cosine": cosine})) for cosine in (0.0, 0.0072, 0.5, 1.5)]
    assert "stay as they are" in words[0]["text"]
    assert [each["values"].get("lost") for each in words] == [None, "0", "55", "100"]
    assert words[2]["values"] == {"lost": "55", "low": "37", "high": "73"}


def test_the_page_knows_every_word_of_quality(pack):
    import re
    from pathlib import Path

    source = Path(pack("nodes.comfy_host.page.pages_plans").__file__).read_text(encoding="utf-8")
    known = (Path(pack("nodes").__file__).parents[1] / "web" / "levels.mjs").read_text(encoding="utf-8")
    said = re.findall(r'"(Quality: [^"]+)"', source.replace('"\n        "', ""))
    assert len(said) == 3 and all(f'"{text}"' in known for text in said)
