"""Does a pruned CLIP really run its own tree? References back into the dense one, and the refusal of them.

A patch, a replaced method or a callback that was bound to a dense module survives cloning: the pruned CLIP would then
compute the dense encoder while its report says that memory was saved.
"""

import collections
import functools
import operator
import types
import weakref

import torch

from ....skrr_engine.errors import SkrrError

__all__ = ["refuse_leaks"]

# Of a patcher: its tree is looked through for itself, and the factory is ours (`patching`), which builds from a file.
NOT_RUN = ("model", "cached_patcher_init")
# What leads nowhere. Python's modules are not followed: they lead everywhere.
ENDS = (types.NoneType, bool, int, float, str, bytes, torch.Tensor, types.ModuleType, types.CodeType)
SEQUENCES = (list, tuple, set, frozenset, collections.deque)
WRAPPED = (types.MethodType, types.BuiltinMethodType, types.MethodWrapperType, staticmethod, classmethod)


def refuse_leaks(clip, dense_tree) -> None:
    """Raises SkrrError when something that `clip` may run is bound to a module of `dense_tree`.

    Follows methods, partial functions, closures, defaults, global names of modules and methods, containers, generators,
    weak references, and the attributes, slots and classes of objects. Nothing is run or changed."""
    dense, seen = {id(module) for module in dense_tree.modules()}, {}
    starts = []
    for path, module in clip.cond_stage_model.named_modules():
        starts += [(f"{path}.{name}".lstrip("."), value) for name, value in vars(module).items() if name != "_modules"]
    for name, value in vars(clip.patcher).items():
        if name not in NOT_RUN:
            starts.append((f"its {name.replace('_', ' ')}", value))
    starts += [(f"its attribute {name!r}", value) for name, value in vars(clip).items() if name != "patcher"]
    for where, value in starts:
        if _reaches(value, dense, seen):
            raise SkrrError(
                f"This CLIP carries something bound to the dense encoder ({where}), which would run instead of the "
                "smaller one. Put Skrr Apply before the node that adds it."
            )


def _reaches(value, dense: set[int], seen: dict) -> bool:
    """Whether a module of `dense` (ids) can be reached from `value` other than through what is `seen` already."""
    left = [value]
    while left:
        part = left.pop()
        if id(part) in dense:
            return True
        if not isinstance(part, ENDS) and id(part) not in seen:
            seen[id(part)] = part  # held, or another object could get its id
            left += _inside(part)
    return False


def _inside(part) -> list:
    """What `part` holds, as far as it may run it."""
    if isinstance(part, dict | types.MappingProxyType):
        return [*part.keys(), *part.values(), *_attributes(part)]
    if isinstance(part, SEQUENCES):
        return [*part, *_attributes(part)]
    if isinstance(part, functools.partial):
        return [part.func, *part.args, *part.keywords.values(), *_attributes(part)]
    if isinstance(part, weakref.ReferenceType):
        return [part()]
    if isinstance(part, WRAPPED):
        return [getattr(part, "__self__", None), getattr(part, "__func__", None)]
    if isinstance(part, property):
        return [part.fget, part.fset, part.fdel]
    if isinstance(part, operator.methodcaller):
        return list(part.__reduce__()[1])  # which shows what it was made of
    if isinstance(part, types.GeneratorType):
        return [] if part.gi_frame is None else list(part.gi_frame.f_locals.values())
    if isinstance(part, types.FunctionType):
        cells = [cell for cell in part.__closure__ or () if cell != types.CellType()]
        defaults = [*(part.__defaults__ or ()), *(part.__kwdefaults__ or {}).values()]
        return [*(cell.cell_contents for cell in cells), *defaults, *vars(part).values(), *_named(part)]
    if isinstance(part, type):
        return [*vars(part).values(), *part.__bases__] if _made_in_python(part) else []
    return _attributes(part)


def _named(function) -> list:
    """What a function calls by a global name, if that is a module or bound to something. Not what else it names: its
    pack's list of all that it has loaded is not what it runs."""
    names, left = set(), [function.__code__]
    while left:
        code = left.pop()
        names.update(code.co_names)
        left += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    found = (function.__globals__.get(name) for name in names)
    return [value for value in found if isinstance(value, (torch.nn.Module, functools.partial, *WRAPPED))]


def _attributes(part) -> list:
    """Of an object: its attributes, slots and, for its methods, its class."""
    found = list(getattr(part, "__dict__", {}).values())
    for cls in type(part).__mro__:
        slots = vars(cls).get("__slots__", ())
        found += [getattr(part, name, None) for name in ([slots] if isinstance(slots, str) else slots)]
    return [*found, type(part)]


def _made_in_python(cls: type) -> bool:
    return "__module__" in vars(cls) and cls.__module__ != "builtins"
