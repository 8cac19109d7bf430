"""What a pruned T5 takes on the device, measured: `COMFYUI_PATH=… python benchmarks/vram.py` in ComfyUI's environment.

Builds ComfyUI's own FLUX CLIP with random fp16 weights, takes the published FLUX plan's levels, loads dense and
pruned in turn through ComfyUI's memory management in legacy mode, and prints one JSON object: for each the bytes
of its tensors, what ComfyUI counts as loaded, and on CUDA what torch.cuda.memory_allocated gained. With --layers
fewer than 24 the plan is cut down to the layers there are, which makes a small run on any machine.
"""

import argparse
import gc
import importlib.util
import json
import os
import sys
from pathlib import Path

PACK = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24, help="layers of the T5 (24: T5-XXL)")
    parser.add_argument("--width", type=int, default=4096, help="its width (4096: T5-XXL)")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    options = parser.parse_args()
    tiny_models, pack = start_comfyui(options.cpu)
    import comfy.model_management as mm
    import torch

    device = mm.get_torch_device()
    config = {"num_layers": options.layers, "d_model": options.width, "d_ff": options.width * 5 // 2, "d_kv": 64}
    clip = tiny_models.flux_clip(t5xxl_model_config={**config, "num_heads": options.width // 64})
    measured = {"dense": measure(mm, torch, device, clip)}
    for skipped in (20, 21):
        small = pruned(pack, clip, skipped)
        measured[f"{skipped} of the FLUX order"] = measure(mm, torch, device, small)
        del small
        gc.collect()
    figures = {"device": str(device), "torch": torch.__version__, "layers": options.layers, "width": options.width}
    print(json.dumps({**figures, "measured": measured}, indent=1))


def start_comfyui(cpu: bool):
    """Puts ComfyUI and the pack into this process; (the tests' tiny models, the pack's importer)."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() not in (PACK, PACK / "benchmarks")]
    sys.path.insert(0, str(Path(os.environ["COMFYUI_PATH"]).expanduser()))
    sys.argv = ["main.py", "--cpu" if cpu else "--disable-dynamic-vram"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import utils.extra_config  # noqa: F401 (before nodes.py hides it)

    def load(name, path, **where):
        spec = importlib.util.spec_from_file_location(name, path, **where)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        return sys.modules[name]

    load("skrr_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    tiny_models = load("tiny_models", PACK / "tests" / "comfy" / "tiny_models.py")
    return tiny_models, lambda name: importlib.import_module(f"skrr_pack.{name}")


def pruned(pack, clip, skipped: int):
    """`clip` without the first `skipped` sub-blocks of the FLUX order that it has."""
    plan = pack("skrr_engine.plans.plan")
    order = pack("skrr_engine.plans.presets").load_preset("flux1-dev").levels[-1].cuts["t5xxl"].skip
    encoder = pack("nodes.comfy_host.clip.trees").choose_encoder(clip, "t5xxl")
    info = {"t5xxl": plan.EncoderInfo(encoder.architecture)}
    here = [i for i in order[:skipped] if i < encoder.architecture.sub_blocks]
    level = plan.make_level(info, {"t5xxl": plan.make_cut(here)})
    return pack("nodes.comfy_host.clip.patching").apply_level(clip, plan.Plan("vram", info, (level,)), level).clip


def measure(mm, torch, device, clip) -> dict:
    """Loads `clip` alone and reads the counters."""
    mm.unload_all_models()
    mm.soft_empty_cache()
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else None
    mm.load_models_gpu([clip.patcher], force_full_load=True)
    found = {"tensor_bytes": mm.module_size(clip.patcher.model), "comfyui_loaded_size": clip.patcher.loaded_size()}
    if before is not None:
        gained = torch.cuda.memory_allocated(device) - before
        found |= {"cuda_allocated": gained, "cuda_over_tensors": gained / found["tensor_bytes"]}
    return found


if __name__ == "__main__":
    main()
