"""Skrr CLIP Loader and Skrr Projection: read of a file only what is needed."""

from comfy_api.latest import io

from ..skrr_engine.errors import SkrrError
from .comfy_host.denoiser.projections import ProjectionFile
from .comfy_host.files.folders import list_model_files, model_file
from .comfy_host.files.loading import CLIP_TYPES, load_kept
from .comfy_host.page.pages_state import forget_node, note_loaded
from .comfy_host.report.reporting import report_of
from .types import PLAN, PROJECTION
from .wired import UNWIRED, check_plan

NONE, ENCODERS, DENOISERS = "none", "text_encoders", "diffusion_models"


def _no_files(kind: str, node: str) -> str:
    return f"No file is chosen in {node}. Put a .safetensors file into models/{kind}, refresh the page and choose it."


class SkrrCLIPLoader(io.ComfyNode):
    """Files and, for more, a plan -> CLIP."""

    @classmethod
    def define_schema(cls):
        files = list_model_files(ENCODERS)
        more = [
            io.Combo.Input(
                f"file{number}",
                options=[NONE, *files],
                default=NONE,
                tooltip="A further text encoder, for the types that take several (FLUX two, SD3 up to three).",
            )
            for number in (2, 3, 4)
        ]
        return io.Schema(
            node_id="SkrrCLIPLoader",
            display_name="Skrr CLIP Loader",
            category="Skrr",
            description=(
                "Loads text encoders like ComfyUI's own loaders, but what no picture reads is never read from the "
                "disk and takes no RAM. With a plan even less is read. A file written by Skrr Save Encoder brings its "
                "plan."
            ),
            search_aliases=["load clip", "load pruned T5", "dual clip loader", "vram", "low memory", "text encoder"],
            inputs=[
                io.Combo.Input("file1", options=files, tooltip="A safetensors file in models/text_encoders."),
                *more,
                io.Combo.Input("type", options=list(CLIP_TYPES), tooltip="What the CLIP is for, as in CLIPLoader."),
                io.Float.Input(
                    "sparsity",
                    default=0.4,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much smaller: the plan's smallest level with at least this share removed is taken. "
                    "0 takes nothing of the plan.",
                ),
                io.Combo.Input("device", options=["default", "cpu"], tooltip="cpu keeps the encoder off the GPU."),
                PLAN.Input(
                    "plan",
                    optional=True,
                    tooltip="From Skrr Load Plan. Without one only what no picture reads is left out. Not for a file "
                    "that brings its own.",
                ),
                # These last: saved workflows know the values before them by their order.
                io.Boolean.Input(
                    "pictures",
                    default=False,
                    optional=True,
                    tooltip="Reads also the part of the encoder that looks at pictures, for nodes that show it some.",
                ),
                io.Boolean.Input(
                    "text_generation",
                    default=False,
                    optional=True,
                    tooltip="Reads also what the encoder needs to write text: its head and all its layers.",
                ),
            ],
            outputs=[
                io.Clip.Output("clip", tooltip="The smaller CLIP."),
                io.String.Output("report", tooltip="What was left out and what it takes."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file1=None, file2=None, file3=None, file4=None):
        # Naming them leaves a missing file to execute, which does not run where a pinned plan makes it needless.
        # Where there are no files at all, the page has nothing to send.
        return _no_files(ENCODERS, "Skrr CLIP Loader") if file1 is None else True

    @classmethod
    def execute(
        cls, file1, file2, file3, file4, type, sparsity, device, plan=UNWIRED, pictures=False, text_generation=False
    ):
        forget_node()
        if file1 is None:
            raise SkrrError(_no_files(ENCODERS, "Skrr CLIP Loader"))
        if plan is not UNWIRED:
            check_plan(plan, "Skrr CLIP Loader")
        paths = [model_file(ENCODERS, name) for name in (file1, file2, file3, file4) if name != NONE]
        taken = None if plan is UNWIRED or sparsity == 0 else plan
        level = None if taken is None else taken.level_for(sparsity)
        keep = {"pictures": pictures, "text_generation": text_generation}
        patched = load_kept(paths, type, taken, level, device, **keep)
        report = report_of(patched, None if taken is None else sparsity)
        note_loaded(patched, report)
        return io.NodeOutput(patched.clip, report)


class SkrrProjection(io.ComfyNode):
    """A denoiser's file -> what Skrr Search needs of it."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SkrrProjection",
            display_name="Skrr Projection",
            category="Skrr",
            description=(
                "Stands in for MODEL at Skrr Calibrate and Skrr Search: reads only the text projection from the "
                "denoiser's file, a few MB, so that a search need not load all of FLUX."
            ),
            inputs=[
                io.Combo.Input(
                    "file",
                    options=list_model_files(DENOISERS),
                    optional=True,  # where there are no files the page sends none, and execute says so
                    tooltip="The denoiser's safetensors file in models/diffusion_models (FLUX, SD3, PixArt).",
                )
            ],
            outputs=[PROJECTION.Output("model", tooltip="For the model input of Skrr Calibrate and Skrr Search.")],
        )

    @classmethod
    def validate_inputs(cls, file=None):
        # As above: a shared workflow with a pinned plan runs without the denoiser's file of its author.
        return True

    @classmethod
    def execute(cls, file=None):
        if file is None:
            raise SkrrError(_no_files(DENOISERS, "Skrr Projection"))
        return io.NodeOutput(ProjectionFile(model_file(DENOISERS, file)))
