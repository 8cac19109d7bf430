"""Does a pruned CLIP really run its own tree? References back into the dense one, and the refusal of them.

A patch, a replaced method or a callback that was bound to a dense module survives cloning: the pruned CLIP would then
compute the dense encoder while its report says that memory was saved.
"""

import functools
import types

from torch import nn

from ....skrr_engine.errors import SkrrError

__all__ = ["refuse_leaks"]

# What of a patcher may be run while it encodes. `cached_patcher_init` is ours (`patching`), and builds from a file.
RUN_BY_THE_PATCHER = ("object_patches", "weight_wrapper_patches", "callbacks", "wrappers", "model_options")


def refuse_leaks(clip, dense_tree) -> None:
    """Raises SkrrError when something that `clip` may run is bound to a module of `dense_tree`.

    Follows bound methods, partial functions, closures, defaults, callable objects and containers; of modules only what
    was set on the instance. Nothing is changed."""
    dense = {id(module) for module in dense_tree.modules()}
    starts = [(f"its attribute {name!r}", value) for name, value in vars(clip).items() if name != "patcher"]
    for name in RUN_BY_THE_PATCHER:
        starts += [(f"its {name.replace('_', ' ')}", getattr(clip.patcher, name, None))]
    for path, module in clip.cond_stage_model.named_modules():
        starts += [(f"{path}.{name}", value) for name, value in vars(module).items() if _is_code(value)]
    for where, value in starts:
        if _reaches(value, dense):
            raise SkrrError(
                f"This CLIP carries something bound to the dense encoder ({where}), which would run instead of the "
                "smaller one. Put Skrr Apply before the node that adds it."
            )


def _is_code(value) -> bool:
    return isinstance(value, types.FunctionType | types.MethodType | functools.partial)


def _reaches(value, dense: set[int]) -> bool:
    """Whether a module of `dense` (ids) can be reached from `value`."""
    left, seen = [value], set()
    while left:
        part = left.pop()
        if id(part) in dense:
            return True
        if id(part) not in seen:
            seen.add(id(part))
            left += _inside(part)
    return False


def _inside(part) -> list:
    """What `part` holds, as far as it may run it."""
    if isinstance(part, dict):
        return list(part.values())
    if isinstance(part, list | tuple | set):
        return list(part)
    if isinstance(part, functools.partial):
        return [part.func, *part.args, *part.keywords.values()]
    if isinstance(part, types.MethodType):
        return [part.__self__, part.__func__]
    if isinstance(part, types.FunctionType):
        cells = [cell for cell in part.__closure__ or () if cell != types.CellType()]
        defaults = [*(part.__defaults__ or ()), *(part.__kwdefaults__ or {}).values()]
        return [*(cell.cell_contents for cell in cells), *defaults]
    if callable(part) and not isinstance(part, nn.Module | type) and hasattr(part, "__dict__"):
        return list(vars(part).values())
    return []
