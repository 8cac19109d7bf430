"""Not a test: run by forked_searches.py for test_ranks.py. The command line's search in two processes, started by what
torchrun starts them with; but they are forked, so that they need not import PyTorch again."""

import os
from contextlib import redirect_stdout

import torch
from conftest import make_t5, save_encoder
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from skrr_engine.command.cli import main

ARGUMENTS = (
    "search --encoder t5.safetensors --tokenizer tokenizer.json --projection flux.safetensors --prompts prompts.txt "
    "--beam 2 --sparsity 0.2 --out plan.json --checkpoint search.json"
)


def write_files(folder):
    save_encoder(make_t5(layers=3, seed=3), folder / "t5.safetensors")
    words = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *"abcdefg"])}
    fast = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.save(str(folder / "tokenizer.json"))
    save_file({"txt_in.weight": torch.randn(5, 16)}, folder / "flux.safetensors")
    (folder / "prompts.txt").write_text("a b c\nd e f g a\na a a a\ng f e\n")


def one_of_two(folder):
    """What `torchrun -m skrr_engine` runs, in the environment that torchrun makes."""
    os.chdir(folder)
    with open(f"told {os.environ['RANK']}", "w") as told, redirect_stdout(told):
        return main(ARGUMENTS.split())


def run(folder):
    """The exit codes by rank."""
    folder.mkdir()
    write_files(folder)
    config = LaunchConfig(
        1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id="search", start_method="fork", max_restarts=0,
        local_addr="localhost",
    )  # fmt: skip
    return elastic_launch(config, one_of_two)(folder)
