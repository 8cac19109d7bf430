"""Skrr Apply: the smaller text encoder."""

from comfy_api.latest import io

from .comfy_host.clip.free import find_free
from .comfy_host.clip.patching import make_smaller
from .comfy_host.files.side_files import corrections_for
from .comfy_host.page.pages_state import forget_node, note_applied, note_unchanged
from .comfy_host.report.reporting import report_of, unchanged_report
from .types import PLAN
from .wired import UNWIRED, check_clip, check_plan


class SkrrApply(io.ComfyNode):
    """CLIP and, for more, a plan -> a CLIP whose encoder holds only what is read and kept."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SkrrApply",
            display_name="Skrr Apply",
            category="Skrr",
            description=(
                "Makes the CLIP's text encoder smaller. What no picture reads always goes, with no bit of any picture "
                "changed; a plan removes more. Put it between the loader and the prompt. The connected CLIP itself "
                "stays whole."
            ),
            search_aliases=["prune text encoder", "smaller T5", "save memory", "vram", "low memory", "text encoder"],
            inputs=[
                io.Clip.Input("clip", tooltip="From a CLIP loader, in any format: fp16, bf16, fp8, GGUF."),
                PLAN.Input(
                    "plan",
                    optional=True,
                    tooltip="From Skrr Load Plan or Skrr Search. Without one only what no picture reads is removed.",
                ),
                io.Float.Input(
                    "sparsity",
                    default=0.4,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much smaller: the plan's smallest level with at least this share removed is taken. "
                    "0 takes nothing of the plan.",
                ),
                io.Boolean.Input(
                    "pictures",
                    default=False,
                    optional=True,
                    tooltip="Keeps the part of the encoder that looks at pictures, for nodes that show it some.",
                ),
                io.Boolean.Input(
                    "text_generation",
                    default=False,
                    optional=True,
                    tooltip="Keeps what the encoder needs to write text: its head and all its layers.",
                ),
            ],
            outputs=[
                io.Clip.Output("clip", tooltip="The same type of CLIP, smaller."),
                io.String.Output("report", tooltip="What was removed and what it takes now."),
            ],
        )

    @classmethod
    def execute(cls, clip, plan=UNWIRED, sparsity=0.4, pictures=False, text_generation=False):
        forget_node()
        check_clip(clip, "Skrr Apply")
        if plan is not UNWIRED:
            check_plan(plan, "Skrr Apply")
        free = find_free(clip, pictures=pictures, text_generation=text_generation)
        if plan is UNWIRED or sparsity == 0:
            if not free:
                note_unchanged(clip)
                return io.NodeOutput(clip, unchanged_report())
            patched = make_smaller(clip, free=free)
        else:
            level = plan.level_for(sparsity)
            patched = make_smaller(clip, plan, level, free, corrections_for(level))
        report = report_of(patched, sparsity)
        note_applied(clip, patched, report)
        return io.NodeOutput(patched.clip, report)
