"""Skrr Demo Models: the small pipeline that comes with the pack."""

from comfy_api.latest import io

from .comfy_host.files.demo_models import load_demo_models

__all__ = ["SkrrDemoModels"]


class SkrrDemoModels(io.ComfyNode):
    """-> MODEL, CLIP and VAE, nothing to download."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SkrrDemoModels",
            display_name="Skrr Demo Models",
            category="Skrr",
            description=(
                "A complete small image model that comes with the pack, to try everything with nothing to download: it "
                'draws coloured shapes in 64 x 64 pixels from captions such as "a red circle left of a blue square". '
                "Use it with an empty latent of 64 x 64, euler, simple, 20 steps and a cfg of 4."
            ),
            search_aliases=["demo", "example model", "small model"],
            inputs=[],
            outputs=[
                io.Model.Output("model", tooltip="The denoiser: PixArt's architecture, 2.7 million parameters."),
                io.Clip.Output("clip", tooltip="The text encoder: T5's architecture, 24 layers (48 sub-blocks)."),
                io.Vae.Output("vae", tooltip="The autoencoder: 8 times smaller, 4 channels."),
            ],
        )

    @classmethod
    def execute(cls):
        return io.NodeOutput(*load_demo_models())
