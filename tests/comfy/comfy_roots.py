"""The ComfyUI installations that the tests can use."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

# Not resolved: where the pack is linked into custom_nodes, the link tells which ComfyUI it belongs to.
PACK = Path(__file__).absolute().parents[2]


@dataclass(frozen=True)
class ComfyRoot:
    """A ComfyUI folder, its version and the Python that it runs under."""

    path: Path
    version: str
    python: Path


def find_comfy_roots() -> list[ComfyRoot]:
    """Every ComfyUI found: $COMFYUI_PATH, the one this pack is installed in, ~/ComfyUI, ~/ComfyUI-0.18.1."""
    home = Path.home()
    places = [PACK.parents[1], PACK.resolve().parents[1], home / "ComfyUI", home / "ComfyUI-0.18.1"]
    if os.environ.get("COMFYUI_PATH"):
        places.insert(0, Path(os.environ["COMFYUI_PATH"]).expanduser())
    roots = []
    for path in dict.fromkeys(place.resolve() for place in places):
        version_file = path / "comfyui_version.py"
        if (path / "main.py").is_file() and version_file.is_file():
            version = re.search(r"__version__\s*=\s*[\"']([^\"']+)", version_file.read_text(encoding="utf-8"))
            venv = path / ".venv" / "bin" / "python"
            python = venv if venv.exists() else Path(sys.executable)
            roots.append(ComfyRoot(path, version.group(1) if version else "unknown", python))
    return roots
