"""The shipped calibration prompts against other prompts: `python -m benchmarks.prompts REFERENCE.jsonl`.

Compares lengths, vocabulary and nearest neighbours (see `coverage`). With --tokenizer lengths are tokens,
otherwise words. With --encoder plans are searched on both sets, on any encoder that the command line can search, and
compared on prompts that neither has seen (see `plans`):

    python -m benchmarks.prompts REFERENCE.jsonl --encoder t5-folder --denoiser flux1-dev.safetensors --min-length 256

REFERENCE is a .txt, .jsonl or .csv file. Prints one JSON object, and a short table on stderr.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.prompts.coverage import coverage, length_figures, vocabulary_figures, words
from skrr_engine.errors import SkrrError
from skrr_engine.files.prompt_files import builtin_prompts, clean_prompts, read_prompts

__all__ = ["main", "measure"]

PACK = Path(__file__).resolve().parents[2]
# The rest is imported where it is needed: texts alone are compared without PyTorch.


def main(argv=None) -> int:
    """Prints the figures; returns 0, or 2 after an error."""
    options = _parser().parse_args(argv)
    try:
        figures = measure(options)
    except (SkrrError, OSError) as error:
        print(f"prompts: {error}", file=sys.stderr)
        return 2
    print(_table(figures), file=sys.stderr)
    print(json.dumps(figures, indent=1))
    return 0


def measure(options) -> dict:
    """All figures that `options` ask for. Raises SkrrError for files that are not what they should be."""
    ours = clean_prompts(read_prompts(options.set) if options.set else builtin_prompts())
    whole = clean_prompts(read_prompts(options.reference))
    reference = clean_prompts(whole, options.most)
    if len(reference) < 4:
        raise SkrrError(f"The reference has {len(reference)} distinct prompts; halving it takes at least 4.")
    encoder, tokenizer = _models(options)

    def length(text: str) -> int:
        if tokenizer is None:
            return len(words(text))
        # With start and end, as the encoder sees them.
        return (tokenizer.start is not None) + len(tokenizer.encode(text)) + 1

    sizes = {name: [length(text) for text in texts] for name, texts in (("ours", ours), ("reference", whole))}
    figures = {
        "set": Path(options.set).name if options.set else "built-in",
        "reference": Path(options.reference).name,
        "lengths_in": f"tokens of {tokenizer.name}" if tokenizer else "words",
        "lengths": {name: length_figures(found) for name, found in sizes.items()},
        "vocabulary": vocabulary_figures(ours, clean_prompts(whole, len(ours))),
        "coverage": {
            name: coverage(ours, reference, options.seed, options.draws, pairs)
            for name, pairs in (("words", False), ("words and pairs", True))
        },
    }
    if encoder:
        figures["plans"] = _plans(options, encoder, tokenizer, ours, whole)
    return figures


def _models(options):
    """(encoder, tokenizer), each None where it is not asked for."""
    if not (options.encoder or options.tokenizer):
        return None, None
    from skrr_engine.opening.open_encoder import open_encoder
    from skrr_engine.opening.tokenizing import open_tokenizer

    encoder = open_encoder(options.encoder, device=options.device) if options.encoder else None
    if encoder and encoder.plan is not None:
        raise SkrrError(f"{options.encoder} is pruned already. Compare on the dense encoder it was made from.")
    family = encoder.stack.architecture.family if encoder else "t5"
    return encoder, open_tokenizer(options.tokenizer or options.encoder, family)


def _plans(options, encoder, tokenizer, ours, reference) -> dict:
    from benchmarks.prompts.plans import Comparison, compare_plans
    from skrr_engine.jobs.search import Settings
    from skrr_engine.measure.projection import no_projection
    from skrr_engine.opening.projection_files import open_projection
    from skrr_engine.progress import Bar

    shape = encoder.stack.architecture
    if options.denoiser:
        projection = open_projection(options.denoiser, shape.width)
    else:
        projection = no_projection(("sequence", "pooled") if shape.family == "clip" else ("sequence",))
    found = {name: getattr(options, name) for name in ("sparsity", "beam", "reuse", "mode", "seed")}
    names = ("null_weight", "min_length", "count", "held_out", "again", "seed", "checkpoint")
    same = {name: getattr(options, name) for name in names}
    asked = Comparison(encoder, tokenizer, projection, Settings(encoder.slot, **found), **same)
    with Bar() as bar:
        return compare_plans(asked, ours, reference, bar)


def _table(figures: dict) -> str:
    columns = f"{'prompts':>8} {'mean':>7} {'5 %':>6} {'50 %':>6} {'95 %':>6} {'>100':>6}"
    rows = [f"{'lengths in ' + figures['lengths_in']:<36} {columns}"]
    for name, found in figures["lengths"].items():
        q = found["quantiles"]
        shown = f"{found['prompts']:>8} {found['mean']:>7.1f} {q['0.05']:>6.0f} {q['0.5']:>6.0f} {q['0.95']:>6.0f}"
        rows.append(f"{name:<36} {shown} {100 * found['over_100']:>4.0f} %")
    known = figures["vocabulary"]["reference_known_by_ours"]
    rows.append(
        f"words of the reference that the set has too: {100 * known['running']:.1f} % of its running text, "
        f"{100 * known['distinct']:.1f} % of its distinct words"
    )
    rows.append(f"{'nearest neighbour, mean cosine':<36} {'set':>8} {'itself':>7}   worth (of {_size(figures)})")
    for features, ways in figures["coverage"].items():
        for way in ("reference_to_ours", "ours_to_reference"):
            near, name = ways[way], f"{way.replace('_', ' ')}, {features}"
            worth = f"{near['worth']:.0f} ({near['worth_range'][0]:.0f} to {near['worth_range'][1]:.0f})"
            rows.append(f"{name:<36} {near['ours']:>8.3f} {near['itself'][str(_size(figures))]:>7.3f}   {worth}")
    for level in figures.get("plans", {}).get("levels", ()):
        there, back = level["ours_for_reference"], level["reference_for_ours"]
        regrets = [f"{100 * r:+.1f} %" if r is not None else "-" for r in (there["regret"], back["regret"])]
        rows.append(
            f"{level['skipped']:>3} skipped: {100 * there['overlap']:.0f} % the same (by chance "
            f"{100 * level['by_chance']:.0f} %), regret on the reference {regrets[0]}, on the set {regrets[1]}"
        )
    return "\n".join(rows)


def _size(figures: dict) -> int:
    return figures["coverage"]["words"]["size"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prompts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("reference", help="the prompts to compare with")
    add("--set", metavar="FILE", help="measure these prompts instead of the shipped ones")
    add("--tokenizer", metavar="PATH", help="a tokenizer's folder or file (default: in the encoder's folder)")
    add("--most", type=_positive, default=2000, metavar="N", help="of the reference, for the nearest neighbours (2000)")
    add("--draws", type=_positive, default=10, help="halvings of the reference (10)")
    add("--seed", type=int, default=0)
    add("--encoder", metavar="PATH", help="search plans on this encoder: a transformers folder or a safetensors file")
    add("--denoiser", metavar="FILE", help="behind this denoiser's text projection")
    add("--min-length", type=int, default=0, metavar="N", help="pad T5 prompts: 256 for FLUX, 77 for SD3")
    add("--count", type=_positive, default=64, metavar="N", help="prompts of each set to search on (64)")
    add("--held-out", type=_positive, default=64, metavar="N", help="prompts of each set to measure on (64)")
    add("--sparsity", type=float, default=0.4, metavar="S", help="how far to search (0.4)")
    add("--beam", type=int, default=3, metavar="K")
    add("--mode", choices=("exact", "fast"), default="exact", help="exact (default): chance has no part in the plans")
    add("--null-weight", type=float, default=1.0, metavar="W")
    add("--no-reuse", dest="reuse", action="store_false", help="only skip")
    add("--again", action="store_true", help="search on a second part of the reference too: what chance alone does")
    add("--checkpoint", metavar="FOLDER", help="keep finished levels here, and go on from them")
    add("--device", default="cpu")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number
