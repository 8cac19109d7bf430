"""One language model under plans and corrections: what they cost on prompts that nothing was chosen by.

What the denoiser would read is the state in front of the last layer. Its features are that state as the first module of
Z-Image, Lumina and Qwen-Image sees it: behind an RMS norm per token, here with every channel over its dense root mean
square. Position 0, which sees nothing but itself, is left out everywhere.
"""

import random
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.language.cases import WAYS
from benchmarks.language.models import Model, clip_of
from benchmarks.language.tokens import open_tokenizer

__all__ = ["Bench", "Sizes"]

STORED = torch.float16
# A search goes on so far beyond its largest target that the nearest level is not simply the last one.
BEYOND = 0.01


@dataclass(frozen=True)
class Sizes:
    """Prompts of each set, and the tokens that each is cut to (a causal model's states do not know what follows).
    `search` finds plans, `fit` is fitted on, `selection` chooses ridges and whether anything is taken, `held_out`
    judges, the first `predicted` of them by the next token too. The first `dense` of the fit give the stand-ins and the
    channels' root mean squares, so that a larger fit keeps its plans. Small, so that it fits into hours on one CPU
    core."""

    tokens: int = 24
    search: int = 16
    selection: int = 32
    fit: int = 550
    dense: int = 200
    held_out: int = 64
    predicted: int = 24


