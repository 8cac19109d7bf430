"""Skrr Apply: the smaller text encoder."""

from comfy_api.latest import io

from ..skrr_engine.plans.presets import preset_names
from .comfy_host.clip.free import find_free
from .comfy_host.clip.patching import make_smaller
from .comfy_host.files.best_plan import best_plan, named_plan
from .comfy_host.files.folders import list_plans, plans_state
from .comfy_host.files.side_files import corrections_for
from .comfy_host.page.pages_state import forget_node, note_applied, note_unchanged
from .comfy_host.report.reporting import report_of, unchanged_report
from .types import PLAN
from .wired import UNWIRED, check_clip, check_plan

AUTO, NONE = "auto", "none"


class SkrrApply(io.ComfyNode):
    """CLIP, and a plan if one is connected or chosen -> a CLIP whose encoder holds only what is read and kept."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SkrrApply",
            display_name="Skrr Apply",
            category="Skrr",
            description=(
                "Makes the CLIP's text encoder smaller. What no picture reads always goes, with no bit of any picture "
                "changed; above a sparsity of 0 the best plan at hand removes more. Put it between the loader and the "
                "prompt. The connected CLIP itself stays whole."
            ),
            search_aliases=["prune text encoder", "smaller T5", "save memory", "vram", "low memory", "text encoder"],
            inputs=[
                io.Clip.Input("clip", tooltip="From a CLIP loader, in any format: fp16, bf16, fp8, GGUF."),
                PLAN.Input(
                    "plan",
                    optional=True,
                    tooltip="From Skrr Load Plan or Skrr Search; goes before what is chosen in source. Needs no link.",
                ),
                io.Float.Input(
                    "sparsity",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much smaller: the plan's smallest level with at least this share removed is taken. "
                    "0 takes nothing of the plan: only what no picture reads goes.",
                ),
                io.Boolean.Input(
                    "pictures",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Keeps the part of the encoder that looks at pictures, for nodes that show it some.",
                ),
                io.Boolean.Input(
                    "text_generation",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Keeps what the encoder needs to write text: its head and all its layers.",
                ),
                # The last: saved workflows know the values before it by their order.
                io.Combo.Input(
                    "source",
                    options=[AUTO, NONE, *preset_names(), *list_plans()],
                    default=AUTO,
                    optional=True,
                    tooltip="Which plan, where none is connected: auto takes the best one at hand for this encoder, "
                    "published or found here. none: only what no picture reads goes.",
                ),
            ],
            outputs=[
                io.Clip.Output("clip", tooltip="The same type of CLIP, smaller."),
                io.String.Output("report", tooltip="What was removed and what it takes now."),
            ],
        )

    @classmethod
    def validate_inputs(cls, source=NONE):
        # Naming the input keeps ComfyUI from refusing a plan that was saved after the page was loaded.
        return True

    @classmethod
    def fingerprint_inputs(cls, source=NONE, plan=UNWIRED, **others):
        chosen = plan is UNWIRED and source not in (NONE, *preset_names())
        return plans_state() if chosen else ""

    # A prompt from before there was `source` has none, and took only what goes free.
    @classmethod
    def execute(cls, clip, plan=UNWIRED, sparsity=0.0, pictures=False, text_generation=False, source=NONE):
        forget_node()
        check_clip(clip, "Skrr Apply")
        chosen = ""
        if plan is not UNWIRED:
            check_plan(plan, "Skrr Apply")
        elif sparsity and source != NONE:
            chosen, plan = source, best_plan(clip, sparsity) if source == AUTO else named_plan(source)
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
        note_applied(clip, patched, report, chosen)
        return io.NodeOutput(patched.clip, report)
