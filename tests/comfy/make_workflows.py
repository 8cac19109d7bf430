"""Writes workflows/*.json, their thumbnails and locales/en/nodeDefs.json anew, from `workflow_graphs` and the node
definitions of a real server, and puts the English help pages where the page asks first. Run it in the pack's folder
with the Python of a ComfyUI, after a change to a node:

    ~/ComfyUI/.venv/bin/python -m tests.comfy.make_workflows [name …]
"""

import json
import re
import sys

from .comfy_roots import PACK
from .locale_maker import english
from .server import Server, find_comfy_roots
from .workflow_graphs import GRAPHS
from .workflow_maker import Graph
from .workflow_pictures import draw

FOLDER = PACK / "workflows"


def main(names) -> None:
    """Makes the named workflows, or all, and the English texts."""
    version = re.search(r'__version__ = "(.+)"', (PACK / "skrr_engine" / "__init__.py").read_text())[1]
    with Server(find_comfy_roots()[0]) as server:
        info = server.object_info()
    ours = {name: definition for name, definition in info.items() if definition["category"] == "Skrr"}
    text = json.dumps(english(ours), ensure_ascii=False, indent=2) + "\n"
    (PACK / "locales" / "en" / "nodeDefs.json").write_text(text, encoding="utf-8")
    for page in (PACK / "web" / "docs").glob("*.md"):
        (page.parent / page.stem / "en.md").write_bytes(page.read_bytes())
    for name in names or GRAPHS:
        graph = Graph(name, info, version)
        GRAPHS[name](graph)
        (FOLDER / f"{name}.json").write_text(graph.json() + "\n", encoding="utf-8")
        draw(FOLDER / f"{name}.json", FOLDER / f"{name}.jpg")
        print(f"{name}: {len(graph.nodes)} nodes, {len(graph.links)} links")


if __name__ == "__main__":
    main(sys.argv[1:])
