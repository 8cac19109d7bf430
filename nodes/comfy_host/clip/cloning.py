"""A structural clone of a module tree: new modules and new parameters over the same storages (or copies).

Object patches on the shared tree look simpler and are wrong: LoRA keys of the dense CLIP vanish while the
pruned one is loaded, and dynamic VRAM breaks on the switch. A clone leaves its source alone.
"""

import copy
import io
import threading
import types

import torch

from ....skrr_engine.errors import SkrrError
from ..weights.weights import rewrap

__all__ = ["structural_clone"]

# What ComfyUI leaves on modules while a model is loaded or has been: load state, VRAM handles, pins and LoRA
# functions belong to one tree and must not be copied. `*_comfy_model_dtype` and `comfy_cast_weights` stay.
MODULE_STATE = frozenset(
    "_v _v_block _v_block_faulted _v_signature _v_weight _v_bias _prefetch _comfy_graph "
    "_pin _pin_state _pin_registered _pin_balancer_entry pin_failed "
    "seed_key weight_lowvram_function bias_lowvram_function weight_function bias_function "
    "prev_comfy_cast_weights comfy_patched_weights comfy_force_cast_weights _resident_bank".split()
)
ROOT_STATE = frozenset(
    "dynamic_vbars dynamic_pins model_loaded_weight_memory lowvram_patch_counter model_lowvram "
    "current_weight_patches_uuid model_offload_buffer_memory current_patcher".split()
)
# Where PyTorch keeps what a module is made of: new in the clone in any case.
OWN = frozenset({"_parameters", "_buffers", "_modules"})
# copy.deepcopy asks its memo first even for these, and they are shared by everything. A tuple is not: a slot of dynamic
# VRAM is one, and holds a handle that must not be copied.
SHARED_SINGLETONS = (type(None), bool, int, float, str, bytes, type)
# What cannot be copied, holds no weights, and serves both trees as well as one.
NEVER_COPIED = (
    types.ModuleType, types.GeneratorType, io.IOBase, threading.local, type(threading.Lock()), type(threading.RLock()),
    threading.Condition, threading.Event, threading.Semaphore,
)  # fmt: skip
# How a copy is refused; PyTorch does it for some tensors by a RuntimeError.
UNCOPYABLE = (TypeError, NotImplementedError, copy.Error, RuntimeError)


def structural_clone(root, copied=lambda parameter: False):
    """A new tree like `root`: every module new, every parameter and buffer new over the same storage, except those for
    which `copied(tensor)` is true, which get a storage of their own. Run-time state is left behind. `root` is not
    changed; it must be at rest (`memory.rest`), or what a loaded LoRA wrote would be cloned along."""
    memo = {}
    for module in root.modules():
        for parameter in module.parameters(recurse=False):
            memo[id(parameter)] = rewrap(parameter, share=not copied(parameter))
        for buffer in module.buffers(recurse=False):  # quantised layers of other packs keep their weights there
            memo[id(buffer)] = buffer.detach() if not copied(buffer) else buffer.detach().clone()
        for name in _state(root, module):
            value = module.__dict__[name]
            if value != () and not isinstance(value, SHARED_SINGLETONS):
                memo[id(value)] = None
        for value in _held(module):
            if isinstance(value, NEVER_COPIED):
                memo[id(value)] = value
            elif isinstance(value, torch.Tensor) and not value.is_leaf:  # PyTorch copies none that knows its history
                memo[id(value)] = value.detach().clone()
    try:
        clone = copy.deepcopy(root, dict(memo))
    except UNCOPYABLE as error:
        if not _refused(error):
            raise
        raise SkrrError(
            f"This CLIP cannot be made smaller: {_uncopyable(root, memo)} cannot be copied ({error}). Put Skrr Apply "
            "before the node that adds it."
        ) from error
    for module in clone.modules():
        for name in _state(clone, module):
            del module.__dict__[name]
    return clone


def _held(module):
    """What other packs may have set on `module`, also inside containers and plain objects."""
    left, seen = [value for name, value in vars(module).items() if name not in OWN], set()
    while left:
        value = left.pop()
        if isinstance(value, (*SHARED_SINGLETONS, torch.nn.Module)) or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, (*NEVER_COPIED, torch.Tensor)):
            continue
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | tuple | set):
            left += value
        elif not callable(value):
            left += getattr(value, "__dict__", {}).values()


def _refused(error: Exception) -> bool:
    """Whether copying was refused; what else goes wrong meanwhile, such as memory that is short, is told as it is."""
    return not isinstance(error, RuntimeError) or isinstance(error, NotImplementedError) or "deepcopy" in str(error)


def _uncopyable(root, memo) -> str:
    """The attribute that a copy of `root` fails at, and what it holds."""
    for path, module in root.named_modules():
        for name, value in vars(module).items():
            if name in OWN or id(value) in memo:
                continue
            try:
                copy.deepcopy(value, dict(memo))
            except UNCOPYABLE:
                return f"its attribute {f'{path}.{name}'.removeprefix('.')!r} (a {type(value).__name__})"
    return f"a module of its {type(root).__name__}"


def _state(root, module):
    names = MODULE_STATE | ROOT_STATE if module is root else MODULE_STATE
    return [name for name in module.__dict__ if name in names or name.startswith("_pin")]
