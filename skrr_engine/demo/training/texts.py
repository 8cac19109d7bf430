"""Texts for the tokenizer and for span corruption: the grammar's statements and the project's own prompts."""

import io
import random

from ...measure.calibration import builtin_prompts
from ..world.captions import caption, statement, whole_caption
from ..world.world import TASKS, Scene, sample_scene

__all__ = [
    "END", "LONGEST", "PAD", "PIECES", "SENTINELS", "SHARES", "UNSAID", "corrupt", "pretraining_text", "train_tokenizer"
]  # fmt: skip

PIECES, SENTINELS = 736, 32
CORPUS = 40_000
PAD, END, UNSAID = 0, 1, -100
# How often each task comes in any training: those that need more words to be understood, more often.
SHARES = dict(zip(TASKS, (2, 3, 3, 2, 4, 4), strict=True))
# In pieces, without the end: nearly every caption is shorter, and two of them are cut.
LONGEST = 23


def pretraining_text(sampler: random.Random) -> tuple[str, Scene | None]:
    """One or two texts about one scene, and the scene; one in ten is one of the project's own prompts instead."""
    if sampler.random() < 0.1:
        return sampler.choice(builtin_prompts_once()), None
    (task,) = sampler.choices(list(SHARES), SHARES.values())
    scene = sample_scene(task, sampler)
    ways = sampler.choices((whole_caption, caption, statement), (3, 2, 1), k=sampler.choice((1, 1, 2)))
    return ". ".join(way(scene, sampler) for way in ways), scene


_PROMPTS: list[str] = []


def builtin_prompts_once() -> list[str]:
    """The project's own prompts, read once."""
    if not _PROMPTS:
        _PROMPTS.extend(builtin_prompts("short"))
    return _PROMPTS


def train_tokenizer(seed: int) -> bytes:
    """A sentencepiece unigram model of PIECES pieces; ids as T5's (0 padding, 1 end, 2 unknown)."""
    from sentencepiece import SentencePieceTrainer

    sampler = random.Random(f"{seed}/tokenizer")
    texts = [pretraining_text(sampler)[0] for _ in range(CORPUS)]
    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=written, vocab_size=PIECES, model_type="unigram", pad_id=PAD,
        eos_id=END, unk_id=2, bos_id=-1, character_coverage=1.0, num_threads=1, minloglevel=2,
    )  # fmt: skip
    return written.getvalue()


def corrupt(ids: list[int], sampler: random.Random) -> tuple[list[int], list[int]]:
    """Span corruption: about a quarter of the tokens, in spans of 1 to 3. Most corrupted tokens become their span's
    sentinel (PIECES, PIECES + 1, …), some another token, some stay. Returns the tokens, the end behind them, and the
    truth where they were corrupted, UNSAID elsewhere."""
    found, truth, sentinel = [*ids, END], [UNSAID] * (len(ids) + 1), PIECES
    place = 0
    while place < len(ids):
        if sampler.random() >= 0.15:
            place += 1
            continue
        kind = sampler.random()
        for at in range(place, min(place + sampler.randint(1, 3), len(ids))):
            truth[at] = ids[at]
            if kind < 0.75:
                found[at] = sentinel
            elif kind < 0.9:
                found[at] = sampler.choice(ids)
        # A span apart from the next one, so that sentinels tell them apart.
        place, sentinel = at + 2, min(sentinel + 1, PIECES + SENTINELS - 1)
    return found, truth
