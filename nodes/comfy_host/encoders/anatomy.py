"""Where the parts of an encoder stand: what can be taken out of it without looking into a layer."""

from dataclasses import dataclass

import torch

__all__ = ["Anatomy", "PassOn", "children", "deepest_read", "reads_last"]

# What encoders hold beside their text part, to be shown pictures or sounds: children of the transformer.
SENSES = ("visual", "vision_model", "multi_modal_projector", "audio_model", "audio_projector")


@dataclass(frozen=True)
class Anatomy:
    """Paths below an encoder's transformer.

    `core` is the module that runs the layers and is told which states to hand out; `norm` the one behind the last
    layer, `table` the token embedding; `head` what only generating text uses, `tower` what only pictures and sounds
    use, `projection` what only the projected pooled output uses. `pooled`: whether it has a pooled output, taken from
    the last state. `stub` is the module class that stands in for a removed layer.
    """

    core: str
    layers: str
    norm: str | None
    table: str
    stub: type
    head: tuple[str, ...] = ()
    tower: tuple[str, ...] = ()
    projection: str | None = None
    pooled: bool = False


class PassOn(torch.nn.Module):
    """A removed layer where a layer takes (x, further) and hands on x."""

    def forward(self, x, *args, **kwargs):
        """The stream as it is: the very tensor, not a copy."""
        return x


def children(module, names) -> tuple[str, ...]:
    """Those of `names` under which `module` holds a module."""
    return tuple(name for name in names if getattr(module, name, None) is not None)


def deepest_read(request, layers: int) -> int:
    """How many of `layers` run before the last state that ComfyUI's `intermediate_output` asks for is there.

    None is the last state, "all" every one, a number the state behind that layer (counted from 0, or from the end), a
    list the states *before* those layers, where `layers` itself is the last state.
    """
    if request is None or isinstance(request, str):
        return layers
    if isinstance(request, list | tuple):
        return max((min(index % layers if index < 0 else index, layers) for index in request), default=layers)
    return min((request % layers if request < 0 else request) + 1, layers)


def reads_last(request, layers: int) -> bool:
    """Whether `intermediate_output` asks for the state behind the norm that follows the last layer."""
    if request is None or isinstance(request, str):
        return True
    return isinstance(request, list | tuple) and layers in request
