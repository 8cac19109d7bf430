"""Which kind of CLIP a tree is, and which outputs of its encoders reach the denoiser.

Both are asked of the class itself. A class made from a known one may hand on something else, so it does not pass for
it: it is named by its own class, and judged by the `encode_token_weights` that it really runs.
"""

from ....skrr_engine.errors import SkrrError
from ..encoders import llama, t5

__all__ = ["hands_on_pooled", "outputs_of", "tree_family", "writes_its_condition"]

# ComfyUI's classes by their names in full.
FAMILIES = {
    "comfy.text_encoders.flux.FluxClipModel": "flux",
    "comfy.text_encoders.sd3_clip.SD3ClipModel": "sd3",
    "comfy.sdxl_clip.SDXLClipModel": "sdxl",
    "comfy.sdxl_clip.SDXLRefinerClipModel": "sdxl",
    "comfy.text_encoders.hunyuan_video.HunyuanVideoClipModel": "hunyuan video",
    "comfy.text_encoders.hidream.HiDreamTEModel": "hidream",
    "comfy.text_encoders.pixart_t5.PixArtT5XXL": "pixart",
    "comfy.sd1_clip.SD1ClipModel": "sd1",
    "comfy.text_encoders.sd2_clip.SD2ClipModel": "sd2",
    "comfy.text_encoders.wan.WanT5Model": "wan",
    # Trees of one language model, some with others beside.
    "comfy.text_encoders.anima.AnimaTEModel": "anima",
    "comfy.text_encoders.boogu.BooguTEModel": "boogu",
    "comfy.text_encoders.ernie.ErnieTEModel": "ernie",
    "comfy.text_encoders.flux.Flux2TEModel": "flux2",
    "comfy.text_encoders.hunyuan_image.HunyuanImageTEModel": "hunyuan image",
    "comfy.text_encoders.ideogram4.Ideogram4TEModel": "ideogram 4",
    "comfy.text_encoders.ideogram4.Ideogram4Qwen3VLTEModel": "ideogram 4",
    "comfy.text_encoders.joyimage.JoyImageTEModel": "joyimage",
    "comfy.text_encoders.kandinsky5.Kandinsky5TEModel": "kandinsky 5",
    "comfy.text_encoders.krea2.Krea2TEModel": "krea 2",
    "comfy.text_encoders.longcat_image.LongCatImageTEModel": "longcat",
    "comfy.text_encoders.lumina2.LuminaModel": "lumina 2",
    "comfy.text_encoders.mage_flow.MageFlowTEModel": "mage flow",
    "comfy.text_encoders.minimax.MiniMaxH3TEModel": "minimax h3",
    "comfy.text_encoders.newbie.NewBieTEModel": "newbie",
    "comfy.text_encoders.omnigen2.Omnigen2Model": "omnigen 2",
    "comfy.text_encoders.ovis.OvisTEModel": "ovis",
    "comfy.text_encoders.pixeldit.PixelDiTGemma2TE": "pixeldit",
    "comfy.text_encoders.qwen_image.QwenImageTEModel": "qwen-image",
    "comfy.text_encoders.z_image.ZImageTEModel": "z-image",
}
# Kinds that hand on a pooled output too, which their denoisers do not read.
SEQUENCE_ONLY = ("sd1", "sd2")
# What each class's own `encode_token_weights` hands on of CLIP text models; of a T5 that can only be its sequence.
HANDED_ON = {
    "comfy.text_encoders.flux.FluxClipModel": {"clip_l": ("pooled",)},
    "comfy.text_encoders.sd3_clip.SD3ClipModel": {"clip_l": ("sequence", "pooled"), "clip_g": ("sequence", "pooled")},
    "comfy.sdxl_clip.SDXLClipModel": {"clip_l": ("sequence",), "clip_g": ("sequence", "pooled")},
    "comfy.text_encoders.hunyuan_video.HunyuanVideoClipModel": {"clip_l": ("pooled",)},
    "comfy.text_encoders.hidream.HiDreamTEModel": {"clip_l": ("pooled",), "clip_g": ("pooled",)},
    "comfy.text_encoders.kandinsky5.Kandinsky5TEModel": {"clip_l": ("pooled",)},
}
# The encode of trees of one encoder, and of an encoder that is the whole tree: all that the encoder gives.
HAND_ON_ALL = ("comfy.sd1_clip.SD1ClipModel", "comfy.sd1_clip.ClipTokenWeightEncoder")
# Their language model writes, token by token, what the model reads: every part of it is used.
WRITERS = ("comfy.text_encoders.ace15.ACE15TEModel", "comfy.text_encoders.minimax_music.MiniMaxMusic3TEModel")
# What a class statement leaves in every class.
PLAIN = {"__init__", "__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__"}


def tree_family(tree) -> str:
    """The kind of CLIP: "flux", "sd3", "pixart" (also Chroma's), …; its own class name where it is not known."""
    cls = type(tree)
    while not _encodes_by_itself(tree):
        if _full_name(cls) in FAMILIES:
            return FAMILIES[_full_name(cls)]
        # ComfyUI's loaders make a class of their own on the spot, which only sets dtype and formats.
        if set(vars(cls)) - PLAIN or cls.__module__ != cls.__base__.__module__:
            break
        cls = cls.__base__
    return type(tree).__name__


def outputs_of(tree, slot: str, sd_model) -> tuple[str, ...]:
    """Which outputs of the encoder `sd_model` (in `slot`) reach the denoiser: "sequence", "pooled" or both.

    Raises SkrrError where the tree's class does not tell."""
    if any(kind.matches(sd_model.transformer) for kind in (t5, llama)) or tree_family(tree) in SEQUENCE_ONLY:
        return ("sequence",)
    owner = next((_full_name(cls) for cls in type(tree).__mro__ if "encode_token_weights" in vars(cls)), "")
    if not _encodes_by_itself(tree):
        if owner in HAND_ON_ALL:
            return ("sequence", "pooled")
        if slot in HANDED_ON.get(owner, ()):
            return HANDED_ON[owner][slot]
    raise SkrrError(
        f"Skrr does not know whether this CLIP ({type(tree).__name__}) hands the sequence or the pooled output of "
        f"{slot} to the model, so it cannot measure that encoder. Choose its T5, or a kind of CLIP that ComfyUI loads."
    )


def hands_on_pooled(tree, slot: str) -> bool:
    """Whether the pooled output of the CLIP text model in `slot` gets into the conditioning, as far as the tree's class
    tells; True where it does not tell."""
    owner = next((_full_name(cls) for cls in type(tree).__mro__ if "encode_token_weights" in vars(cls)), "")
    return _encodes_by_itself(tree) or "pooled" in HANDED_ON.get(owner, {}).get(slot, ("pooled",))


def writes_its_condition(tree) -> bool:
    """Whether a language model of this tree generates what the denoiser reads."""
    return any(_full_name(cls) in WRITERS for cls in type(tree).__mro__)


def _encodes_by_itself(tree) -> bool:
    """Whether this very tree, not its class, was given an encode of its own."""
    return "encode_token_weights" in vars(tree)


def _full_name(cls) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