class Bench:
    """A model, four disjoint sets of prompts and what is measured with them. `pack` imports modules of the pack,
    `texts` are the prompts of others that judge, `folder` keeps what a stopped search or fit goes on from."""

    def __init__(self, pack, model: Model, sizes: Sizes, texts: list[str], folder: Path):
        self.pack, self.model, self.sizes, self.folder = pack, model, sizes, folder
        self.texts = texts

    @cached_property
    def clip(self):
        """The CLIP, with its tokenizer."""
        return clip_of(self.model, open_tokenizer(self.model, self.folder))

    @cached_property
    def stack(self):
        """The encoder as the pack's search walks it."""
        encoder = self.pack("nodes.comfy_host.clip.trees").choose_encoder(self.clip, self.model.slot)
        return encoder.adapter.stack(encoder)

    @cached_property
    def sets(self) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
        """search, selection, fit, dense and held_out: (text, tokens) of every prompt."""
        tokens = self.sizes.tokens
        builtin = self.pack("skrr_engine.files.prompt_files").builtin_prompts()
        own = [one for one in self._rows(builtin) if len(one[1]) == tokens]
        found = {}
        for name in ("search", "selection", "fit"):
            count = getattr(self.sizes, name)
            found[name], own = own[:count], own[count:]
        found["dense"] = found["fit"][: self.sizes.dense]
        found["held_out"] = [one for one in self._rows(self.texts) if len(one[1]) > 1][: self.sizes.held_out]
        return found

    def _rows(self, texts):
        tokenized = self.pack("nodes.comfy_host.search.calibrating").tokenize(self.clip, texts)
        rows = [tokens[self.model.slot][0][: self.sizes.tokens] for tokens in tokenized.tokens]
        return list(zip(tokenized.prompts, rows, strict=True))

    def objective(self, name: str, projection=None):
        """The discrepancy over one of the sets; no null prompt: a language model has none."""
        calibration = self.pack("skrr_engine.measure.calibration")
        rows = [
            calibration.Row(tokens, prompt, {"sequence": (0.0, *[1 / (len(tokens) - 1)] * (len(tokens) - 1))})
            for prompt, (_, tokens) in enumerate(self.sets[name])
        ]
        null = [calibration.Row((self.model.empty,), 0, {"sequence": (0.0,)})]
        made = calibration.make_calibration([text for text, _ in self.sets[name]], rows, null)
        return self.pack("skrr_engine.measure.objective").Objective(
            self.stack, made, projection or self.features, null_weight=0.0
        )

    @cached_property
    def features(self):
        """The projection: an RMS norm, every channel over its root mean square on dense states."""
        projections = self.pack("skrr_engine.measure.projection")
        normalised = self.pack("skrr_engine.corrections.added").normalised
        plain = self.objective("dense", projections.no_projection(("sequence",)))
        squares, count = 0, 0
        for portion in plain.portions:
            states = normalised(plain.dense(portion)[0]["sequence"][:, 1:]).double()
            squares, count = squares + states.square().sum(dim=(0, 1)), count + states.shape[0] * states.shape[1]
        scale = (squares / count).sqrt().float()
        return projections.Projection(
            "RMS norm over the channels' root mean squares",
            {"sequence": "sequence"},
            lambda outputs, batch: {"sequence": normalised(outputs["sequence"]) / scale},
            "rms:" + self.pack("skrr_engine.digest").digest_tensors([("scale", scale)]),
        )

    @cached_property
    def searched(self):
        """The objective of the searches."""
        return self.objective("search")

    @cached_property
    def fits(self):
        """The objectives of fit and selection."""
        return self.objective("fit"), self.objective("selection")

    def share(self, order) -> float:
        """Parameters of the live sub-blocks among `order`, of those of all live ones."""
        live = range(self.searched.dead.start)
        count = lambda indices: sum(self.stack.subblocks[i].parameters for i in indices)  # noqa: E731
        return count(i for i in order if i in live) / count(live)

    def sparsity(self, share: float) -> float:
        """What the engine calls a plan that skips the dead sub-blocks and `share` of the live ones."""
        live = self.stack.sparsity(range(self.searched.dead.start))
        return share * live + self.stack.sparsity(self.searched.dead)

    def plans(self, source: str, targets) -> dict[str, dict]:
        """target -> the order of removal nearest to it, and its share."""
        orders, found = self._orders(source, max(targets) + BEYOND), {}
        for target in targets:
            order = min(orders, key=lambda one: abs(self.share(one) - target))
            found[f"{100 * target:.0f}"] = {"order": [int(i) for i in order], "share": self.share(order)}
        return found

    def _orders(self, source: str, most: float) -> list[tuple[int, ...]]:
        dead, live = tuple(self.searched.dead), self.searched.dead.start
        if source == "paper":
            jobs = self.pack("skrr_engine.jobs.search")
            settings = jobs.Settings(self.model.slot, self.sparsity(most), reuse=False)
            plan = jobs.find_plan(self.searched, settings, self.folder)
            return [level.cuts[self.model.slot].skip for level in plan.levels]
        if source == "stand-ins":
            search = self.pack("skrr_engine.search.with_stand_ins").search_with_stand_ins
            return [level.order for level in search(self.searched, self.stand_ins, self.sparsity(most))]
        if source == "shortgpt":
            influence = self.pack("skrr_engine.baselines.shortgpt").block_influence
            scores = influence(self.stack, self.searched.calibration)[: live // 2]
            steps = [(2 * block, 2 * block + 1) for block in sorted(range(len(scores)), key=scores.__getitem__)]
        else:
            steps = [(i,) for i in random.Random(source).sample(range(live), live)]
        orders, order = [], dead
        for step in steps:
            order = (*order, *step)
            orders.append(order)
        return orders

    @cached_property
    def stand_ins(self):
        """A bridge for every live sub-block, fitted on the dense stream."""
        return self.pack("skrr_engine.corrections.stand_ins").fit_stand_ins(self.objective("dense"))

    def measure(self, order, way: str) -> dict:
        """The error on the held-out prompts and what the next token's distribution loses, of the plan that skips
        `order`, as it is or corrected."""
        execute = self.pack("skrr_engine.measure.execute")
        stack, assignment, about = self.stack, execute.assign(len(self.stack.subblocks), order), {}
        if WAYS[way] is not None:
            stack, assignment, about = self._corrected(assignment, way)
        return {**self.judged(stack, assignment), **about}

    def _corrected(self, assignment, way: str):
        fit, selection = self.fits
        sites, gaps = WAYS[way]
        settings = self.pack("skrr_engine.corrections.sites").Settings(sites, gaps, stored=STORED)
        found = self.pack("skrr_engine.corrections.fit").fit_corrections(
            fit, selection, assignment, settings, folder=self.folder
        )
        one = found.corrections.applied(self.stack)
        about = {
            "extra bytes": found.corrections.extra_bytes,
            "sites": len(found.sites), "taken": sum(site.taken for site in found.sites),
            "selection": [found.before.value, found.after.value], "notes": list(found.notes),
        }  # fmt: skip
        return one.stack, one.assignment, about

    def judged(self, stack, assignment) -> dict:
        """error: E|f - f'|² / E|f - mean f|² over all held-out positions but the first of each prompt. KL: of the next
        token's distribution from the dense model's, in nats, on the first prompts."""
        execute, objective = self.pack("skrr_engine.measure.execute"), self.held_out
        wrong = kl = count = 0.0
        for portion in objective.portions:
            outputs = execute.encode(stack, assignment, portion.batch)
            pruned = objective.features(outputs, portion.batch)["sequence"][:, 1:].double()
            dense = objective.dense(portion)[0]["sequence"][:, 1:].double()
            wrong += (dense - pruned).square().sum().item()
            rows = [at for at, row in enumerate(portion.batch.row_ids) if row < self.sizes.predicted]
            for row in rows:
                tokens = replace(portion.batch, tokens=portion.batch.tokens[row : row + 1])
                near = self._dense_logits(portion.batch.row_ids[row], tokens)
                far = self._logits(outputs["sequence"][row : row + 1], tokens)
                kl += (near.exp() * (near - far)).sum().item()
                count += near.shape[0]
        return {"error": wrong / self._variance, "KL": kl / count}

    @cached_property
    def held_out(self):
        """The objective that judges."""
        return self.objective("held_out")

    @cached_property
    def _variance(self) -> float:
        dense = [self.held_out.dense(portion)[0]["sequence"] for portion in self.held_out.portions]
        states = torch.cat([one[:, 1:].double().flatten(0, 1) for one in dense])
        return (states - states.mean(dim=0)).square().sum().item()

    def _dense_logits(self, row: int, batch):
        known = self.__dict__.setdefault("_known_logits", {})
        if row not in known:
            execute = self.pack("skrr_engine.measure.execute")
            dense = tuple(range(len(self.stack.subblocks)))
            known[row] = self._logits(execute.encode(self.stack, dense, batch)["sequence"], batch)
        return known[row]

    def _logits(self, states, batch):
        """log of the next token's probabilities behind `states`, by the model's own last layer, norm and table; of all
        positions but the first."""
        execute = self.pack("skrr_engine.measure.execute")
        _, context = self.stack.embed(batch)
        for place in self.searched.dead:
            states = execute.advance(self.stack, place, states, context)
        core = self.clip.patcher.model.get_submodule(self.model.slot).transformer.model
        table = core.embed_tokens.weight
        return torch.log_softmax(core.norm(states)[0, 1:] @ table.T, dim=-1)
