"""Skrr for ComfyUI: makes the text encoder of a workflow smaller. ComfyUI's door; everything else is below."""

from comfy_api.latest import ComfyExtension, io

from .nodes import NODE_CLASS_MAPPINGS as _NODES

__all__ = ["comfy_entrypoint"]


class SkrrExtension(ComfyExtension):
    """Hands over the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(_NODES.values())


async def comfy_entrypoint() -> SkrrExtension:
    """Called by ComfyUI when it loads the pack."""
    return SkrrExtension()
