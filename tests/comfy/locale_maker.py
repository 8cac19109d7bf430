"""The English texts of the nodes as ComfyUI's locales want them, read from the nodes themselves."""

from .workflow_maker import inputs_of

__all__ = ["english"]


def english(info: dict) -> dict:
    """locales/en/nodeDefs.json from node definitions (/object_info): for each node its name and description, for
    each input name and tooltip, for each output, by its number, the same."""
    return {name: _node(definition) for name, definition in sorted(info.items())}


def _node(definition: dict) -> dict:
    found = {"display_name": definition["display_name"], "description": definition["description"]}
    inputs = {
        name: {"name": name, "tooltip": options.get("tooltip", "")}
        for name, (_, options) in inputs_of(definition).items()
    }
    if inputs:
        found["inputs"] = inputs
    named = zip(definition["output_name"], definition["output_tooltips"], strict=True)
    found["outputs"] = {str(number): {"name": name, "tooltip": tooltip} for number, (name, tooltip) in enumerate(named)}
    return found
