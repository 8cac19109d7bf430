"""Skrr Calibrate: prompts, tokenised by the workflow's own CLIP."""

from hashlib import sha256

from comfy_api.latest import io

from ..skrr_engine.disk import reading
from ..skrr_engine.errors import SkrrError
from ..skrr_engine.files.prompt_files import builtin_prompts, clean_prompts, prompt_lines, read_prompts
from .comfy_host.clip.trees import largest_known
from .comfy_host.denoiser.projections import find_projection
from .comfy_host.files.folders import list_prompt_files, prompt_file
from .comfy_host.search.calibrating import tokenize
from .types import CALIBRATION, PROJECTION
from .wired import check_clip

BUILT_IN, TEXT = "built-in", "text"


class SkrrCalibrate(io.ComfyNode):
    """Prompts -> calibration."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SkrrCalibrate",
            display_name="Skrr Calibrate",
            category="Skrr",
            description="Prepares the prompts on which Skrr Search measures how much a smaller text encoder changes.",
            search_aliases=["calibration prompts", "prune text encoder"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP that the workflow encodes its prompts with."),
                io.Combo.Input(
                    "prompts",
                    options=[BUILT_IN, TEXT, *list_prompt_files()],
                    default=BUILT_IN,
                    tooltip="The pack's own 600 prompts, the text below, or a file in ComfyUI's input folder: .txt, a "
                    "prompt a line; .jsonl or .csv with a prompt, text or caption.",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="Your own prompts, one a line. Used when prompts is set to text.",
                ),
                io.Int.Input(
                    "limit",
                    default=64,
                    min=1,
                    max=2000,
                    tooltip="At most this many prompts, evenly spread over the list. More is slower and more reliable.",
                ),
                io.MultiType.Input(
                    "model",
                    types=[io.Model, PROJECTION],
                    optional=True,
                    tooltip="The MODEL that will be searched against; checked here to belong to the CLIP.",
                ),
            ],
            outputs=[CALIBRATION.Output("calibration", tooltip="For Skrr Search.")],
        )

    @classmethod
    def validate_inputs(cls, prompts):
        # Naming the input keeps ComfyUI from refusing a file that came after the page was loaded.
        return True

    @classmethod
    def fingerprint_inputs(cls, clip, prompts, text, limit, model=None):
        if prompts in (BUILT_IN, TEXT):
            return ""
        path = prompt_file(prompts)
        with reading(path):
            return sha256(path.read_bytes()).hexdigest()

    @classmethod
    def execute(cls, clip, prompts, text, limit, model=None):
        check_clip(clip, "Skrr Calibrate")
        if model is not None:
            find_projection(model, largest_known(clip))
        if prompts == BUILT_IN:
            lines = builtin_prompts()
        elif prompts == TEXT:
            if not text.strip():
                raise SkrrError("prompts is set to text, but the text is empty. Write one prompt a line.")
            lines = prompt_lines(text)
        else:
            lines = read_prompts(prompt_file(prompts))
        return io.NodeOutput(tokenize(clip, clean_prompts(lines, limit)))
