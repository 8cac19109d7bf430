"""Where the pack keeps files: plans people name in `models/skrr`, finished searches in ComfyUI's user folder.

Names from workflows are looked up in listings of these folders, never joined to a path.
"""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import folder_paths

from ....skrr_engine.disk import is_file, make_folder, reading, write_atomically, writing
from ....skrr_engine.errors import SkrrError
from ....skrr_engine.files.files import read_plan_file
from ....skrr_engine.files.prompt_files import ENDINGS
from ....skrr_engine.plans.plan import Plan
from ....skrr_engine.plans.plan_json import CORRECTIONS, dumps

__all__ = [
    "cache_folder",
    "fit_folder",
    "list_model_files",
    "list_plans",
    "list_prompt_files",
    "load_plan",
    "model_file",
    "plain_name",
    "plans_folder",
    "plans_state",
    "prompt_file",
    "save_plan",
    "side_files",
    "trim_cache",
]

CACHE_BYTES = 64 * 1024 * 1024
MAX_NAME = 100
GGUF_CURES = {
    "text_encoders": "Load it with ComfyUI-GGUF's CLIPLoader (GGUF) and put Skrr Apply behind it.",
    "diffusion_models": "Load it with ComfyUI-GGUF's Unet Loader (GGUF) and connect that MODEL instead.",
}
MENDED = "Check that folder and those for it in extra_model_paths.yaml, and restart ComfyUI."
WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL"} | {f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10)}


def plans_folder() -> Path:
    """Where plans and their side files are written."""
    return Path(folder_paths.models_dir) / "skrr"


def list_plans() -> list[str]:
    """File names of the plans in `models/skrr`, partial ones of cancelled searches included."""
    return sorted(_plan_files(_choices))


def load_plan(name: str) -> Plan:
    """The plan in the file `name` of `models/skrr`."""
    files = _plan_files(_choices)
    if name not in files:
        files = _plan_files(_entries)  # a folder that cannot be read is what to tell, if there is one
    if name not in files:
        raise SkrrError(f"There is no plan {name!r} in models/skrr; there are {', '.join(sorted(files)) or 'none'}.")
    return read_plan_file(files[name], {CORRECTIONS})


def plans_state() -> str:
    """Another text when a file in `models/skrr` came, went or changed."""
    entries = _plan_files(_choices) | _plan_files(_choices, ".safetensors")
    return "\n".join(f"{name} {_age(path)}" for name, path in sorted(entries.items()))


def _age(path: Path) -> str:
    with reading(path):
        state = path.stat()
    return f"{state.st_mtime_ns} {state.st_size}"


def side_files() -> list[Path]:
    """The safetensors files among the plans: their corrections."""
    return list(_plan_files(_entries, ".safetensors").values())


def _plan_files(entries: Callable[[Path], list[Path]], ending: str = ".json") -> dict[str, Path]:
    """name -> file, of `models/skrr` and of the folders for `skrr` in extra_model_paths.yaml; the first of a name."""
    extra = folder_paths.folder_names_and_paths.get("skrr", ((), ()))[0]
    found = {}
    for folder in (plans_folder(), *map(Path, extra)):
        for path in entries(folder):
            if path.suffix.lower() == ending:
                found.setdefault(path.name, path)
    return found


def _entries(folder: Path) -> list[Path]:
    """What is in `folder`; nothing where there is none."""
    with reading(folder):
        return list(folder.iterdir()) if folder.is_dir() else []


def _choices(folder: Path) -> list[Path]:
    """The same for a list of choices, which survives a folder that cannot be read."""
    try:
        return _entries(folder)
    except SkrrError as error:
        logging.warning("Skrr: %s", error)
        return []


def _is_file(path: Path) -> bool:
    """What cannot be asked about is no choice."""
    try:
        return is_file(path)
    except SkrrError:
        return False


