"""SkrrCalibrate: the shipped prompts under ComfyUI's own T5 tokenizer, files of the input folder, bad input."""

import pytest

from ..tiny_models import pixart_clip, sd1_clip


@pytest.fixture(scope="module")
def clip():
    return pixart_clip()


@pytest.fixture
def node(pack):
    return pack("nodes").NODE_CLASS_MAPPINGS["SkrrCalibrate"]


@pytest.fixture
def prompts(pack):
    return pack("skrr_engine.files.prompt_files")


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """ComfyUI's input folder, empty."""
    folder = tmp_path / "input"
    folder.mkdir()
    monkeypatch.setattr("folder_paths.get_input_directory", lambda: str(folder))
    return folder


def options_of(node):
    return next(entry for entry in node.define_schema().inputs if entry.id == "prompts").options


def refused(pack, words, call, *args):
    with pytest.raises(pack("skrr_engine.errors").SkrrError, match=words) as caught:
        call(*args)
    assert "\n" not in str(caught.value)


def test_the_shipped_prompts_have_20_to_250_tokens_and_half_over_100(pack, prompts, clip):
    shipped = prompts.builtin_prompts("calibration")
    made = pack("nodes.comfy_host.search.calibrating").tokenize(clip, shipped)
    lengths = [sum(map(len, rows["t5xxl"])) for rows in made.tokens]
    assert len(lengths) == 600
    assert 20 <= min(lengths) <= 25 and 240 <= max(lengths) <= 250
    assert sum(length > 100 for length in lengths) >= 300
    unknown = 2
    assert not any(unknown in row for rows in made.tokens for row in rows["t5xxl"])


def test_the_default_is_an_even_spread_over_the_shipped_set(node, prompts, clip):
    shipped = prompts.builtin_prompts("calibration")
    limit = next(entry for entry in node.define_schema().inputs if entry.id == "limit").default
    made = node.execute(clip, options_of(node)[0], "", limit)[0]
    assert limit == 64 and made.prompts == tuple(shipped[n * 600 // 64] for n in range(64))
    assert node.execute(clip, "built-in", "", 2000)[0].prompts == tuple(shipped)


def test_text_and_the_three_kinds_of_file_say_the_same(node, inputs, clip):
    (inputs / "a.txt").write_text("a fox, red\n\na boat\n")
    (inputs / "b.jsonl").write_text('{"prompt": "a fox, red"}\n"a boat"\n')
    (inputs / "C.CSV").write_text('id,caption\n1,"a fox, red"\n2,a boat\n')
    for name in ("d.png", "e.json"):
        (inputs / name).write_text("a fox")
    (inputs / "folder.txt").mkdir()
    assert options_of(node) == ["built-in", "text", "C.CSV", "a.txt", "b.jsonl"]
    wanted = node.execute(clip, "text", "a fox, red\r\n \na boat", 8)[0]
    assert wanted.prompts == ("a fox, red", "a boat")
    for name in ("a.txt", "b.jsonl", "C.CSV"):
        assert node.execute(clip, name, "", 8)[0] == wanted
        before = node.fingerprint_inputs(clip, name, "", 8)
        (inputs / name).write_bytes((inputs / name).read_bytes() + b"\n")
        assert node.fingerprint_inputs(clip, name, "", 8) != before


def test_only_files_of_the_input_folder_are_read(pack, node, inputs, clip):
    (inputs.parent / "secret.txt").write_text("a fox")
    (inputs / "deep").mkdir()
    (inputs / "deep" / "mine.txt").write_text("a fox")
    for name in ("../secret.txt", str(inputs.parent / "secret.txt"), "deep/mine.txt", "", ".", "a\0.txt"):
        refused(pack, "There is no .* among the prompt files", node.execute, clip, name, "", 8)


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("empty.txt", b"", "There are no calibration prompts: none was given"),
        ("blank.txt", b" \n\n", "There are no calibration prompts: all 2 given are empty"),
        ("blank.csv", b"prompt,id\n,1\n", "There are no calibration prompts: all 1 given are empty"),
        ("latin.txt", b"caf\xe9", r"latin.txt is not UTF-8 text \(byte 3\)"),
        ("weights.txt", b"\x80\x00\x00\x00\x00\x00\x00\x00{", "weights.txt is not UTF-8 text"),
        ("broken.jsonl", b'"a fox"\n{"text": "a boat"\n', "broken.jsonl: line 2 is not JSON"),
        ("other.jsonl", b'{"url": "x"}', "other.jsonl: line 1 has no field prompt, text or caption; its fields: 'url'"),
        ("other.csv", b"id,url\n1,x\n", "other.csv: the first row names no column"),
        ("half.jsonl", b'"a \\ud83e"', "Calibration prompt 1 holds half a character"),
        ("words.txt", b"a fox\n" + b"a " * 5_000, "Calibration prompt 2 has 10001 tokens; at most 4096"),
        ("novel.txt", b"a fox\n" + b"word " * 10_000, "Calibration prompt 2 has 49999 characters; at most 20000"),
    ],
)
def test_bad_files(pack, node, inputs, clip, name, content, words):
    (inputs / name).write_bytes(content)
    refused(pack, words, node.execute, clip, name, "", 8)
    assert (inputs / name).read_bytes() == content


def test_a_long_prompt_counts_in_all_of_its_rows(pack, node):
    """CLIP's tokenizer cuts it into rows of 77."""
    clip = sd1_clip()
    assert node.execute(clip, "text", "fox " * 3_900, 8)[0].prompts
    refused(pack, "Calibration prompt 1 has 10[0-9]+ tokens; at most 4096", node.execute, clip, "text", "a " * 9_999, 8)
