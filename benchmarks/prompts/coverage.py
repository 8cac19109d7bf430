"""How near one set of prompts lies to another: lengths, vocabulary, nearest neighbours. numpy, no models.

A prompt is a vector of its words, or of its words and word pairs, each (1 + log count) x inverse document frequency,
of length 1. Its nearness to a set is the highest cosine to a prompt of that set: words tell of the same subjects,
pairs of the same phrases too. Reference -> set says what the set leaves out, set -> reference what it adds.

Cosines of texts have no scale of their own, so they are read on the reference's: one half A of it is compared with
1, 2, 4, … prompts of the other half B, and the set's `worth` is the number of B's prompts that come as near. A set
out of the same pool is worth its own size. One by other authors is worth far less, whatever its subjects, since a
pool shares authors, templates and often pictures: measure one source of a reference against another for comparison.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

__all__ = ["Space", "coverage", "length_figures", "nearness", "vocabulary_figures", "words"]

BIN, LAST_BIN = 20, 260
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+")


def words(text: str) -> list[str]:
    """The words and numbers of `text`, in lower case, punctuation left out."""
    return WORD.findall(text.lower())


def length_figures(lengths: Sequence[int]) -> dict:
    """Quantiles, mean, share over 100, and the histogram as {first length of the bin: prompts}."""
    bins = Counter(min(n // BIN * BIN, LAST_BIN) for n in lengths)
    return {
        "prompts": len(lengths),
        "mean": float(np.mean(lengths)),
        "quantiles": {str(q): float(np.quantile(lengths, q)) for q in QUANTILES},
        "over_100": float(np.mean(np.array(lengths) > 100)),
        "histogram": {str(n): bins[n] for n in range(0, LAST_BIN + BIN, BIN)},
    }


def vocabulary_figures(ours: Sequence[str], reference: Sequence[str]) -> dict:
    """Distinct words of both sets, and for each direction which share of one set's words the other knows: of its
    distinct words, and of its running text. Sets of unlike size are not comparable in distinct words."""
    a, b = (Counter(word for text in texts for word in words(text)) for texts in (ours, reference))

    def known(of: Counter, by: Counter) -> dict:
        shared = of.keys() & by.keys()
        return {"distinct": len(shared) / len(of), "running": sum(of[w] for w in shared) / of.total()}

    return {
        "ours": {"running": a.total(), "distinct": len(a)},
        "reference": {"running": b.total(), "distinct": len(b)},
        "reference_known_by_ours": known(b, a),
        "ours_known_by_reference": known(a, b),
    }


class Space:
    """Inverse document frequencies of some texts, and cosines between any texts by them. With `pairs` word pairs
    count beside words."""

    def __init__(self, texts: Sequence[str], pairs: bool = False):
        self.pairs = pairs
        self.texts = len(texts)
        self.found = Counter(feature for text in texts for feature in set(self._features(text)))

    def vector(self, text: str) -> dict:
        """feature -> weight, of length 1. A feature that no text of the space has weighs as if one had it."""
        weights = {
            feature: (1 + math.log(count)) * math.log((1 + self.texts) / max(1, self.found[feature]))
            for feature, count in Counter(self._features(text)).items()
        }
        norm = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        return {feature: weight / norm for feature, weight in weights.items()}

    def cosines(self, rows: Sequence[str], columns: Sequence[str]) -> np.ndarray:
        """(rows, columns) float64, through an index from a feature to the columns that have it."""
        index: dict = {}
        for place, text in enumerate(columns):
            for feature, weight in self.vector(text).items():
                index.setdefault(feature, []).append((place, weight))
        postings = {f: (np.array([p for p, _ in at]), np.array([w for _, w in at])) for f, at in index.items()}
        found = np.zeros((len(rows), len(columns)))
        for row, text in zip(found, rows, strict=True):
            for feature, weight in self.vector(text).items():
                if feature in postings:
                    places, weights = postings[feature]
                    row[places] += weight * weights
        return found

    def _features(self, text: str) -> list:
        found = words(text)
        return [*found, *pairwise(found)] if self.pairs else found


def nearness(cosines: np.ndarray) -> float:
    """The mean over the rows of the highest cosine to a column."""
    return float(cosines.max(axis=1).mean())


def coverage(
    ours: Sequence[str], reference: Sequence[str], seed: int = 0, draws: int = 10, pairs: bool = False
) -> dict:
    """Over `draws` random halvings of the reference into A and B, all sets cut to one size:

    reference_to_ours   `ours`: mean nearness A -> ours;  `itself`: {k: A -> k prompts of B}
    ours_to_reference   `ours`: mean nearness ours -> A;  `itself`: {k: B -> k prompts of A}
    worth               the k, between those measured, at which `itself` reaches `ours`; least and most over the draws
    closest_pair        the highest cosine between a prompt of ours and one of the reference
    """
    cosines = Space([*ours, *reference], pairs).cosines(reference, [*reference, *ours])
    sampler, count = random.Random(seed), len(reference)
    size = min(count // 2, len(ours))
    sizes = sorted({size, *(2**n for n in range(size.bit_length()) if 2**n < size)})
    found: dict = {"reference_to_ours": [], "ours_to_reference": []}
    for _ in range(draws):
        order = sampler.sample(range(count), count)
        half, other = order[:size], order[-size:]
        places = [count + n for n in sampler.sample(range(len(ours)), size)]
        within, across = cosines[np.ix_(half, other)], cosines[np.ix_(half, places)]
        for way, own, set_ in (("reference_to_ours", within, across), ("ours_to_reference", within.T, across.T)):
            found[way].append((nearness(set_), [nearness(own[:, :k]) for k in sizes]))
    ways = {way: _summary(sizes, drawn) for way, drawn in found.items()}
    return {**ways, "size": size, "closest_pair": float(cosines[:, count:].max())}


def _summary(sizes: list[int], drawn: list[tuple[float, list[float]]]) -> dict:
    itself = np.mean([curve for _, curve in drawn], axis=0)
    ours = float(np.mean([near for near, _ in drawn]))
    each = [_worth(near, sizes, curve) for near, curve in drawn]
    return {
        "ours": ours,
        "itself": {str(k): float(near) for k, near in zip(sizes, itself, strict=True)},
        "worth": _worth(ours, sizes, itself),
        "worth_range": [min(each), max(each)],
    }


def _worth(near: float, sizes: list[int], curve: Sequence[float]) -> float:
    """Where the curve, which never falls, reaches `near`; between sizes straight over their logarithms, outside of
    them the nearest."""
    return float(np.exp(np.interp(near, curve, np.log(sizes))))
