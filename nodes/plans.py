"""Skrr Load Plan and Skrr Save Plan: plans from presets, files and text, and back to files."""

from comfy_api.latest import io

from ..skrr_engine.errors import SkrrError
from ..skrr_engine.plans.plan import Plan
from ..skrr_engine.plans.plan_json import CORRECTIONS, dumps
from ..skrr_engine.plans.plan_text import read_plan_text
from ..skrr_engine.plans.presets import load_preset, preset_names
from ..skrr_engine.plans.tables import plan_table
from .comfy_host.clip.trees import text_encoders, tree_family
from .comfy_host.files.best_plan import named_plan
from .comfy_host.files.folders import list_plans, load_plan, save_plan
from .comfy_host.page.pages_state import note_plan
from .types import PLAN
from .wired import check_clip, check_plan

AUTO = "auto"
# The kind of CLIP -> the preset found on the model family that uses it.
AUTO_PRESETS = {"flux": "flux1-dev", "sd3": "sd3", "pixart": "pixart-sigma"}


class SkrrLoadPlan(io.ComfyNode):
    """Preset, file or text -> plan."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SkrrLoadPlan",
            display_name="Skrr Load Plan",
            category="Skrr",
            description=(
                "A published plan (T5-XXL of FLUX.1, SD3 and PixArt; there are none for umT5, CLIP or language-model "
                "encoders), a plan saved in models/skrr, or plan text."
            ),
            search_aliases=["preset", "prune text encoder", "text encoder"],
            inputs=[
                io.Combo.Input(
                    "source",
                    options=[AUTO, *preset_names(), *list_plans()],
                    default=AUTO,
                    tooltip="auto chooses the published plan for the kind of CLIP connected below.",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="Plan text, pasted: JSON, or the line that begins with skrr1. Goes before source.",
                ),
                io.Clip.Input("clip", optional=True, tooltip="Needed for auto only."),
            ],
            outputs=[
                PLAN.Output("plan", tooltip="For Skrr Apply, or for Skrr Search to refine."),
                io.String.Output("notes", tooltip="The plan's levels and what to know about it."),
            ],
        )

    @classmethod
    def validate_inputs(cls, source):
        # Naming the input keeps ComfyUI from refusing a plan that was saved after the page was loaded.
        return True

    @classmethod
    def fingerprint_inputs(cls, source, text, clip=None):
        return dumps(load_plan(source)) if not text.strip() and source in list_plans() else ""

    @classmethod
    def execute(cls, source, text, clip=None):
        if text.strip():
            plan = read_plan_text(text, {CORRECTIONS})
        elif source == AUTO:
            plan = _auto(clip)
        else:
            plan = named_plan(source)
        note_plan(plan)
        return io.NodeOutput(plan, plan_table(plan))


def _auto(clip) -> Plan:
    if clip is None:
        raise SkrrError(
            "auto chooses a plan by the kind of CLIP, but none is connected, or the loader connected has none to give "
            "(a checkpoint without a text encoder). Connect a CLIP loader, or choose a plan."
        )
    check_clip(clip, "Skrr Load Plan")
    family = tree_family(clip.patcher.model)
    if family not in AUTO_PRESETS:
        found = ", ".join(encoder.describe() for encoder in text_encoders(clip).values())
        raise SkrrError(
            f"There is no published plan for this kind of CLIP ({family}: {found}). Published plans are for T5-XXL in "
            "FLUX.1, SD3 and PixArt; for others search with Skrr Calibrate and Skrr Search."
        )
    return load_preset(AUTO_PRESETS[family])


class SkrrSavePlan(io.ComfyNode):
    """Plan -> file in models/skrr."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SkrrSavePlan",
            display_name="Skrr Save Plan",
            category="Skrr",
            description="Writes a plan into models/skrr, where Skrr Load Plan lists it, and hands out its text.",
            is_output_node=True,
            inputs=[
                PLAN.Input("plan", tooltip="From Skrr Search or Skrr Load Plan."),
                io.String.Input("filename", default="my plan", tooltip="File name, without a folder."),
                io.Boolean.Input("overwrite", default=False, tooltip="Replace a plan of the same name."),
            ],
            outputs=[io.String.Output("text", tooltip="The plan as JSON, to paste into Skrr Load Plan elsewhere.")],
        )

    @classmethod
    def execute(cls, plan, filename, overwrite):
        check_plan(plan, "Skrr Save Plan")
        note_plan(plan)
        path = save_plan(plan, filename, overwrite)
        return io.NodeOutput(dumps(plan), ui={"text": [f"Saved as {path.name} in models/skrr."]})
