"""Dynamic VRAM (comfy-aimdo) on the CPU: ComfyUI's own ModelPatcherDynamic and its weight streaming run for real,
over a make-believe card with a given amount of memory that is plain RAM.

The card is the device `cpu:0`, beside `cpu`: PyTorch copies a tensor that goes from one to the other, and ComfyUI
takes them for two devices. Only what aimdo does in C (allocating, faulting, freeing, pinning) is replaced.
"""

import functools
import itertools

import torch

from .steps import REUSE, SKIP, by_hand, edit
from .tiny_models import pixart_clip

CPU, CARD = torch.device("cpu"), torch.device("cpu:0")
DEVICES = {"load_device": CARD, "offload_device": CPU}
# ComfyUI 0.27 leaves modules of up to 16 KB out of the vbar: these matrices are larger.
WIDE = {"t5xxl_model_config": {"d_ff": 512, "d_kv": 64}}


def wide_clip(**options):
    """A CLIP for the card; dynamic when made after `simulate`."""
    return pixart_clip(**{**WIDE, **DEVICES, **options})


def wide_wanted(*loras, skip=SKIP, reuse=REUSE, **options):
    """What `wide_clip()` with `loras` must give when pruned, by hand: from a CLIP that no card has seen."""
    if loras:
        return by_hand(edit(pixart_clip(**WIDE), *loras, **options), skip, reuse)
    return _wide_wanted(tuple(skip), tuple(reuse.items()))


@functools.cache
def _wide_wanted(skip, reuse):
    return by_hand(pixart_clip(**WIDE), skip, dict(reuse))


class Slot(tuple):
    """A module's place in a vbar, as aimdo hands it out: (vbar, address, size). It has memory while it is resident."""

    memory = signature = None

    @property
    def size(self):
        return self[2]

    def __deepcopy__(self, memo):
        raise TypeError("vbar slots are addresses: a copied one would write into another model's memory")


class VBar:
    """aimdo's ModelVBAR over a card of `room` bytes, shared by all vbars of one simulation."""

    room, made, signatures = 0, [], itertools.count(1)

    def __init__(self, size, device):
        self.slots, self.end = [], 0
        VBar.made.append(self)

    def alloc(self, size):
        self.slots.append(Slot((self, self.end, size)))
        self.end += -(-size // 512) * 512
        return self.slots[-1]

    def prioritize(self):
        """Order of eviction: of no matter here, where nothing is evicted for another model."""

    def loaded_size(self):
        return sum(slot.size for slot in self.slots if slot.memory is not None)

    def free_memory(self, size):
        freed = 0
        for slot in self.slots:
            if slot.memory is not None and freed < size:
                freed += slot.size
                slot.memory = slot.signature = None
        return freed


def fault(slot):
    """The signature of a slot's memory, new if it had to be made; None when the card is full."""
    if slot.memory is None and sum(vbar.loaded_size() for vbar in VBar.made) + slot.size <= VBar.room:
        slot.memory = torch.full((slot.size,), 255, dtype=torch.uint8)
        slot.signature = next(VBar.signatures)
    return slot.signature


class HostBuffer:
    """aimdo's pinned host memory: none."""

    def __init__(self, size, *_):
        self.size = 0

    def truncate(self, size, do_unregister=True):
        """Nothing to give back."""


def simulate(monkeypatch, room):
    """Switches dynamic VRAM on, with a card of `room` bytes. CLIPs made with DEVICES are then dynamic."""
    import comfy.model_management as mm
    import comfy.model_patcher
    import comfy.ops
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_vbar
    import comfy_aimdo.torch
    from comfy.cli_args import args

    VBar.room, VBar.made = room, []
    replace = functools.partial(monkeypatch.setattr, raising=False)  # releases differ in names
    replace(comfy_aimdo.host_buffer, "HostBuffer", HostBuffer)
    replace(comfy_aimdo.model_vbar, "ModelVBAR", VBar)
    replace(comfy_aimdo.model_vbar, "vbar_fault", fault)
    replace(comfy_aimdo.model_vbar, "vbar_unpin", lambda slot: None)
    replace(comfy_aimdo.model_vbar, "vbar_signature_compare", lambda a, b: a is not None and a == b)
    replace(comfy_aimdo.model_vbar, "vbars_analyze", lambda device=None: 0)
    replace(comfy_aimdo.torch, "aimdo_to_tensor", lambda slot, device: slot.memory)
    replace(mm, "is_device_cpu", lambda device: device == CPU)
    replace(mm, "pinned_hostbuf_size", lambda size: 0)
    replace(args, "disable_pinned_memory", True)
    replace(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcherDynamic)
    replace(comfy.ops, "cast_bias_weight", _on_card(comfy.ops.cast_bias_weight))


def _on_card(cast):
    """A tensor on cpu:0 says that it is on cpu, so modules in a vbar are told where their input is."""

    def cast_bias_weight(module, input=None, dtype=None, device=None, *rest, **options):
        if hasattr(module, "_v"):
            device = CARD
        return cast(module, input, dtype, device, *rest, **options)

    return cast_bias_weight


def use_plain_patchers(monkeypatch):
    """What a loader does that is asked for `disable_dynamic=True`."""
    import comfy.model_patcher

    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
