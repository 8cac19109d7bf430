"""Custom nodes that only the server tests load: tiny random models, so that graphs need no files."""

import importlib
import sys
import time
from pathlib import Path
from types import ModuleType


def _beside(*names):
    """Modules that stand beside this pack, or inside it where the pack was copied, not linked."""
    here = Path(__file__).resolve().parent
    folder = next(p for p in (here.parent, here) if all((p / f"{name}.py").is_file() for name in names))
    package = sys.modules["skrr_testing_tiny"] = ModuleType("skrr_testing_tiny")
    package.__path__ = [str(folder)]
    return [importlib.import_module(f"skrr_testing_tiny.{name}") for name in names]


tiny_models, tiny_language = _beside("tiny_models", "tiny_language")
tiny_language.narrow_umt5()


class SkrrTestModels:
    """MODEL, CLIP and VAE of a family, made on the spot."""

    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "load"
    CATEGORY = "skrr/testing"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "family": ([*tiny_models.FAMILIES, *tiny_language.FAMILIES],),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**31}),
            },
            # Milliseconds before every sub-block: a search to be watched lasts as long on a fast machine, and on a
            # busy one leaves the processor to the browser.
            "optional": {"pause": ("INT", {"default": 0, "min": 0, "max": 1000})},
        }

    def load(self, family, seed, pause=0):
        maker = tiny_language if family in tiny_language.FAMILIES else tiny_models
        model, clip, vae = maker.load_family(family, seed)
        if pause:
            for name, module in clip.cond_stage_model.named_modules():
                if name.endswith(".layer_norm"):
                    module.register_forward_pre_hook(lambda *_: time.sleep(pause / 1000))
        return model, clip, vae


class SkrrTestSwitch:
    """A switch as other packs have them, for a plan."""

    RETURN_TYPES = ("SKRR_PLAN",)
    FUNCTION = "switch"
    CATEGORY = "skrr/testing"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"plan": ("SKRR_PLAN",), "on": ("BOOLEAN", {"default": True})}}

    def switch(self, plan, on):
        return (plan if on else None,)


class SkrrTestFails:
    """Hands on a CLIP, or fails."""

    RETURN_TYPES = ("CLIP",)
    FUNCTION = "hand_on"
    CATEGORY = "skrr/testing"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"clip": ("CLIP",), "fails": ("BOOLEAN", {"default": False})}}

    def hand_on(self, clip, fails):
        if fails:
            raise RuntimeError("as asked for")
        return (clip,)


NODE_CLASS_MAPPINGS = {each.__name__: each for each in (SkrrTestModels, SkrrTestSwitch, SkrrTestFails)}
