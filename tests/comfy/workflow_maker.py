"""Graphs in the form that ComfyUI's page saves and opens, written as code: nodes with names and links, laid out.

The order and number of widget values comes from the server's own node definitions (/object_info), so that it cannot
be wrong; `workflow_graphs` has the graphs, and run as a command it writes them into workflows/.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field

from .workflow_models import models_of

__all__ = ["Graph", "Node", "has_control", "inputs_of", "is_widget"]

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
# As high as the taller of the page's two renderers, Vue's, draws them.
ROW, WIDGET_ROW, TEXT_BOX, FOOT = 24, 32, 130, 44
COLOURS = {"load": "#3f789e", "skrr": "#8a5a2b", "prompt": "#4a7a4a", "sample": "#6a5a8a", "note": "#444444"}


def inputs_of(definition: dict) -> dict[str, tuple]:
    """name -> (type or list of options, options) of a node's inputs in the page's order: required, then optional."""
    order = definition.get("input_order") or {kind: list(found) for kind, found in definition["input"].items()}
    found = {}
    for kind in ("required", "optional"):
        for name in order.get(kind, ()):
            spec = definition["input"][kind][name]
            found[name] = (spec[0], spec[1] if len(spec) > 1 else {})
    return found


def is_widget(kind, options: dict) -> bool:
    """Whether the page makes a widget of an input, and not only a socket."""
    known = isinstance(kind, list) or WIDGETS.issuperset(kind.split(","))  # "FLOAT,INT": takes links of both
    return known and not options.get("forceInput")


def has_control(name: str, kind, options: dict) -> bool:
    """Whether the page puts its own "control after generate" widget behind this one."""
    return kind == "INT" and bool(options.get("control_after_generate", name in ("seed", "noise_seed")))


@dataclass
class Node:
    """A node of a Graph. `node[0]` is its first output, to be given as another node's input."""

    id: int
    kind: str
    at: tuple[int, int]
    size: tuple[int, int]
    data: dict = field(default_factory=dict)

    def __getitem__(self, slot: int) -> tuple[Node, int]:
        return self, slot

    @property
    def right(self) -> int:
        """Where its right edge is."""
        return self.at[0] + self.size[0]

    @property
    def bottom(self) -> int:
        """Where its lower edge is."""
        return self.at[1] + self.size[1]


class Graph:
    """Fills up node by node; `json` gives the file's content."""

    def __init__(self, name: str, info: dict, pack_version: str):
        self.name, self.info, self.pack_version = name, info, pack_version
        self.nodes: list[Node] = []
        self.links: list[list] = []
        self.groups: list[dict] = []

    def node(self, kind: str, at, wide: int = 320, high: int = 0, *, called: str = "", **given) -> Node:
        """Adds a node; `given` are its inputs by name, links (`other[0]`) or values. Values left out are defaults."""
        definition = self.info[kind]
        specs = inputs_of(definition)
        unknown = set(given) - set(specs)
        assert not unknown, f"{kind} has no inputs {unknown}"
        made = Node(len(self.nodes) + 1, kind, at, (wide, 0))
        self.nodes.append(made)
        sockets = [name for name, spec in specs.items() if not is_widget(*spec)]
        widgets = [name for name, spec in specs.items() if is_widget(*spec)]
        values, tall = [], 0
        for name in widgets:
            kind_of, options = specs[name]
            value = given[name] if name in given else self._default(kind_of, options)
            linked = isinstance(value, tuple)
            values.append(self._default(kind_of, options) if linked else value)
            if has_control(name, kind_of, options):
                values.append("fixed")
                tall += WIDGET_ROW
            tall += TEXT_BOX if options.get("multiline") else WIDGET_ROW
        inputs = []
        for name in (*sockets, *widgets):
            kind_of = specs[name][0]
            entry = {"name": name, "type": "COMBO" if isinstance(kind_of, list) else kind_of, "link": None}
            if name in definition["input"].get("optional", {}):
                entry["shape"] = 7
            if name in widgets:
                entry["widget"] = {"name": name}
            if isinstance(given.get(name), tuple):
                entry["link"] = self._link(given[name], made, len(inputs), entry["type"])
            inputs.append(entry)
        outputs = [
            {"name": name, "type": output, "links": []}
            for name, output in zip(definition["output_name"], definition["output"], strict=True)
        ]
        made.size = (wide, high or max(len(sockets), len(outputs)) * ROW + tall + FOOT)
        ours = definition["python_module"].startswith("custom_nodes")
        properties = {"Node name for S&R": kind}
        properties |= {"cnr_id": "skrr", "ver": self.pack_version} if ours else {"cnr_id": "comfy-core"}
        if models := models_of({name: given.get(name) for name in widgets}):
            properties["models"] = models
        made.data = {"inputs": inputs, "outputs": outputs, "properties": properties}
        if values:
            made.data["widgets_values"] = values
        if called:
            made.data["title"] = called
        if ours:
            made.data |= {"color": "#432", "bgcolor": "#653"}
        return made

    def note(self, text: str, at, size) -> Node:
        """Adds a note in Markdown."""
        data = {"inputs": [], "outputs": [], "properties": {}, "widgets_values": [text], "title": "Read me"}
        made = Node(len(self.nodes) + 1, "MarkdownNote", at, size, data | {"color": "#222", "bgcolor": "#000"})
        self.nodes.append(made)
        return made

    def group(self, title: str, colour: str, *members: Node) -> None:
        """Draws a frame around nodes."""
        left, top = min(n.at[0] for n in members) - 20, min(n.at[1] for n in members) - 80
        right, bottom = max(n.right for n in members) + 20, max(n.bottom for n in members) + 20
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": [left, top, right - left, bottom - top],
                "color": COLOURS[colour],
                "font_size": 24,
                "flags": {},
            }
        )

    def json(self) -> str:
        """The file's text."""
        nodes = []
        for order, made in enumerate(self._in_order()):
            head = {"id": made.id, "type": made.kind, "pos": list(made.at), "size": list(made.size)}
            nodes.append({**head, "flags": {}, "order": order, "mode": 0, **made.data})
        return json.dumps(
            {
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"skrr/{self.name}")),
                "revision": 0,
                "last_node_id": len(self.nodes),
                "last_link_id": len(self.links),
                "nodes": sorted(nodes, key=lambda node: node["id"]),
                "links": self.links,
                "groups": self.groups,
                "config": {},
                "extra": {"ds": {"scale": 0.6, "offset": [160, 220]}},
                "version": 0.4,
            },
            indent=1,
            ensure_ascii=False,
        )

    @staticmethod
    def _default(kind, options: dict):
        if isinstance(kind, list) or kind == "COMBO":
            choices = kind if isinstance(kind, list) else options.get("options", [])
            return options.get("default", choices[0] if choices else "")
        return options.get("default", {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}[kind])

    def _link(self, source, target: Node, slot: int, kind: str) -> int:
        node, output = source
        number = len(self.links) + 1
        node.data["outputs"][output]["links"].append(number)
        given = node.data["outputs"][output]["type"]
        assert given in kind.split(",") or kind == "*", f"{node.kind} gives {given}, {target.kind} takes {kind}"
        self.links.append([number, node.id, output, target.id, slot, given])
        return number

    def _in_order(self) -> list[Node]:
        """Sources before what they feed."""
        done: list[Node] = []
        left = list(self.nodes)
        while left:
            for made in left:
                feeds = {link[1] for link in self.links if link[3] == made.id}
                if feeds <= {n.id for n in done}:
                    done.append(made)
                    left.remove(made)
                    break
        return done
