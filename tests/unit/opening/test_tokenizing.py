"""Tokenizers from disk, and the rows that prompts become."""

import json

import pytest
import sentencepiece
from tokenizers import Tokenizer as Fast
from tokenizers import models, pre_tokenizers, processors

from skrr_engine.errors import SkrrError
from skrr_engine.opening.tokenizing import Tokenizer, calibrate, open_tokenizer
from skrr_engine.plans.architecture import T5_XXL, Architecture

CLIP = Architecture("clip", 2, 16, 24, 2, 8, 40, "quick_gelu", False, "absolute", 8)
LETTERS = Tokenizer("letters", lambda text: [ord(c) - 95 for c in text], 38, 39, 37)
T5_LETTERS = Tokenizer("letters", LETTERS.encode, None, 1, 0)


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory):
    """spiece.model and, in a folder of its own, a tokenizer.json that would pad, cut and add its own end."""
    folder = tmp_path_factory.mktemp("t5")
    text = folder / "text.txt"
    text.write_text("three green pears on a plate\nan oil painting of a house by the sea\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "spiece"), vocab_size=60, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    words = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", "three", "green", "pears"])}
    fast = Fast(models.WordLevel(words, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast.enable_padding(length=9)
    fast.enable_truncation(2)
    (folder / "json").mkdir()
    fast.save(str(folder / "json" / "tokenizer.json"))
    return folder


def test_tokenizer_json_without_its_own_padding_cutting_and_end(t5_folder):
    for path in (t5_folder / "json", t5_folder / "json" / "tokenizer.json"):
        found = open_tokenizer(path, "t5")
        assert found.encode("three green pears and pears") == [3, 4, 5, 2, 5]
        assert (found.start, found.end, found.pad) == (None, 1, 0)


def test_spiece_model(t5_folder):
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(t5_folder / "spiece.model"))
    text = "three pears  by the sea"
    for path in (t5_folder, t5_folder / "spiece.model"):
        found = open_tokenizer(path, "t5")
        assert found.encode(text) == pieces.encode(text)
        assert found.encode("") == []
    assert (pieces.pad_id(), pieces.eos_id()) == (found.pad, found.end)


def test_clip_from_vocabulary_and_merges(tmp_path):
    letters = [*"aorng", *(f"{c}</w>" for c in "aorng"), "or", "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(letters)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\no r\n")
    for path in (tmp_path, tmp_path / "vocab.json"):
        found = open_tokenizer(path, "clip")
        assert found.encode("ORan") == [letters.index("or"), letters.index("a"), letters.index("n</w>")]
        assert (found.start, found.end, found.pad) == (11, 12, 12)


@pytest.mark.parametrize(
    "family, sentence",
    [("t5", "no T5 tokenizer .* for tokenizer.json and spiece.model"), ("clip", "for tokenizer.json and vocab.json")],
)
@pytest.mark.parametrize("path", ["", "model.safetensors", "nowhere"])
def test_no_tokenizer_says_what_was_looked_for(tmp_path, family, sentence, path):
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(SkrrError, match=f"{sentence}.* --tokenizer"):
        open_tokenizer(tmp_path / path, family)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": 1}', "[" * 100_000])
def test_a_broken_tokenizer_json_is_refused(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(SkrrError, match=r"tokenizer.json is not a tokenizer file"):
        open_tokenizer(tmp_path, "t5")


def test_a_broken_spiece_model_is_refused(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"\xff" * 30)
    with pytest.raises(SkrrError, match=r"spiece.model is no sentencepiece model"):
        open_tokenizer(tmp_path, "t5")


def rows_of(calibration):
    """Rows in calibration order, as (tokens, weights)."""
    found = {}
    for batch in calibration.batches:
        for at, number in enumerate(batch.row_ids):
            found[number] = (batch.tokens[at].tolist(), {n: w[at].tolist() for n, w in batch.weights.items()})
    return [found[n] for n in sorted(found)]


def test_t5_rows_end_and_are_not_padded():
    made = calibrate(["ab", "abcd"], T5_LETTERS, T5_XXL)
    assert rows_of(made) == [
        ([2, 3, 1], {"sequence": [1 / 3] * 3}),
        ([2, 3, 4, 5, 1], {"sequence": [1 / 5] * 5}),
    ]
    assert [batch.tokens.tolist() for batch in made.null] == [[[1]]]


def test_t5_rows_are_padded_as_flux_and_sd3_do_and_the_padding_counts():
    made = calibrate(["ab", "abcdef"], T5_LETTERS, T5_XXL, min_length=5)
    assert rows_of(made) == [
        ([2, 3, 1, 0, 0], {"sequence": [1 / 5] * 5}),
        ([2, 3, 4, 5, 6, 7, 1], {"sequence": [1 / 7] * 7}),
    ]
    assert [batch.tokens.tolist() for batch in made.null] == [[[1, 0, 0, 0, 0]]]


def test_clip_rows_fill_all_positions():
    made = calibrate(["ab", "abcdefghij"], LETTERS, CLIP)
    weights = {"sequence": [1 / 8] * 8, "pooled": [1.0]}
    assert rows_of(made) == [
        ([38, 2, 3, 39, 37, 37, 37, 37], weights),
        ([38, 2, 3, 4, 5, 6, 7, 39], weights),
    ]
    assert [batch.tokens.tolist() for batch in made.null] == [[[38, 39, 37, 37, 37, 37, 37, 37]]]


def test_a_tokenizer_of_another_encoder_is_refused():
    with pytest.raises(SkrrError, match="tokenizer letters makes token 8098, the encoder knows 0 to 39"):
        calibrate(["\u2001"], LETTERS, CLIP)


@pytest.mark.parametrize("length", [-1, 4097])
def test_a_wrong_length_is_refused(length):
    with pytest.raises(SkrrError, match=f"minimum length is {length}; expected 0 to 4096"):
        calibrate(["a"], T5_LETTERS, T5_XXL, length)


def test_clip_takes_no_length():
    with pytest.raises(SkrrError, match="leave --min-length out"):
        calibrate(["a"], LETTERS, CLIP, 77)
