"""The command line: `python -m skrr_engine search | apply | inspect | presets | demo`."""

import argparse
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import SkrrError

__all__ = ["main"]

STOPPED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 2 after an error (one sentence on stderr), 130 after Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C.", file=sys.stderr)
        return STOPPED
    except SkrrError as error:
        print(f"skrr: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"skrr: {error.strerror or error}{where}. Check the path and its permissions.", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"skrr: {error}. The command needs more packages: pip install 'skrr[cli]'.", file=sys.stderr)
        return 2
    return 0


# PyTorch and transformers take seconds to load, so a command loads what it needs when it runs.


def _search(args) -> None:
    from .cli_search import search

    search(args)


def _apply(args) -> None:
    from .cli_plans import apply

    apply(args)


def _inspect(args) -> None:
    from .cli_plans import inspect

    inspect(args)


def _presets(args) -> None:
    from .cli_plans import presets

    presets(args)


def _demo(args) -> None:
    from ..demo.command import demo

    demo(args.out)


class _Layer(argparse.Action):
    """--weight begins a layer of the projection, --bias belongs to the --weight before it."""

    def __call__(self, parser, namespace, value, option_string=None):
        layers = list(namespace.layers)
        if option_string == "--weight":
            layers.append((value, None))
        elif not layers or layers[-1][1] is not None:
            parser.error("--bias must follow the --weight it belongs to")
        else:
            layers[-1] = (layers[-1][0], value)
        namespace.layers = layers


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m skrr_engine", description="Makes text encoders smaller: skip and re-use sub-blocks (Skrr)."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_search(commands.add_parser("search", help="find a plan for an encoder, on your prompts"))

    apply = commands.add_parser("apply", help="write a smaller encoder file by a plan")
    apply.add_argument("--encoder", required=True, metavar="X.safetensors", help="the dense encoder, in any format")
    apply.add_argument("--plan", required=True, help="a plan JSON file or a preset's name")
    apply.add_argument("--sparsity", required=True, type=float, metavar="S", help="at least this share goes, as 0.4")
    apply.add_argument("--out", required=True, metavar="Y.safetensors", help="the file to write")
    apply.add_argument("--overwrite", action="store_true", help="replace an existing file")
    apply.set_defaults(run=_apply)

    inspect = commands.add_parser("inspect", help="show a plan")
    inspect.add_argument("path", help="a plan JSON file, a safetensors file with a plan inside, or a preset's name")
    inspect.set_defaults(run=_inspect)

    presets = commands.add_parser("presets", help="list the published plans")
    presets.set_defaults(run=_presets)

    demo = commands.add_parser("demo", help="the paper's whole way on a small trained pipeline, with pictures")
    demo.add_argument("--out", default="skrr-demo", metavar="DIR", help="where its files go (default ./skrr-demo)")
    demo.set_defaults(run=_demo)
    return parser


def _add_search(search: argparse.ArgumentParser) -> None:
    add = search.add_argument
    add("--encoder", required=True, metavar="PATH", help="a transformers folder, or one safetensors file")
    add("--tokenizer", metavar="PATH", help="its tokenizer's folder or file (default: in the encoder's folder)")
    add("--projection", metavar="FILE", help="the denoiser's safetensors file: FLUX, SD3, PixArt are recognised")
    add("--weight", action=_Layer, dest="layers", default=[], metavar="NAME", help="a text layer's weight in that file")
    add("--bias", action=_Layer, dest="layers", metavar="NAME", help="the bias of the --weight before it")
    add("--prompts", metavar="FILE", help="prompts as .txt, .jsonl or .csv (default: the pack's own 600)")
    add("--limit", type=_positive, default=64, metavar="N", help="use at most N prompts, evenly spread (default 64)")
    add("--min-length", type=int, default=0, metavar="N", help="pad T5 prompts to N tokens: 256 for FLUX, 77 for SD3")
    add("--slot", metavar="NAME", help="its name in plans: t5xxl, umt5xxl, clip_l, clip_g (default: by shape)")
    add("--sparsity", type=float, metavar="S", help="search until this share is gone (default 0.4, that is 40 %%)")
    add("--saved-gb", type=float, metavar="X", help="search until X GB of the encoder's file are saved")
    add("--beam", type=int, default=3, metavar="K", help="sets kept a level (default 3, as published)")
    modes = ("fast", "exact", "paper", "corrected")
    add(
        "--mode", choices=modes, default="fast", help="fast (default): about as good as exact or paper (one and the "
        "same: as published), far less work; corrected: compares sets as they will be with corrections",
    )  # fmt: skip
    add("--corrections", action="store_true", help="then fit, on all prompts, what makes up for what was removed")
    add("--minutes", type=float, default=0.0, metavar="M", help="the best plan found in M minutes (default: no limit)")
    add("--seed", type=int, default=0, metavar="N", help="order of the prompts in the fast mode (default 0)")
    add("--null-weight", type=float, default=1.0, metavar="W", help="weight of the empty prompt (default 1; 0: none)")
    add("--no-reuse", dest="reuse", action="store_false", help="only skip")
    add("--refine", metavar="PLAN", help="only find re-use, for the level of this plan or preset that fits --sparsity")
    add("--checkpoint", metavar="FILE", help="keep finished levels here, and go on from them")
    add("--heads", type=_positive, metavar="N", help="a CLIP's attention heads, where they are not 64 wide")
    add("--clip-layer", type=_positive, default=2, metavar="N", help="CLIP layer read, from the end (1 for SD 1.5)")
    add("--device", default="cpu", help="where to run, such as cpu, cuda or mps (default cpu)")
    add("--memory-gb", type=float, metavar="X", help="memory of a CUDA device to use at most (default: what is free)")
    add("--out", required=True, metavar="PLAN.json", help="the plan to write")
    add("--overwrite", action="store_true", help="replace an existing plan")
    search.set_defaults(run=_search)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number