def save_plan(plan: Plan, name: str, overwrite: bool) -> Path:
    """Writes `plan` as `name`.json into `models/skrr`, atomically. An existing file is kept unless `overwrite`."""
    path = plans_folder() / plain_name(name, ".json")
    if os.path.lexists(path) and not overwrite:
        raise SkrrError(f"{path.name} is already in models/skrr. Switch on overwrite, or choose another name.")
    write_atomically(path, dumps(plan).encode())
    return path


def plain_name(name: str, ending: str) -> str:
    """`name` with `ending`, if it is a plain file name on every system."""
    stem = name.strip().removesuffix(ending)
    device = stem.split(".")[0].strip().upper() in WINDOWS_DEVICES
    allowed = not device and stem and len(stem) <= MAX_NAME and all(c.isalnum() or c in " -_.()%" for c in stem)
    if not allowed or stem.startswith(".") or stem.endswith(".") or stem != stem.strip():
        raise SkrrError(
            f"{name!r} is no plain file name; use up to {MAX_NAME} letters, digits, spaces and - _ . ( ) %."
        )
    return stem + ending


def cache_folder() -> Path:
    """The folder of finished and interrupted searches, created if needed."""
    return make_folder(Path(folder_paths.get_user_directory()) / "skrr" / "searches")


def fit_folder(key: str) -> Path:
    """Where an unfinished fit is kept. Only one is: those of T5-XXL take gigabytes."""
    wanted = cache_folder() / f"fit-{key}"
    for folder in _entries(cache_folder()):
        if folder.name.startswith("fit-") and folder != wanted:
            with writing(folder):
                shutil.rmtree(folder)
    return wanted


def trim_cache(limit: int = CACHE_BYTES) -> None:
    """Deletes the searches longest untouched until the rest takes at most `limit` bytes."""
    total = 0
    try:
        files = [(path.stat(), path) for path in cache_folder().glob("*.json")]
        for state, path in sorted(files, key=lambda file: file[0].st_mtime, reverse=True):
            total += state.st_size
            if total > limit:
                path.unlink()
    except (OSError, SkrrError) as error:
        # Another ComfyUI may trim the same folder; a search that is done must not fail over it.
        logging.warning("Skrr could not trim its cache: %s", error)


def list_prompt_files() -> list[str]:
    """The .txt, .jsonl and .csv files of ComfyUI's input folder."""
    return sorted(path.name for path in _prompt_files())


def prompt_file(name: str) -> Path:
    """The file `name` of that list."""
    for path in _prompt_files():
        if path.name == name:
            return path
    raise SkrrError(
        f"There is no {name!r} among the prompt files in ComfyUI's input folder; put the prompts there as a .txt, "
        ".jsonl or .csv file."
    )


def _prompt_files() -> list[Path]:
    folder = Path(folder_paths.get_input_directory())
    return [path for path in _choices(folder) if path.suffix.lower() in ENDINGS and _is_file(path)]


def list_model_files(kind: str) -> list[str]:
    """The safetensors files that ComfyUI lists under models/`kind`; none, and a warning, where it cannot: a list of
    choices survives that."""
    try:
        return _model_files(kind)
    except SkrrError as error:
        logging.warning("Skrr: %s", error)
        return []


def _model_files(kind: str) -> list[str]:
    # ComfyUI asks for the age of every folder that it has listed before, also of one that is gone.
    with reading(f"models/{kind}", MENDED):
        names = folder_paths.get_filename_list(kind)
    return [name for name in names if name.lower().endswith((".safetensors", ".sft"))]


def model_file(kind: str, name: str) -> Path:
    """The file `name` of that list."""
    if name.lower().endswith(".gguf"):  # never in the list, but people write it where they know it from
        raise SkrrError(f"{name} is a GGUF file, which cannot be read in part. {GGUF_CURES[kind]}")
    if name not in _model_files(kind):
        raise SkrrError(f"There is no {name!r} in models/{kind}; refresh the page and choose a file again.")
    with reading(f"models/{kind}/{name}"):
        path = folder_paths.get_full_path(kind, name)
    if path is None:
        raise SkrrError(f"{name} in models/{kind} is a broken link or was removed. Mend it, or choose another file.")
    return Path(path)
