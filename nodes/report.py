"""Skrr Report: dense against pruned, in figures, words and a plot."""

from comfy_api.latest import io, ui

from .comfy_host.report.comparing import compare
from .comfy_host.report.pictures import compare_pictures
from .comfy_host.report.plotting import draw
from .comfy_host.report.verdict import report_text, verdict
from .types import PROJECTION
from .wired import check_clip


class SkrrReport(io.ComfyNode):
    """Two CLIPs and a prompt, optionally two pictures -> report, plot."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SkrrReport",
            display_name="Skrr Report",
            category="Skrr",
            description=(
                "Compares a CLIP with its smaller version on your own prompt: sizes, encode time, how far the features "
                "moved that the image model reads, and, if connected, how alike two pictures are."
            ),
            search_aliases=["compare clip", "dense against pruned", "text encoder benchmark"],
            # Output nodes keep what they show over a reload of the page, and run without a save node behind them.
            is_output_node=True,
            inputs=[
                io.Clip.Input("dense", tooltip="The CLIP that goes into Skrr Apply."),
                io.Clip.Input("pruned", tooltip="The CLIP that comes out of Skrr Apply or Skrr CLIP Loader."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="",
                    tooltip="The prompt to compare on. The empty prompt is always compared as well.",
                ),
                io.Int.Input(
                    "timed_runs",
                    default=3,
                    min=0,
                    max=50,
                    tooltip="How often each CLIP encodes the prompt for the time shown (the median). 0: no timing.",
                ),
                io.MultiType.Input(
                    "model",
                    types=[io.Model, PROJECTION],
                    optional=True,
                    tooltip="The MODEL that reads this CLIP (only its text projection is used), or Skrr Projection. "
                    "Without it the encoder's own output is compared.",
                ),
                io.Image.Input(
                    "dense_picture",
                    optional=True,
                    tooltip="A picture made with the dense CLIP. Same seed and settings as the other.",
                ),
                io.Image.Input(
                    "pruned_picture",
                    optional=True,
                    tooltip="A picture made with the pruned CLIP. Same seed and settings as the other.",
                ),
            ],
            outputs=[
                io.String.Output("report", tooltip="The verdict and all figures, as text."),
                io.Image.Output("plot", tooltip="The figures, and the pictures if there are any, as one picture."),
            ],
        )

    @classmethod
    def execute(cls, dense, pruned, prompt, timed_runs, model=None, dense_picture=None, pruned_picture=None):
        for clip, name in ((dense, "dense"), (pruned, "pruned")):
            check_clip(clip, f"{name} of Skrr Report")
        pair, about_pictures = compare_pictures(dense_picture, pruned_picture)
        found = compare(dense, pruned, prompt, model, timed_runs)
        text = report_text(found, pair, about_pictures)
        plot = draw(found, verdict(found, pair), pair, dense_picture, pruned_picture)
        return io.NodeOutput(text, plot, ui={**ui.PreviewImage(plot).as_dict(), "text": [text]})
