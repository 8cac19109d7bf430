"""One measurement of benchmarks.loading, in a process of its own: `python child.py '{"what": …}'`.

`what` is "dense", "applied" or "kept" (ways of loading), "tokenizer:<module>:<class>" (what it takes alone), or
"write" (writes the random file of the kind). Prints one line of JSON last.
"""

import gc
import importlib
import importlib.util
import json
import os
import statistics
import sys
import time
import types
from pathlib import Path

import klein  # beside this file
from meters import PeakMemory, mapped, requested, watch_files, watch_reader  # beside this file

PACK = Path(__file__).resolve().parents[2]
SLOTS = {("clip", 768): "clip_l", ("clip", 1024): "clip_h", ("clip", 1280): "clip_g"}
PROMPTS = ("a red fox reading a map", "a lighthouse in the fog")


def main() -> None:
    options = types.SimpleNamespace(**json.loads(sys.argv[1]))
    options.file = Path(options.file)
    asked = watch_files()
    found = measure(options, start_comfyui(options), asked)
    print("\n" + json.dumps(found))


def start_comfyui(options):
    """Puts ComfyUI and the pack into this process, as main.py would in that mode; the pack's importer."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() not in (PACK, PACK / "benchmarks")]
    sys.path.insert(0, str(Path(os.environ["COMFYUI_PATH"]).expanduser()))
    sys.argv = ["main.py", *["--cpu"] * options.cpu, *["--disable-dynamic-vram"] * (options.mode == "legacy")]
    import comfy.options

    comfy.options.enable_args_parsing()
    if options.mode != "legacy":
        control = importlib.import_module("comfy_aimdo.control")
        control.init()
    import comfy.model_management as mm
    import utils.extra_config  # noqa: F401 (before nodes.py hides it)

    if options.mode == "dynamic":
        switch_dynamic_on(mm, control)
    elif options.mode == "simulated":
        simulate_dynamic(mm)
    spec = importlib.util.spec_from_file_location(
        "skrr_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    sys.modules["skrr_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["skrr_pack"])
    return lambda name: importlib.import_module(f"skrr_pack.{name}")


def simulate_dynamic(mm) -> None:
    """Dynamic VRAM without a card: the file is mapped by aimdo itself, as it would be; only the card is the tests'
    make-believe one. For memory and byte ranges, not for times."""
    if not sys.platform.startswith(("linux", "win")):
        raise SystemExit("comfy-aimdo is for Linux and Windows only. Measure --mode legacy.")
    import comfy.memory_management
    import torch

    patch = types.SimpleNamespace(setattr=lambda owner, name, value, raising=False: setattr(owner, name, value))
    helper("dynamic_vram").simulate(patch, 1 << 40)
    comfy.memory_management.aimdo_enabled = True
    mm.text_encoder_device = lambda: torch.device("cpu:0")


def helper(name: str):
    """A module of tests/comfy."""
    tests = types.ModuleType("skrr_tests")
    tests.__path__ = [str(PACK / "tests" / "comfy")]
    sys.modules.setdefault("skrr_tests", tests)
    return importlib.import_module(f"skrr_tests.{name}")


def switch_dynamic_on(mm, control) -> None:
    """What main.py does before it starts the server: aimdo on the card, or an end with a sentence."""
    device = mm.get_torch_device()
    if device.type != "cuda":
        raise SystemExit("Dynamic VRAM needs an NVIDIA GPU; this machine has none. Measure --mode legacy.")
    several = getattr(control, "init_devices", None)
    if not (several([device.index]) if several else control.init_device(device.index)):
        raise SystemExit("comfy-aimdo does not work here. Measure --mode legacy.")
    import comfy.memory_management
    import comfy.model_patcher

    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True


def measure(options, pack, asked: list[str]) -> dict:
    """`options.what`; `asked` is the list of `watch_files`."""
    if options.what == "write" and options.kind == "klein":
        klein.write(options.file / "text_encoders" / klein.NAME)
        return {}
    if options.what == "write":
        helper("model_files").write_ordinary_files(options.file)
        return {}
    sd = importlib.import_module("comfy.sd")
    if options.kind == "klein":
        klein.narrow(sd)
    loading = pack("nodes.comfy_host.files.loading")
    if options.what.startswith("tokenizer:"):
        module, name = options.what.split(":")[1:]
        with PeakMemory() as memory:
            keep = getattr(importlib.import_module(module), name)(embedding_directory=None, tokenizer_data={})
        del keep
        return {"peak_anon": memory.anon, "peak_committed": memory.committed}
    watch_reader(pack("skrr_engine.files.tensor_reading").TensorReader, asked)
    plan = plan_for(pack, options) if options.kind == "clip" else None
    if options.cold:
        forget(options.file)
    with PeakMemory() as memory:
        clip = load(pack, loading, options, plan)
    header = pack("skrr_engine.files.header").read_header(options.file)
    weights = pack("nodes.comfy_host.weights.memory").module_bytes(clip.patcher.model)
    found = {
        "weights": weights,
        "ranges_read": header.data_at + (requested(header, asked) if options.mode == "legacy" else mapped(clip)),
        "peak_anon": memory.anon,
        "after_anon": memory.now()[0],
        "peak_committed": memory.committed,
        "after_committed": memory.now()[1],
        **run_it(clip, options),
    }
    tokenizer = type(clip.tokenizer)
    del clip
    found |= load_again(pack, loading, options, plan)
    return {"figures": found, "where": where(options), "tokenizer": f"{tokenizer.__module__}:{tokenizer.__name__}"}


def load(pack, loading, options, plan):
    """The CLIP; smaller by its free parts, and by the plan if there is one."""
    kind, level = options.type, None if plan is None else plan.levels[0]
    if options.what == "kept":
        return loading.load_kept([options.file], kind, plan, level).clip
    sd = sys.modules["comfy.sd"]
    clip = sd.load_clip([str(options.file)], clip_type=getattr(sd.CLIPType, kind.upper()))
    if options.what == "dense":
        return clip
    free = pack("nodes.comfy_host.clip.free").find_free(clip, tables=True)
    return pack("nodes.comfy_host.clip.patching").make_smaller(clip, plan, level, free).clip


def load_again(pack, loading, options, plan) -> dict:
    """Times of loading, without the meter of memory, which takes time itself. In simulated mode there are none."""
    times = []
    for _ in range(options.times if options.mode != "simulated" else 0):
        sys.modules["comfy.model_management"].unload_all_models()
        gc.collect()
        if options.cold:
            forget(options.file)
        times.append(timed(lambda: load(pack, loading, options, plan)))
    return {"load_seconds": middle(times, 0), "load_cpu_seconds": middle(times, 1)}


def run_it(clip, options) -> dict:
    """A prompt change after eviction, and the memory on the card."""
    mm, torch = sys.modules["comfy.model_management"], sys.modules["torch"]

    def vram():
        if mm.get_torch_device().type != "cuda":
            return None
        if options.mode == "legacy":
            return torch.cuda.memory_allocated()
        return importlib.import_module("comfy_aimdo.control").get_total_vram_usage()

    times, gained = [], None
    if options.mode != "simulated" and options.kind == "clip":  # klein's 512 tokens take a CPU minutes
        clip.encode_from_tokens(clip.tokenize(PROMPTS[0]), return_pooled=True)
        for _ in range(options.times):
            mm.unload_all_models()
            mm.soft_empty_cache()
            before = vram()
            times.append(timed(lambda: clip.encode_from_tokens(clip.tokenize(PROMPTS[1]), return_pooled=True)))
            gained = None if before is None else vram() - before
    return {"evicted_seconds": middle(times, 0), "evicted_cpu_seconds": middle(times, 1), "vram": gained}


def timed(work) -> tuple[float, float]:
    """Seconds that `work` takes by the clock, and of this process's own time."""
    started = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started[0], time.process_time() - started[1]


