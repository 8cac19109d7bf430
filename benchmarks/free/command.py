"""What no picture reads, in bytes: `COMFYUI_PATH=… python -m benchmarks.free` in ComfyUI's environment.

Builds the tree of every family of text encoders that this ComfyUI has, at real size and without data, and prints a
table: the bytes of the whole CLIP, of each free part, and the shares. --write lays the figures of this release beside
those of others in docs/results/free.json and makes docs/models.md anew; --check makes nothing and fails where they
differ.
"""

import argparse
import json
import logging
from pathlib import Path

from .measuring import measure_families, start_comfyui
from .page import page_of, shares

__all__ = ["main"]

PACK = Path(__file__).resolve().parents[2]
RESULTS, PAGE = PACK / "docs" / "results" / "free.json", PACK / "docs" / "models.md"


def main() -> int:
    """The exit status: 1 where --check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into docs/results/free.json and docs/models.md")
    parser.add_argument("--check", action="store_true", help="whether both say what is measured now")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # ComfyUI warns of modules without data
    release, pack = start_comfyui()
    found = measure_families(pack)
    for name, row in found.items():
        without, with_table = shares(row)
        print(f"{name:40} {row['bytes'] / 1e9:7.2f} GB, free {without:5.1f} %, with the table {with_table:5.1f} %")
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    both = {**kept, release: found}
    text, page = json.dumps(both, indent=1) + "\n", page_of(both)
    if options.write:
        RESULTS.write_text(text, encoding="utf-8")
        PAGE.write_text(page, encoding="utf-8")
    if options.check and (both != kept or PAGE.read_text(encoding="utf-8") != page):
        print("docs/models.md or docs/results/free.json is out of date: run with --write.")
        return 1
    return 0
