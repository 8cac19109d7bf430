"""Prompts from files and from the pack, and the sentences about those that are none."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skrr_engine.errors import SkrrError
from skrr_engine.files.prompt_files import ENDINGS, builtin_prompts, clean_prompts, prompt_lines, read_prompts


def read(folder, name, content):
    """The prompts in a file of that name and content (text or bytes)."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_prompts(path)


def refused(folder, name, content, words):
    with pytest.raises(SkrrError, match=words) as caught:
        read(folder, name, content)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_cleaning_keeps_order_and_drops_empty_and_equal_ones():
    assert clean_prompts(["b ", "", "a", "  ", "b", "a\n"]) == ("b", "a")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, 20])
def test_a_limit_spreads_over_the_list(limit):
    texts = [str(n) for n in range(10)]
    found = clean_prompts(texts, limit)
    assert len(found) == min(limit, 10)
    assert found[0] == "0"
    assert list(found) == sorted(set(found), key=int)
    if limit == 2:
        assert found == ("0", "5")


def test_no_prompts_and_empty_prompts_are_told_apart():
    with pytest.raises(SkrrError, match="There are no calibration prompts: none was given"):
        clean_prompts([])
    with pytest.raises(SkrrError, match="There are no calibration prompts: all 3 given are empty"):
        clean_prompts(["", " ", "\t\u2003"])


def test_a_novel_is_refused():
    with pytest.raises(SkrrError, match="Calibration prompt 2 has 20001 characters; at most 20000"):
        clean_prompts(["a", "b" * 20_001])
    assert clean_prompts(["b" * 20_000])


def test_half_a_character_is_refused_before_a_tokenizer_sees_it(tmp_path):
    """JSON can spell what no UTF-8 file can hold; tokenizers fail on it in ways of their own."""
    lines = read(tmp_path, "a.jsonl", '"fine \\ud83e\\udd8a"\n"half \\ud83e"')
    assert lines[0] == "fine 🦊"
    with pytest.raises(SkrrError, match=r"Calibration prompt 2 holds half a character \(U\+D83E"):
        clean_prompts(lines)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_text(tmp_path, ends, mark):
    text = ends.join([mark + "éclair", "", "one, \u2028two;", ""])
    assert read(tmp_path, "a.txt", text) == ["éclair", "", "one, \u2028two;"]
    assert read(tmp_path, "A.TXT", text + "three") == ["éclair", "", "one, \u2028two;", "three"]


