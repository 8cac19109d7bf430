"""From the form that the page saves to the form that it posts, as the page does it, through /object_info."""

from .workflow_maker import has_control, inputs_of, is_widget

__all__ = ["check", "to_api"]

CONTROLS = {"fixed", "increment", "decrement", "randomize"}
# Nodes of the page itself.
NOTES = {"MarkdownNote", "Note"}
# Inputs that name a file of the user's.
FILES = {"unet_name", "clip_name", "clip_name1", "clip_name2", "clip_name3", "vae_name", "ckpt_name", "file"}
FILES |= {"text_encoder", *(f"file{number}" for number in range(1, 5))}


def to_api(graph: dict, info: dict) -> dict:
    """node id -> {class_type, inputs} for every node but notes. Fails where a value has no widget or the other way
    round."""
    links = {link[0]: link for link in graph["links"]}
    posted = {}
    for node in graph["nodes"]:
        if node["type"] in NOTES:
            continue
        specs = inputs_of(info[node["type"]])
        values = list(node.get("widgets_values", []))
        found = {}
        for name, (kind, options) in specs.items():
            if not is_widget(kind, options):
                continue
            assert values, f"{node['type']}: no value for {name}"
            found[name] = values.pop(0)
            if has_control(name, kind, options):
                assert values.pop(0) in CONTROLS, f"{node['type']}: {name} lacks its control"
        assert not values, f"{node['type']}: values without a widget: {values}"
        for entry in node["inputs"]:
            if entry["link"] is not None:
                _, source, slot, *_ = links[entry["link"]]
                found[entry["name"]] = [str(source), slot]
        posted[str(node["id"])] = {"class_type": node["type"], "inputs": found}
    return posted


def check(graph: dict, info: dict) -> None:
    """Raises AssertionError unless links, slots and widget values agree with the definitions."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"]) and graph["last_node_id"] == max(nodes)
    assert len({link[0] for link in graph["links"]}) == len(graph["links"])
    for node in nodes.values():
        if node["type"] in NOTES:
            continue
        assert node["type"] in info, f"there is no node {node['type']}"
        definition = info[node["type"]]
        specs = inputs_of(definition)
        names = [entry["name"] for entry in node["inputs"]]
        assert sorted(names) == sorted(specs), f"{node['type']}: {names} instead of {list(specs)}"
        for name in definition["input"].get("required", {}):
            kind, options = specs[name]
            linked = node["inputs"][names.index(name)]["link"] is not None
            assert linked or is_widget(kind, options), f"{node['type']}: nothing is connected to {name}"
        wanted = list(zip(definition["output_name"], definition["output"], strict=True))
        outputs = [(entry["name"], entry["type"]) for entry in node["outputs"]]
        used = [slot for slot, entry in enumerate(node["outputs"]) if entry["links"]]
        # ComfyUI gives its preview and save nodes outputs in one release and none in another.
        assert all(outputs[slot : slot + 1] == wanted[slot : slot + 1] for slot in used), node["type"]
        assert outputs == wanted or definition["category"] != "Skrr", node["type"]
    for number, source, slot, target, entry, kind in graph["links"]:
        out, into = nodes[source]["outputs"][slot], nodes[target]["inputs"][entry]
        assert number in out["links"] and into["link"] == number
        assert out["type"] == kind and (into["type"] in ("*", "COMBO") or kind in into["type"].split(","))
    ends = [entry["link"] for node in nodes.values() for entry in node["inputs"] if entry["link"] is not None]
    starts = [number for node in nodes.values() for entry in node["outputs"] for number in entry["links"]]
    assert sorted(ends) == sorted(starts) == sorted(link[0] for link in graph["links"])
    for posted in to_api(graph, info).values():
        _check_values(posted, inputs_of(info[posted["class_type"]]))


def _check_values(posted: dict, specs: dict) -> None:
    for name, value in posted["inputs"].items():
        kind, options = specs[name]
        if isinstance(value, list):
            continue
        where = f"{posted['class_type']}.{name} = {value!r}"
        choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
        if choices is not None:
            assert isinstance(value, str) and (value in choices or name in FILES), where
        elif kind == "BOOLEAN":
            assert isinstance(value, bool), where
        elif kind == "STRING":
            assert isinstance(value, str), where
        else:
            assert type(value) is int or (kind == "FLOAT" and type(value) is float), where
            assert options.get("min", value) <= value <= options.get("max", value), where
