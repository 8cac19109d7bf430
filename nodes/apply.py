"""SkrrApply: the smaller text encoder."""

from comfy_api.latest import io

from .comfy_host.clip.patching import apply_level
from .comfy_host.page.pages_state import note_applied
from .comfy_host.report.reporting import report_of, unchanged_report
from .types import PLAN
from .wired import check_clip, check_plan


class SkrrApply(io.ComfyNode):
    """CLIP and plan -> a CLIP whose encoder holds the kept sub-blocks only."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SkrrApply",
            display_name="Skrr Apply",
            category="Skrr",
            description=(
                "Removes the sub-blocks that the plan skips from the CLIP's text encoder. Put it between the loader "
                "and the prompt. The connected CLIP itself stays whole."
            ),
            search_aliases=["prune text encoder", "smaller T5", "save memory"],
            inputs=[
                io.Clip.Input("clip", tooltip="From a CLIP loader, in any format: fp16, bf16, fp8, GGUF."),
                PLAN.Input("plan", tooltip="From Skrr Load Plan or Skrr Search."),
                io.Float.Input(
                    "sparsity",
                    default=0.4,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much smaller: the plan's smallest level with at least this share removed is taken. "
                    "0 passes the CLIP on unchanged.",
                ),
            ],
            outputs=[
                io.Clip.Output("clip", tooltip="The same type of CLIP, smaller."),
                io.String.Output("report", tooltip="What was removed and what it takes now."),
            ],
        )

    @classmethod
    def execute(cls, clip, plan, sparsity):
        check_clip(clip, "Skrr Apply")
        check_plan(plan, "Skrr Apply")
        if sparsity == 0:
            return io.NodeOutput(clip, unchanged_report(sparsity))
        patched = apply_level(clip, plan, plan.level_for(sparsity))
        report = report_of(patched, sparsity)
        note_applied(clip, patched, report)
        return io.NodeOutput(patched.clip, report)
