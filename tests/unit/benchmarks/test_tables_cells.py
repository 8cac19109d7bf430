"""The file of measured cells: whole at any moment, and nothing stale in it is used."""

import json

import pytest

from benchmarks.tables.cells import Cells
from skrr_engine.errors import SkrrError


def test_a_cell_is_on_disk_when_put_returns_and_is_found_by_its_fingerprint(tmp_path):
    path = tmp_path / "results" / "tables.json"
    cells = Cells(path, "w")
    mark = cells.fingerprint({"a": 1})
    assert cells.find("one", mark) is None and "one" not in cells
    cells.put("one", mark, 1.234567, {"x": [1, 2]})
    again = Cells(path, "w")
    assert again.find("one", mark) == again["one"] == {"x": [1, 2]}
    assert again.cells["one"]["seconds"] == 1.23
    assert [entry.name for entry in path.parent.iterdir()] == ["tables.json"]


def test_a_cell_that_depends_on_something_else_now_is_stale(tmp_path):
    cells = Cells(tmp_path / "t.json", "w")
    cells.put("one", cells.fingerprint({"a": 1}), 0, {"x": 1})
    assert cells.find("one", cells.fingerprint({"a": 2})) is None
    cells.put("one", cells.fingerprint({"a": 2}), 0, {"x": 2})
    assert cells["one"] == {"x": 2} and len(cells.cells) == 1


def test_other_weights_drop_everything(tmp_path):
    path = tmp_path / "t.json"
    cells = Cells(path, "w")
    cells.put("one", cells.fingerprint(1), 0, {})
    assert Cells(path).weights == "w" and "one" in Cells(path), "reading for print keeps all"
    other = Cells(path, "v")
    assert other.cells == {} and other.fingerprint(1) != cells.fingerprint(1)
    assert "one" in Cells(path), "nothing is lost before something is measured"


def test_equal_work_is_done_once(tmp_path):
    path = tmp_path / "t.json"
    cells = Cells(path, "w")
    mark = cells.fingerprint("plan")
    cells.put("beam 3", mark, 0, {"x": 1})
    assert cells.find("beam 2", mark) == {"x": 1}
    assert Cells(path)["beam 2"] == {"x": 1}


def test_gaps_are_named_and_old_cells_go(tmp_path):
    cells = Cells(tmp_path / "t.json", "w")
    cells.planned = ["a", "b", "c"]
    for name in ("b", "old"):
        cells.put(name, name, 0, {})
    assert cells.missing == ["a", "c"]
    cells.only(cells.planned)
    assert list(Cells(tmp_path / "t.json").cells) == ["b"]


def test_two_processes_fill_one_file(tmp_path):
    path, names = tmp_path / "t.json", ["a", "b", "c"]
    one, other = (Cells(path, "w") for _ in range(2))
    for cells in (one, other):
        cells.planned = names
    one.put("c", "1", 0, {"x": 1})
    other.put("a", "2", 0, {"x": 2})
    one.put("a", "3", 0, {"x": 3})
    other.put("b", "4", 0, {"x": 4})
    found = Cells(path).cells
    assert list(found) == names, "in the planned order, whoever was first"
    assert found["a"]["value"] == {"x": 2} and found["c"]["value"] == {"x": 1}, "each keeps what it measured itself"


def test_the_file_is_json_with_a_line_a_cell(tmp_path):
    path = tmp_path / "t.json"
    cells = Cells(path, "w")
    cells.write()
    assert json.loads(path.read_text())["cells"] == {}
    for name in ("a", "b"):
        cells.put(name, name, 0, {"text": "é\n"})
    lines = path.read_text().splitlines()
    assert json.loads(path.read_text())["cells"]["b"]["value"] == {"text": "é\n"}
    assert [line.startswith(('  "a":', '  "b":')) for line in lines].count(True) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "skrr-tables", "version": 99}', '{"format": "other"}'])
def test_a_file_that_is_something_else_is_a_sentence(tmp_path, text):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(SkrrError, match=r"t\.json holds no tables of this version\. Delete it"):
        Cells(path, "w")
    assert path.read_text() == text
