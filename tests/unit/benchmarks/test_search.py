"""The benchmark of the search runs at small size and prints what it promises."""

import json
import sys

from benchmarks.search import command as search


def test_small(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["search", "--small"])
    search.main()
    found = json.loads(capsys.readouterr().out)
    assert found["small"] == {"encoders": 2, "equal": 2}
    assert found["random"]["exact"]["equal"]
    assert found["random"]["exact"]["work_ratio"] > 1
    trained = found["trained"]
    work = trained["reference"]["work"]
    assert work["total"] == work["dense"] + work["skip"] + work["reuse"]
    assert trained["exact"]["work_ratio"] == round(work["total"] / trained["exact"]["work"], 2) > 1
    assert trained["ceiling"]["skip_ratio"] >= trained["exact"]["skip_work_ratio"]
    assert trained["ceiling"]["skip_ratio"] >= trained["ceiling"]["ratio"] >= trained["exact"]["work_ratio"]
    assert trained["fast"]["work_ratio"] > 1
    assert trained["quality"]["worst_level"] >= trained["quality"]["mean_excess"]
    assert "PROJECTED" in found["projection"]["what"]
    assert round(found["projection"]["dense_passes"]["published"]) == 1922
