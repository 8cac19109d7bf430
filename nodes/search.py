"""Skrr Search: which sub-blocks of this workflow's encoder can go."""

from comfy_api.latest import io

from ..skrr_engine.errors import SkrrError
from ..skrr_engine.jobs.settings import MODES, Settings
from ..skrr_engine.plans.plan_json import CORRECTIONS
from ..skrr_engine.plans.plan_text import read_plan_text
from ..skrr_engine.plans.tables import plan_table
from .comfy_host.clip.trees import LARGEST, SLOTS, choose_encoder
from .comfy_host.page.pages_search import SearchPage
from .comfy_host.search.progress import NodeProgress
from .comfy_host.search.searching import run_search
from .types import CALIBRATION, PLAN, PROJECTION
from .wired import check_clip, check_plan


class SkrrSearch(io.ComfyNode):
    """CLIP, MODEL and calibration -> plan."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SkrrSearch",
            display_name="Skrr Search",
            category="Skrr",
            description=(
                "Searches for the sub-blocks of a text encoder that this MODEL misses least. Long; can be cancelled "
                "and goes on where it was. With a plan connected, only finds that plan's re-use pairs (minutes)."
            ),
            search_aliases=["prune text encoder", "skip layers", "shrink T5", "vram", "low memory", "text encoder"],
            inputs=[
                io.Clip.Input(
                    "clip",
                    optional=True,
                    lazy=True,
                    tooltip="The dense CLIP, before Skrr Apply. LoRA on it are searched along.",
                ),
                io.MultiType.Input(
                    "model",
                    types=[io.Model, PROJECTION],
                    optional=True,
                    lazy=True,
                    tooltip="The MODEL that reads this CLIP (only its text projection is used), or Skrr Projection.",
                ),
                CALIBRATION.Input(
                    "calibration", optional=True, lazy=True, tooltip="From Skrr Calibrate, made with the same CLIP."
                ),
                io.Combo.Input(
                    "encoder",
                    options=[LARGEST, *SLOTS],
                    default=LARGEST,
                    advanced=True,
                    tooltip="Which encoder of the CLIP becomes smaller; the largest brings most. One at a time.",
                ),
                io.Int.Input(
                    "beam",
                    default=3,
                    min=1,
                    max=32,
                    advanced=True,
                    tooltip="More finds a somewhat better plan and takes as many times longer. 1 is the fastest; 3 as "
                    "published.",
                ),
                io.Float.Input(
                    "sparsity",
                    default=0.4,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How small the encoder may become: the plan gets levels up to this share removed, and you "
                    "choose among them in Skrr Apply. 0: only saved_gb counts.",
                ),
                io.Float.Input(
                    "saved_gb",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.1,
                    tooltip="The same in GB: how much memory you want to win. 0: only sparsity counts.",
                ),
                io.Float.Input(
                    "null_weight",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    advanced=True,
                    tooltip="Keeps the empty prompt right, which guidance multiplies; 1 as published. 0 spares it for "
                    "models that run without guidance, as FLUX.1-dev.",
                ),
                io.Boolean.Input(
                    "reuse",
                    default=True,
                    advanced=True,
                    tooltip="Runs some kept parts again in the place of removed ones: nearer to the whole encoder "
                    "from the same memory, for a little more time a prompt.",
                ),
                io.String.Input(
                    "name", default="my plan", tooltip="By this name you find the plan again, in lists and reports."
                ),
                io.String.Input(
                    "pinned",
                    default="",
                    multiline=True,
                    advanced=True,
                    tooltip="A plan's text. When there is any it is handed out, nothing is searched, and nothing "
                    "connected here is even loaded: a shared workflow runs with the plan its author found.",
                ),
                PLAN.Input(
                    "plan",
                    optional=True,
                    lazy=True,
                    tooltip="Refine this plan, say a preset: keep what it skips, find what to re-use on your prompts.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=MODES[0],
                    optional=True,
                    advanced=True,
                    tooltip="fast: about as good a plan for a twentieth of the work. exact: the published answer.",
                ),
                io.Float.Input(
                    "minutes",
                    default=0.0,
                    min=0.0,
                    max=10080.0,
                    step=1.0,
                    optional=True,
                    tooltip="How long you want to wait: the best plan found in this time, on as many prompts as fit "
                    "into it. 0: until it is done, which can take hours.",
                ),
                io.Boolean.Input(
                    "corrections",
                    default=False,
                    optional=True,
                    tooltip="Ends with a fit that makes up for what was removed, and puts it beside the plans in "
                    "models/skrr. The plan then works with that file alone.",
                ),
            ],
            outputs=[
                PLAN.Output("plan", tooltip="For Skrr Apply and Skrr Save Plan."),
                io.String.Output("report", tooltip="The levels found."),
            ],
        )

    @classmethod
    def check_lazy_status(cls, pinned, **inputs):
        return [] if pinned.strip() else [name for name, value in inputs.items() if value is None]

    @classmethod
    def execute(
        cls, encoder, beam, sparsity, saved_gb, null_weight, reuse, name, pinned, clip=None, model=None,
        calibration=None, plan=None, mode=MODES[0], minutes=0.0, corrections=False,
    ):  # fmt: skip
        if pinned.strip():
            found = read_plan_text(pinned, {CORRECTIONS})
            return io.NodeOutput(found, f"Pinned, not searched.\n{plan_table(found)}")
        if clip is None or calibration is None:
            lacking = " and ".join(
                what for what, value in (("CLIP", clip), ("calibration", calibration)) if value is None
            )
            raise SkrrError(
                f"A search needs a CLIP and a calibration, and has no {lacking}: connect both, or pin a plan. A "
                "checkpoint without a text encoder hands on no CLIP; load one with a CLIP loader."
            )
        check_clip(clip, "Skrr Search")
        if plan is not None:
            check_plan(plan, "Skrr Search")
        chosen = choose_encoder(clip, encoder)
        name = name.strip() or "my plan"
        settings = Settings(chosen.slot, sparsity, round(saved_gb * 1e9), beam, reuse, name, mode, minutes)
        with NodeProgress() as bar, SearchPage(chosen, settings, bar, refines=plan is not None) as page:
            found, sentence = run_search(chosen, model, calibration, settings, null_weight, plan, page, corrections)
            page.found(found)
        return io.NodeOutput(found, f"{sentence}\n{plan_table(found)}")
