"""The page's third part: how well the discrepancy tells the score, plan by plan."""

import torch

from ..tables.layout import ABLATED
from ..tables.plans import key_of
from ..tables.statistics import correlation, spearman
from .reading import Measured, claim, signed, summary, table

__all__ = ["central_claim"]

# Not plans: their encoder is the dense one, or their denoiser is not.
OTHERS = ("dense", "null caption", "other noise", "study/denoiser", "study/both")
PREDICTORS = {
    "D, projected": ("projected", "value"), "D, not projected": ("plain", "value"),
    "cosine, projected": ("projected", "cosine"), "cosine, not projected": ("plain", "cosine"),
}  # fmt: skip
FEWEST = 8


def central_claim(m: Measured) -> list[str]:
    """Rank correlations over all plans, over random plans, and over random plans of one sparsity."""
    plans = _plans(m)
    groups = {
        "all plans": plans,
        "random plans": [name for name in plans if name.startswith("random/")],
        f"random plans near {key_of(ABLATED)} %": [n for n in plans if n.startswith(f"random/{key_of(ABLATED)}/")],
    }
    rows, claims = [], []
    for text, names in groups.items():
        if len(names) < FEWEST:
            continue
        scores = m.values(names, per_task=m.cells.facts["sizes"]["few"])
        score = scores.mean(dim=(1, 2))
        found = {name: -_field(m, names, *where) for name, where in PREDICTORS.items()}
        sparsity = -torch.tensor([m[name]["sparsity"] for name in names], dtype=torch.float64)
        shown = [signed(correlation(values, score), 2) for values in found.values()]
        size = signed(correlation(sparsity, score), 2) if "near" not in text else ""
        rows.append((text, str(len(names)), *shown, size, f"{_ceiling(scores):.2f}"))
        claims.append(claim(f"over {text}, the lower D the higher the score", correlation(found["D, projected"], score),
                            "no figure, its premise", 2))  # fmt: skip
        for better, worse, why in (
            ("D, projected", "D, not projected", "D tells the score better projected than not"),
            ("D, projected", "cosine, projected", "the squared distance tells it better than the cosine"),
        ):
            gap = correlation(found[better], score, found[worse])
            claims.append(claim(f"over {text}, {why}", gap, "no figure, its premise", 2))
    if not rows:
        return ["Not measured yet."]
    head = ("Spearman's correlation with the score", "plans", *PREDICTORS, "sparsity", "ceiling")
    return [table(head, rows), "", *summary(claims)]


def _plans(m: Measured) -> list[str]:
    """Drawn cells of distinct plans."""
    found: dict[str, str] = {}
    for name in m.cells.planned:
        if m.there(name) and "discrepancy" in m[name] and name not in OTHERS:
            found.setdefault(str(m[name]["variant"]), name)
    return list(found.values())


def _field(m: Measured, names: list[str], objective: str, field: str) -> torch.Tensor:
    return torch.tensor([m[name]["discrepancy"][objective][field] for name in names], dtype=torch.float64)


def _ceiling(scores: torch.Tensor) -> float:
    """What a perfect predictor would reach with so few pictures: the root of the scores' reliability, from their
    correlation between even and odd cases (Spearman-Brown)."""
    halves = spearman(scores[:, :, ::2].mean(dim=(1, 2)), scores[:, :, 1::2].mean(dim=(1, 2))).clamp(min=0)
    return (2 * halves / (1 + halves)).sqrt().item()
