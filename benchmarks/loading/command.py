"""Loading whole against loading what is kept: `COMFYUI_PATH=… python -m benchmarks.loading` in ComfyUI's environment.

Prints one JSON object: the ordinary loader ("dense"), the ordinary loader with Skrr Apply behind it ("applied") and
Skrr CLIP Loader ("kept") on one file, each in fresh processes, medians over the repeats and ratios to dense. All leave
out the free parts; --kind clip a plan's sub-blocks too, --kind klein is a language model without a plan. Without --file
the file is a CLIP-L of real shape, or a narrow Qwen3-4B of 2 GB, with random weights. All figures are bytes or seconds:

    ranges_read   byte ranges asked of the file, header included (dynamic: what the weights are mapped to)
    peak_anon     highest anonymous memory (Linux) above the start; net of the tokenizer: peak_net
    peak_committed  highest committed memory: what Windows would have to grant, touched or not (Linux counts it as a
                  process's data: allocations, and the whole view of a file mapped for copy on write); committed_net
    load_seconds  by the clock; load_cpu_seconds: of processor time, which other work stretches less
    evicted_seconds  a prompt after the encoder was evicted (unload_all_models), encoded; evicted_cpu_seconds likewise
                  (not for klein, whose 512 tokens take a CPU minutes)
    vram          gained by loading it: torch.cuda.memory_allocated in legacy mode, aimdo's own counter in dynamic mode

Times are medians of --times in each process. What this machine cannot measure is null.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WAYS = ("dense", "applied", "kept")
MODES = "ComfyUI's memory management; simulated: dynamic VRAM without a card, for RAM and byte ranges only"
CHILD = Path(__file__).resolve().with_name("child.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help="a text encoder's .safetensors file")
    parser.add_argument(
        "--kind", choices=("clip", "klein"), default="clip", help="CLIP-L, a plan; klein's encoder, none"
    )
    parser.add_argument("--type", help="as in ComfyUI's CLIPLoader (sd3, for klein flux2)")
    parser.add_argument("--mode", choices=("legacy", "dynamic", "simulated"), default="legacy", help=MODES)
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU")
    parser.add_argument("--cold", action="store_true", help="each load reads the disk, not the system's cache (Linux)")
    parser.add_argument("--sparsity", type=float, default=0.4, help="how much of the parameters goes (0.4)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--times", type=int, default=5, help="how often each process loads and encodes (5)")
    options = parser.parse_args()
    options.type = options.type or {"clip": "sd3", "klein": "flux2"}[options.kind]
    with tempfile.TemporaryDirectory(prefix="skrr-loading-") as folder:
        if options.file is None:
            call(options, "write", file=Path(folder) / "models")
            options.file = next((Path(folder) / "models" / "text_encoders").iterdir())
        print(json.dumps(compare(options), indent=1))


def compare(options) -> dict:
    """All ways on one file: medians, and ratios to dense."""
    runs = {way: [call(options, way) for _ in range(options.repeats)] for way in WAYS}
    where, tokenizer = runs["kept"][0]["where"], runs["kept"][0]["tokenizer"]
    fixed = median([call(options, f"tokenizer:{tokenizer}") for _ in range(options.repeats)])
    found = {way: median([result["figures"] for result in results]) for way, results in runs.items()}
    for figures in found.values():
        for peak, net in (("peak_anon", "peak_net"), ("peak_committed", "committed_net")):
            figures[net] = None if figures[peak] is None else figures[peak] - fixed[peak]
            figures[f"{net}_over_kept"] = over(figures[net], found["kept"]["weights"])
        figures["ranges_over_weights"] = over(figures["ranges_read"], figures["weights"])
        figures["over_dense"] = {
            name: over(value, found["dense"][name])
            for name, value in figures.items()
            if not isinstance(value, dict) and "over" not in name
        }
    return {**where, "file": options.file.name, "file_bytes": options.file.stat().st_size, "type": options.type,
            "kind": options.kind, "cold": options.cold, "repeats": options.repeats,
            "tokenizer": fixed, **found}  # fmt: skip


def over(value, whole):
    """A ratio, or None where there is none."""
    return value / whole if value is not None and whole else None


def median(results: list[dict]) -> dict:
    """One dict of medians; None stays None."""
    found = {}
    for name, value in results[0].items():
        values = [result[name] for result in results]
        if isinstance(value, dict):
            found[name] = median(values)
        else:
            found[name] = None if value is None else statistics.median(values)
    return found


def call(options, what: str, file: Path | None = None) -> dict:
    """What a fresh process measures: nothing of an earlier load is left in its allocators."""
    settings = {"what": what, "file": str(file or options.file), "type": options.type, "mode": options.mode}
    settings |= {"cpu": options.cpu, "sparsity": options.sparsity, "cold": options.cold}
    settings |= {"kind": options.kind, "times": options.times}
    done = subprocess.run([sys.executable, str(CHILD), json.dumps(settings)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"Measuring {what} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
