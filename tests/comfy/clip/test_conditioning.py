"""What of a language model's output reaches the denoiser, a line a family: positions and states."""

import pytest
import torch

from ..encoders.test_llama import FAMILIES, walked
from ..free_clips import FAMILIES as SMALL
from ..free_clips import IDS, TOKENIZERS, families, small_clip, talking_clip

PROMPT = "a red fox and two blue lanterns"


def its_encoder(pack, clip):
    encoders = pack("nodes.comfy_host.clip.trees").text_encoders(clip)
    (one,) = (e for e in encoders.values() if e.adapter is pack("nodes.comfy_host.encoders.llama"))
    return one


def ids_of(tokens):
    return {key: [[item[0] for item in row] for row in rows] for key, rows in tokens.items()}


def compared(pack, clip, tokens):
    """(what the CLIP hands on, ours, Selection) for tokens as its tokenizer gives them."""
    encoder = its_encoder(pack, clip)
    conditioning = pack("nodes.comfy_host.clip.conditioning")
    found = clip.encode_from_tokens(tokens, return_dict=True)
    wanted = found.get("conditioning_llama3", found["cond"])
    ids = ids_of(tokens)
    key = encoder.slot if encoder.slot in ids else encoder.slot.removeprefix("clip_")
    selection = conditioning.select(clip, encoder.slot, ids)
    pack("nodes.comfy_host.weights.memory").rest(clip.patcher)
    stack = encoder.adapter.stack(encoder)
    stack.prepare()
    ours = conditioning.joined(walked(pack, stack, ids[key][0]), selection, stack.architecture.width)
    wanted = wanted if wanted.dim() == 3 else wanted.movedim(1, 2).flatten(2)
    return wanted, ours, selection


@pytest.mark.parametrize("name", TOKENIZERS)
def test_templates_of_real_tokenizers(pack, monkeypatch, name):
    """Bit for bit what the CLIP hands on, templates cut as it cuts them; and of the empty prompt too."""
    clip = talking_clip(name, monkeypatch)
    for prompt in (PROMPT, ""):
        wanted, ours, selection = compared(pack, clip, clip.tokenize(prompt))
        read = list(selection.positions)
        if name == "Ovis-Image":  # fills up with zeros to what its denoiser wants
            wanted = wanted[:, wanted[0].any(dim=1)]
        assert torch.equal(ours[:, read], wanted)


# Those that have no tokenizer here get words without a template. LTX-2 makes something else of them.
BARE = [name for name in FAMILIES if name not in (*TOKENIZERS, "LTX-2", "Gemma 3 12B alone")]


@pytest.mark.parametrize("name", BARE)
def test_words_without_a_template(pack, monkeypatch, name):
    clip = small_clip(name, monkeypatch, dtype=torch.float32)
    wanted, ours, selection = compared(pack, clip, families.tokens_for(SMALL[name], IDS))
    assert torch.equal(ours[:, list(selection.positions)], wanted)


def test_a_clip_that_reckons_with_its_output_has_no_selection(pack, monkeypatch):
    """LTX-2 normalises over all positions and projects inside the CLIP."""
    clip = small_clip("LTX-2", monkeypatch)
    ids = ids_of(families.tokens_for(SMALL["LTX-2"], IDS))
    assert pack("nodes.comfy_host.clip.conditioning").select(clip, its_encoder(pack, clip).slot, ids) is None


def test_every_pad_of_klein_counts_and_no_template_of_qwen_image(pack, monkeypatch):
    select = pack("nodes.comfy_host.clip.conditioning").select
    for name, slot, last in (("FLUX.2 klein 4B", "qwen3_4b", 512), ("Qwen-Image", "qwen25_7b", None)):
        clip = talking_clip(name, monkeypatch)
        ids = ids_of(clip.tokenize(PROMPT))
        found = select(clip, slot, ids).positions
        length = len(ids[slot][0])
        assert found == tuple(range(0 if last else 34, last or length))
    assert select(talking_clip("FLUX.2 klein 4B", monkeypatch), "qwen3_4b", {"qwen3_4b": [IDS]}).states == (0, 1, 2)


def test_joined_states(pack):
    conditioning = pack("nodes.comfy_host.clip.conditioning")
    sequence = torch.tensor([[[10.0, 11, 20, 21, 30, 31]]])  # three states of two columns
    for states, interleaved, wanted in (
        ((0, 1, 2), False, [10, 11, 20, 21, 30, 31]), ((0, 1, 2), True, [10, 20, 30, 11, 21, 31]),
        ((2, 0), False, [30, 31, 10, 11]), ((1, 2), True, [20, 30, 21, 31]),
    ):  # fmt: skip
        found = conditioning.joined(sequence, conditioning.Selection((0,), states, interleaved), 2)
        assert found[0, 0].tolist() == wanted
    assert torch.equal(conditioning.joined(sequence, None, 2), sequence)
