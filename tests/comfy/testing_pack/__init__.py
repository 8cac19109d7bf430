"""Custom nodes that only the server tests load: tiny random models, so that graphs need no files."""

import importlib.util
import time
from pathlib import Path


def _tiny_models():
    """Load tiny_models.py from beside this pack, or from inside it where the pack was copied, not linked."""
    here = Path(__file__).resolve().parent
    path = next(p for p in (here.parent / "tiny_models.py", here / "tiny_models.py") if p.is_file())
    spec = importlib.util.spec_from_file_location("skrr_testing_tiny_models", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny_models = _tiny_models()


class SkrrTestModels:
    """MODEL, CLIP and VAE of a family, made on the spot."""

    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "load"
    CATEGORY = "skrr/testing"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "family": ([*tiny_models.FAMILIES, tiny_models.KLEIN],),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**31}),
            },
            # Milliseconds before every sub-block: a search to be watched lasts as long on a fast machine, and on a
            # busy one leaves the processor to the browser.
            "optional": {"pause": ("INT", {"default": 0, "min": 0, "max": 1000})},
        }

    def load(self, family, seed, pause=0):
        model, clip, vae = tiny_models.load_family(family, seed)
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


NODE_CLASS_MAPPINGS = {"SkrrTestModels": SkrrTestModels, "SkrrTestSwitch": SkrrTestSwitch}
