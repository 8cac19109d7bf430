"""`python -m skrr_engine.demo.training STAGE --work DIR`: see the package's docstring."""

import argparse
from datetime import datetime
from pathlib import Path

import torch

from ...disk import make_folder, writing
from .stages import STAGES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m skrr_engine.demo.training")
    parser.add_argument("stage", choices=[*STAGES, "all"], help="each needs the ones before it")
    parser.add_argument("--work", required=True, type=Path, metavar="DIR", help="where runs keep their state")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None, help="of PyTorch (default: its own choice)")
    args = parser.parse_args()
    make_folder(args.work)
    if args.threads:
        torch.set_num_threads(args.threads)
    log_file = args.work / "training.log"

    def log(text: str) -> None:
        line = f"{datetime.now():%H:%M:%S} {text}"
        print(line, flush=True)
        with writing(log_file), open(log_file, "a", encoding="utf-8") as file:
            print(line, file=file)

    for name in STAGES if args.stage == "all" else [args.stage]:
        STAGES[name](args.work, args.seed, log)


if __name__ == "__main__":
    main()