def test_empty_files_have_no_prompts(tmp_path):
    for ending in ENDINGS:
        for content in ("", "\ufeff", "\n\n", "  \n"):
            found = read(tmp_path, "a" + ending, content)
            assert not any(text.strip() for text in found)
            with pytest.raises(SkrrError, match="There are no calibration prompts"):
                clean_prompts(found)
    assert read(tmp_path, "a.csv", "prompt\n") == []
    assert read(tmp_path, "a.csv", "prompt,id\n,1\n") == [""]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_jsonl(tmp_path, mark):
    lines = [
        '"a fox"',
        '{"id": 1, "caption": "no", "text": "a boat", "tags": [1, {"prompt": 2}]}',
        "",
        '{"text": "no", "prompt": "a \\"tall\\" house\\nby the sea"}\r',
        '  {"caption": "line \u2028 separator, \\u00e9"}  ',
    ]
    wanted = ["a fox", "a boat", 'a "tall" house\nby the sea', "line \u2028 separator, é"]
    assert read(tmp_path, "a.jsonl", mark + "\n".join(lines)) == wanted


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_what_json_writes_is_read_again(texts):
    from skrr_engine.files.prompt_files import _jsonl

    for ascii_only in (True, False):
        rows = [json.dumps(text if n % 2 else {"text": text}, ensure_ascii=ascii_only) for n, text in enumerate(texts)]
        assert _jsonl("a.jsonl", "\n".join(rows)) == texts


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)))
def test_what_csv_writes_is_read_again(texts):
    import csv
    import io

    from skrr_engine.files.prompt_files import _csv

    for delimiter in ",;\t":
        made = io.StringIO(newline="")
        writer = csv.writer(made, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([["id", "Prompt"], *([n, text] for n, text in enumerate(texts))])
        assert _csv("a.csv", made.getvalue()) == texts


@pytest.mark.parametrize(
    "line, words",
    [
        ("{'text': 'a'}", "line 2 is not JSON at column 2. Each line holds one whole object"),
        ('{"text": "a"', "line 2 is not JSON at column"),
        ("a fox in the snow", "line 2 is not JSON at column 1"),
        ("[", "line 2 is not JSON"),
        ("[" * 200_000, "line 2 is not JSON"),
        ("9" * 5000, "line 2 "),
        ('{"id": 7, "url": "x"}', "line 2 has no field prompt, text or caption; its fields: 'id', 'url'"),
        ("{}", "line 2 has no field prompt, text or caption; its fields: none"),
        ('{"prompt": null, "text": "a"}', "the field 'prompt' of line 2 holds null; a prompt is text"),
        ('{"text": 3}', "the field 'text' of line 2 holds a number"),
        ('{"text": {"text": "a"}}', "the field 'text' of line 2 holds an object"),
        ('["a", "b"]', "line 2 holds a list"),
        ("NaN", "line 2 holds a number"),
        ("true", "line 2 holds true or false"),
    ],
)
def test_jsonl_that_is_none(tmp_path, line, words):
    refused(tmp_path, "mine.jsonl", f'"a fox"\n{line}\n"a boat"\n', f"mine.jsonl: .*{words}")


@pytest.mark.parametrize(
    "text, wanted",
    [
        ('id,prompt\n1,a fox\n2,"a boat, red"\n', ["a fox", "a boat, red"]),
        ('\ufeffPrompt ;n\r\na fox, red;1\r\n"say ""hi""";2\r\n', ["a fox, red", 'say "hi"']),
        ("caption\ttext\nno\ta fox\n", ["a fox"]),
        ("caption\na fox\n\na boat\n", ["a fox", "a boat"]),
        ("a fox\na boat\n", ["a fox", "a boat"]),
        ('"a fox, red"\n"two\nlines"', ["a fox, red", "two\nlines"]),
        ("\nprompt,id\na fox,1\n", ["a fox"]),
        ("id;prompt\r1;a fox\r", ["a fox"]),
    ],
)
def test_csv(tmp_path, text, wanted):
    assert read(tmp_path, "a.csv", text) == wanted


@pytest.mark.parametrize(
    "text, words",
    [
        ("a fox, red\na boat\n", "first row names no column prompt, text or caption, and it has 2 cells"),
        ("id,url\n1,x\n", "first row names no column"),
        ("prompt,id\na fox,1\na boat, red,2\n", "line 3 has 3 cells, the first row has 2"),
        ("prompt,id\na fox\n", "line 2 has 1 cells, the first row has 2"),
        ("a fox\na boat, red\n", "line 2 has 2 cells, the first row has 1"),
        ('prompt\n"a fox" red\n', "not CSV at line 2"),
        ('prompt\na boat\n"a fox\n', "not CSV at line 3"),
        ('prompt\n"' + "a fox\n" * 30_000, "not CSV at line .*field larger than field limit"),
    ],
)
def test_csv_that_is_none(tmp_path, text, words):
    refused(tmp_path, "mine.csv", text, f"mine.csv.*{words}")


@pytest.mark.parametrize("ending", ENDINGS)
def test_other_encodings_are_refused(tmp_path, ending):
    refused(tmp_path, f"a{ending}", b"caf\xe9", rf"a{ending} is not UTF-8 text \(byte 3\). Save it as UTF-8")
    refused(tmp_path, f"a{ending}", "a fox".encode("utf-16"), r"is not UTF-8 text \(byte 0\)")
    refused(tmp_path, f"a{ending}", "a fox".encode("utf-16-le"), "is not UTF-8 text .it holds zero bytes")


@pytest.mark.parametrize("name", ["a.png", "a.json", "prompts", "a.txt.gz", ".txt"])
def test_other_kinds_of_file_are_refused_unread(tmp_path, name):
    with pytest.raises(SkrrError, match=rf"{name} is no prompt file. Choose a .txt .* a .jsonl .* or a .csv"):
        read_prompts(tmp_path / name)


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "prompts.txt"
    with open(path, "wb") as file:
        file.truncate(33 * 1024 * 1024)
    with pytest.raises(SkrrError, match="has 34603008 bytes; a prompt file has at most 33554432"):
        read_prompts(path)


def test_pasted_text_is_cut_at_line_ends_only():
    assert prompt_lines("a\x0bb\nc\x85d\r\n\r\ne") == ["a\x0bb", "c\x85d", "", "e"]


def test_sets_by_name():
    assert builtin_prompts() == builtin_prompts("calibration")
    assert len(builtin_prompts()) == 600 and len(builtin_prompts("short")) == 64
    with pytest.raises(SkrrError, match="no set of prompts 'long'; there are calibration, short"):
        builtin_prompts("long")
