"""Skrr for ComfyUI: makes the text encoder of a workflow smaller. ComfyUI's door; everything else is below."""

from comfy_api.latest import ComfyExtension, io

from .nodes import NODE_CLASS_MAPPINGS as _NODES
from .nodes.comfy_host.page.pages import add_routes
from .nodes.plans import AUTO_PRESETS

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

WEB_DIRECTORY = "web"


class SkrrExtension(ComfyExtension):
    """Hands over the nodes and the routes of the web folder's scripts."""

    async def on_load(self) -> None:
        add_routes(AUTO_PRESETS)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(_NODES.values())


async def comfy_entrypoint() -> SkrrExtension:
    """Called by ComfyUI when it loads the pack."""
    return SkrrExtension()
