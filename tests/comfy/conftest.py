"""Starts ComfyUI's modules in this process, on CPU, and imports the pack as ComfyUI would: as a package.

Which ComfyUI: $COMFYUI_PATH (set by tests/run.py to each one found, under its own Python). Without one, nothing
in this folder is collected; tests/run.py says so aloud.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parents[2]
COMFY = os.environ.get("COMFYUI_PATH")

if COMFY:
    # `python -m pytest` from the pack's folder would let the pack's nodes/ stand in for ComfyUI's nodes.py.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != PACK]
    sys.path.insert(0, str(Path(COMFY).expanduser()))
    pytest_arguments, sys.argv = sys.argv, ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args
    import torch

    # As main.py does first: nodes.py puts comfy/ on the path, whose utils.py would then stand for this package.
    import utils.extra_config  # noqa: F401

    sys.argv = pytest_arguments
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))  # two beside other work are slower than one
else:
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items):
    """ComfyUI and its libraries warn as they like; a warning out of the pack's own code is an error."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            item.add_marker(pytest.mark.filterwarnings(r"error:::skrr_pack(\..*)?"))


def load_pack():
    """The pack as the package `skrr_pack`."""
    if "skrr_pack" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "skrr_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["skrr_pack"] = module
        spec.loader.exec_module(module)
    return sys.modules["skrr_pack"]


@pytest.fixture(scope="session")
def pack():
    """pack("nodes.comfy_host.clip.patching") -> that module of the pack."""
    load_pack()
    return lambda name: importlib.import_module(f"skrr_pack.{name}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A checkout of ComfyUI may lack its two largest tokenizer files: what needs them is skipped, aloud."""
    try:
        return (yield)
    except (FileNotFoundError, ValueError) as raised:
        # The pack says the same in a sentence of its own.
        error = raised if isinstance(raised, FileNotFoundError) else raised.__context__
        if not isinstance(error, FileNotFoundError):
            raise
        folder = Path(error.filename or "").parent.name
        if folder in ("llama_tokenizer", "qwen35_tokenizer") and not Path(error.filename).exists():
            pytest.skip(f"this checkout of ComfyUI lacks {folder}/{Path(error.filename).name}")
        raise


@pytest.fixture(autouse=True)
def at_rest():
    """No model of an earlier test stays loaded."""
    yield
    import comfy.model_management

    comfy.model_management.unload_all_models()
