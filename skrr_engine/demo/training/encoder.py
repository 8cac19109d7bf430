"""Pre-trains the small T5 encoder: span corruption, read by the encoder itself, and reading (see `reading`).

What a corrupted token was is said by one linear layer on the encoder's state, which is thrown away. With a decoder,
as T5 was trained, the decoder did the work: after 1,400 steps a word's state hardly depended on the words around it
(cosine 0.9997 between the circles of "a red circle and a blue square" and of the same with the colours exchanged),
and nothing behind a frozen encoder could have told the two apart. Without decoder and without reading, the loss had
not left that of single words' frequencies after 550 steps.
"""

import random
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from ..layout import T5_SHAPE
from .loop import Recipe, train
from .reading import LESSONS, lessons
from .texts import END, LONGEST, PAD, UNSAID, corrupt, pretraining_text

__all__ = ["train_encoder"]

BATCH = 64
# So many texts are read as they are; the others are corrupted, and what is hidden from a lesson cannot be learned.
CLEAN_SHARE = 0.5
# Small against what the sub-blocks add, so that a word's state is made by them and not by its embedding.
EMBEDDING_SIZE = 0.3
NEAR = 4.0
RECIPE = Recipe(steps=3600, rate=1.2e-3, warm_up=100, average=0.99, save_every=100)


def train_encoder(tokenizer: bytes, folder: Path, seed: int, log, recipe: Recipe = RECIPE) -> dict[str, torch.Tensor]:
    """The encoder's tensors in transformers' (and ComfyUI's) names, float32."""
    from sentencepiece import SentencePieceProcessor
    from transformers import T5Config, T5EncoderModel

    pieces = SentencePieceProcessor(model_proto=tokenizer)
    torch.manual_seed(seed)
    config = T5Config(**T5_SHAPE, dropout_rate=0.0, feed_forward_proj="gated-gelu")
    # Written out: on a CPU, the fused attention takes longer on its way back.
    config._attn_implementation = "eager"
    config.dense_act_fn = "gelu_pytorch_tanh"  # the same function as the library's gelu_new, in one call
    model = T5EncoderModel(config)
    torch.nn.init.normal_(model.shared.weight, std=EMBEDDING_SIZE)
    _look_near(model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight)
    answers = {"token": config.vocab_size, **LESSONS}
    readers = torch.nn.ModuleDict({name: torch.nn.Linear(config.d_model, count) for name, count in answers.items()})
    both = torch.nn.ModuleDict({"encoder": model, "readers": readers})

    @partial(torch.compile, dynamic=False)
    def losses_of(tokens: torch.Tensor, wanted: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            states = model(input_ids=tokens, attention_mask=(tokens != PAD).long()).last_hidden_state
            said = {name: reader(states).float() for name, reader in readers.items()}
        return {
            name: functional.cross_entropy(said[name].flatten(0, 1), truth.flatten(), ignore_index=UNSAID)
            for name, truth in wanted.items()
        }

    def loss_of(step: int) -> torch.Tensor:
        losses = losses_of(*_batch(pieces, random.Random(f"{seed}/encoder/{step}")))
        if (step + 1) % recipe.log_every == 0:
            log("encoder: " + ", ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items()))
        return sum(losses.values())

    trained = train("encoder", both, loss_of, recipe, folder, log)
    kept = {name.removeprefix("encoder."): value for name, value in trained.items() if name.startswith("encoder.")}
    kept.pop("encoder.embed_tokens.weight", None)
    return kept


def _look_near(table: torch.Tensor) -> None:
    """Starts the heads on the word before, the word behind, the words around, and everything. From T5's start, near
    zero, the table moves by a step's rate at a time, and for hundreds of steps the encoder knows which words there
    are but not which belong together."""
    forward = table.shape[0] // 2  # the first half of the buckets looks back, this one is the same place ahead
    with torch.no_grad():
        table[1, 0] += NEAR
        table[forward + 1, 1] += NEAR
        table[[1, 2, 3, forward + 1, forward + 2, forward + 3], 2] += NEAR / 2


def _batch(pieces, sampler: random.Random) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Tokens (BATCH, LONGEST + 1), corrupted or not, and for every lesson the truth, UNSAID where there is nothing to
    say. Padded to one length, so that one program is compiled for all."""
    rows = []
    for _ in range(BATCH):
        text, scene = pretraining_text(sampler)
        ids = pieces.EncodeAsIds(text)[:LONGEST]
        read = lessons(ids, pieces.DecodeIds(ids), scene, pieces.IdToPiece)
        if scene and sampler.random() < CLEAN_SHARE:
            found, truth = [*ids, END], []
        else:
            found, truth = corrupt(ids, sampler)
        rows.append((found, {"token": truth, **read}))
    tokens = _padded([found for found, _ in rows], PAD)
    return tokens, {name: _padded([truth[name] for _, truth in rows], UNSAID) for name in rows[0][1]}


def _padded(rows: list[list[int]], fill: int) -> torch.Tensor:
    return torch.tensor([row + [fill] * (LONGEST + 1 - len(row)) for row in rows])