def middle(times: list[tuple[float, float]], which: int) -> float | None:
    """The median of one of both, None where nothing was timed."""
    return statistics.median(pair[which] for pair in times) if times else None


def forget(file: Path) -> None:
    """Takes the file out of the system's cache: the next read is from the disk."""
    if not hasattr(os, "posix_fadvise"):
        raise SystemExit("--cold needs Linux. Measure without it.")
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plan_for(pack, options):
    """A plan of one level for the file's encoder: sub-blocks from the last but one layer down. Which ones are
    skipped does not matter for these figures."""
    plans, names = pack("skrr_engine.plans.plan"), pack("skrr_engine.files.tensor_names")
    header = pack("skrr_engine.files.header").read_header(options.file)
    encoder = names.find_encoders(header.tensors)[0]
    shape = pack("skrr_engine.files.infer").infer_architecture(encoder, options.file)
    t5 = "umt5xxl" if shape.position_bias == "every" else "t5xxl"
    slot = SLOTS.get((shape.family, shape.width), t5)
    skip = []
    while shape.sparsity(skip) < options.sparsity:
        skip.append(shape.sub_blocks - 3 - len(skip))
    info = {slot: plans.EncoderInfo(shape)}
    return plans.Plan("benchmark", info, (plans.make_level(info, {slot: plans.make_cut(skip)}),))


def where(options) -> dict:
    """What the figures were taken on."""
    mm, torch = sys.modules["comfy.model_management"], sys.modules["torch"]
    version = importlib.import_module("comfyui_version").__version__
    device = str(mm.get_torch_device())
    return {"comfyui": version, "torch": torch.__version__, "device": device, "mode": options.mode}


if __name__ == "__main__":
    main()
