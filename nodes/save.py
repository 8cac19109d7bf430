"""Skrr Save Encoder: the smaller encoder as a file of its own."""

from comfy_api.latest import io

from .comfy_host.clip.trees import LARGEST, SLOTS
from .comfy_host.files.saving import encoder_to_save, save_encoder
from .wired import check_clip


class SkrrSaveEncoder(io.ComfyNode):
    """CLIP -> safetensors file in models/text_encoders, with its plan if there is one."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SkrrSaveEncoder",
            display_name="Skrr Save Encoder",
            category="Skrr",
            description=(
                "Writes a smaller text encoder, without what no picture reads and what the plan removed, into one "
                "safetensors file that Skrr CLIP Loader opens again with nothing else given."
            ),
            search_aliases=["save pruned T5", "clip save"],
            is_output_node=True,
            inputs=[
                io.Clip.Input("clip", tooltip="From Skrr Apply or Skrr CLIP Loader."),
                io.Combo.Input(
                    "encoder",
                    options=[LARGEST, *SLOTS],
                    default=LARGEST,
                    tooltip="Which encoder of the CLIP to write; one a file.",
                ),
                io.String.Input("filename", default="t5xxl_skrr", tooltip="File name, without a folder."),
                io.Boolean.Input(
                    "bake_lora",
                    default=False,
                    tooltip="On: LoRA on the CLIP are worked into the weights. Off: they are left out of the file.",
                ),
                io.Boolean.Input("overwrite", default=False, tooltip="Replace a file of the same name."),
            ],
            outputs=[io.String.Output("report", tooltip="What was written.")],
        )

    @classmethod
    def execute(cls, clip, encoder, filename, bake_lora, overwrite):
        check_clip(clip, "Skrr Save Encoder")
        sentence = save_encoder(encoder_to_save(clip, encoder), filename, bake_lora, overwrite)
        return io.NodeOutput(sentence, ui={"text": [sentence]})
