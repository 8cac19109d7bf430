"""Every family of text encoders that ComfyUI loads: its own class, and how to make a small one of it.

The same table gives docs/models.md (real size, no data) and the tests (small size, random weights). It imports ComfyUI
only inside functions.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field

__all__ = ["FAMILIES", "Family", "build", "small_towers", "tokens_for"]

# Small sizes. Options of ComfyUI's classes of the Llama kind, and of T5 and CLIP.
LLAMA = {
    "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 300,
}  # fmt: skip
T5 = {"d_model": 64, "d_ff": 96, "d_kv": 16, "num_heads": 4, "num_layers": 3, "vocab_size": 300}
CLIP = {"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
CLIPS = dict.fromkeys(("clip_l_model_config", "clip_g_model_config", "clip_h_model_config"), CLIP)


def llama(layers: int, **more) -> dict:
    """Model options for a small language model with as many layers as the real one: taps are by number."""
    return {"_model_config": {**LLAMA, "num_hidden_layers": layers, **more}}


def t5(name: str = "t5xxl", **more) -> dict:
    """Model options for a small T5."""
    return {f"{name}_model_config": {**T5, **more}}


@dataclass(frozen=True)
class Family:
    """`maker` is a function (or class) of ComfyUI's `module`, called with `options`, that gives the CLIP's tree class;
    `small` are the model options of a small one. `keys` name the tokens that it takes, "" where it takes a list.
    `first` and `kinds`: what must be read of it, as (layers run, layers); None where it takes all."""

    name: str
    module: str
    maker: str
    small: dict
    keys: tuple[str, ...]
    options: dict = field(default_factory=dict)
    encoder: str = ""
    class_only: bool = False


@dataclass(frozen=True)
class Gemma4:
    """ComfyUI's class for a Gemma 4 of this size, to be looked up; `wrapped` as its LTX-2 takes one."""

    size: str
    wrapped: bool = False

    def found(self):
        """The class."""
        gemma4 = importlib.import_module("comfy.text_encoders.gemma4")
        model = getattr(gemma4, f"Gemma4_{self.size}")
        return gemma4.gemma4_text_encoder_model(model) if self.wrapped else model


def _family(name, maker, small, keys, encoder, **options) -> Family:
    module, _, maker = maker.rpartition(".")
    class_only = options.pop("class_only", False)
    keys = tuple(keys.split())
    if "_model_config" in small:  # ComfyUI's class for CLIPs of one encoder names the options by the encoder
        small = small | {f"{key}_model_config": small["_model_config"] for key in keys if key != "l"}
    return Family(name, f"comfy.{module}", maker, small, keys, options, encoder, class_only)


TE = "text_encoders"
FAMILIES = (
    _family("FLUX.1", f"{TE}.flux.flux_clip", t5() | CLIPS, "l t5xxl", "T5-XXL, CLIP-L"),
    _family("SD 3", f"{TE}.sd3_clip.sd3_clip", t5(d_model=4096) | CLIPS, "l g t5xxl", "T5-XXL, CLIP-L, CLIP-G"),
    _family("SDXL", "sdxl_clip.SDXLClipModel", CLIPS, "l g", "CLIP-L, CLIP-G", class_only=True),
    _family("SDXL refiner", "sdxl_clip.SDXLRefinerClipModel", CLIPS, "g", "CLIP-G", class_only=True),
    _family("Stable Cascade", "sdxl_clip.StableCascadeClipModel", CLIPS, "g", "CLIP-G", class_only=True),
    _family("SD 1", "sd1_clip.SD1ClipModel", CLIPS, "l", "CLIP-L", class_only=True),
    _family("SD 2", f"{TE}.sd2_clip.SD2ClipModel", CLIPS, "h", "CLIP-H", class_only=True),
    _family("PixArt, Chroma", f"{TE}.pixart_t5.pixart_te", t5(), "t5xxl", "T5-XXL"),
    _family("Mochi", f"{TE}.genmo.mochi_te", t5(), "t5xxl", "T5-XXL"),
    _family("LTX-Video", f"{TE}.lt.ltxv_te", t5(), "t5xxl", "T5-XXL"),
    _family("CogVideoX", f"{TE}.cogvideo.cogvideo_te", t5(), "t5xxl", "T5-XXL"),
    _family("Cosmos 1", f"{TE}.cosmos.te", t5(), "t5xxl", "T5-11B, the old one"),
    _family("Wan", f"{TE}.wan.te", t5("umt5xxl"), "umt5xxl", "umT5-XXL"),
    _family("AuraFlow", f"{TE}.aura_t5.AuraT5Model", t5("pile_t5xl"), "pile_t5xl", "Pile-T5-XL", class_only=True),
    _family("HunyuanDiT", f"{TE}.hydit.HyditModel", t5("mt5xl"), "hydit_clip mt5xl", "mT5-XL, BERT", class_only=True),
    _family("ACE-Step 1", f"{TE}.ace.AceT5Model", t5(""), "umt5base lyrics", "umT5-base", class_only=True),
    _family("Stable Audio 1", f"{TE}.sa_t5.SAT5Model", t5("t5base"), "t5base", "T5-base", class_only=True),
    _family("Stable Audio 3", f"{TE}.sa3.SAT5GemmaModel", {}, "t5gemma", "T5Gemma-b", class_only=True),
    _family(
        "HiDream-I1", f"{TE}.hidream.hidream_clip", t5() | CLIPS | {"llama_model_config": llama(32)["_model_config"]},
        "l g t5xxl llama", "Llama-3.1-8B, T5-XXL, CLIP-L, CLIP-G",
    ),
    _family(
        "HunyuanVideo", f"{TE}.hunyuan_video.hunyuan_video_clip",
        CLIPS | {"llama_model_config": llama(32)["_model_config"]}, "l llama", "Llama-3-8B, CLIP-L",
    ),
    _family(
        "HunyuanImage 2.1, HunyuanVideo 1.5", f"{TE}.hunyuan_image.te", llama(28), "qwen25_7b",
        "Qwen2.5-VL-7B", byt5=False,
    ),
    _family("Kandinsky 5", f"{TE}.kandinsky5.te", llama(28) | CLIPS, "l qwen25_7b",
            "Qwen2.5-VL-7B, CLIP-L"),
    _family("Qwen-Image", f"{TE}.qwen_image.te", llama(28), "qwen25_7b", "Qwen2.5-VL-7B"),
    _family("LongCat-Image", f"{TE}.longcat_image.te", llama(28), "qwen25_7b", "Qwen2.5-VL-7B"),
    _family("OmniGen2", f"{TE}.omnigen2.te", llama(36), "qwen25_3b", "Qwen2.5-3B"),
    _family("Lumina 2", f"{TE}.lumina2.te", llama(26), "gemma2_2b", "Gemma-2-2B"),
    _family("Lumina 2 with Gemma 3", f"{TE}.lumina2.te", llama(34), "gemma3_4b", "Gemma-3-4B", model_type="gemma3_4b"),
    _family(
        "Lumina 2 with Gemma 3 and its tower", f"{TE}.lumina2.te", llama(34), "gemma3_4b_vision", "Gemma-3-4B",
        model_type="gemma3_4b_vision",
    ),
    _family("NewBie", f"{TE}.newbie.te", llama(34), "gemma jina", "Gemma-3-4B, Jina-CLIP"),
    _family("PixelDiT", f"{TE}.pixeldit.pixeldit_te", llama(26), "gemma2_2b", "Gemma-2-2B"),
    _family("LTX-2", f"{TE}.lt.ltxav_te", llama(48), "gemma3_12b", "Gemma-3-12B"),
    _family("Gemma 3 12B alone", f"{TE}.lt.gemma3_te", llama(48), "", "Gemma-3-12B"),
    _family("LTX-2 with Gemma 4", f"{TE}.lt.ltxav_te", llama(48), "gemma4", "Gemma-4-12B", text_encoder_key="gemma4",
            text_encoder_model=Gemma4("12B", wrapped=True)),
    *(
        _family(f"Gemma 4 {size} alone", f"{TE}.gemma4.gemma4_te", llama(layers), "gemma4", f"Gemma-4-{size}",
                model_class=Gemma4(size))
        for size, layers in (("E2B", 35), ("E4B", 42), ("12B", 48), ("31B", 60))
    ),
    _family("Z-Image", f"{TE}.z_image.te", llama(36), "qwen3_4b", "Qwen3-4B"),
    _family("FLUX.2 dev", f"{TE}.flux.flux2_te", llama(40), "mistral3_24b", "Mistral-Small-24B"),
    _family("FLUX.2 dev, pruned file", f"{TE}.flux.flux2_te", llama(30, final_norm=False), "mistral3_24b",
            "Mistral-Small-24B, 30 layers", pruned=True),
    _family("FLUX.2 klein 4B", f"{TE}.flux.klein_te", llama(36), "qwen3_4b", "Qwen3-4B", model_type="qwen3_4b"),
    _family("FLUX.2 klein 9B", f"{TE}.flux.klein_te", llama(36), "qwen3_8b", "Qwen3-8B", model_type="qwen3_8b"),
    _family("Ovis-Image", f"{TE}.ovis.te", llama(28), "qwen3_2b", "Ovis2.5-2B"),
    _family("ERNIE-Image", f"{TE}.ernie.te", llama(26), "ministral3_3b", "Ministral-3-3B"),
    _family("Anima", f"{TE}.anima.te", llama(28), "qwen3_06b t5xxl", "Qwen3-0.6B"),
    _family("Ideogram 4", f"{TE}.ideogram4.te", llama(36), "qwen3vl_8b", "Qwen3-8B"),
    _family("Ideogram 4, VL file", f"{TE}.ideogram4.te_qwen3vl", llama(36), "qwen3vl_8b", "Qwen3-VL-8B"),
    _family("Boogu", f"{TE}.boogu.te", llama(36), "qwen3vl_8b", "Qwen3-VL-8B"),
    _family("Krea 2", f"{TE}.krea2.te", llama(36), "qwen3vl_4b", "Qwen3-VL-4B"),
    _family("MageFlow", f"{TE}.mage_flow.te", llama(36), "qwen3vl_4b", "Qwen3-VL-4B"),
    _family("JoyImage", f"{TE}.joyimage.te", llama(36), "qwen3vl_8b", "Qwen3-VL-8B"),
    _family("MiniMax H3", f"{TE}.minimax.te", llama(50), "qwen3vl_32b", "Qwen3-VL-32B, 50 layers"),
    _family("Qwen3-VL-4B alone", f"{TE}.qwen3vl.te", llama(36), "qwen3vl_4b", "Qwen3-VL-4B", model_type="qwen3vl_4b"),
    _family("Qwen3-VL-8B alone", f"{TE}.qwen3vl.te", llama(36), "qwen3vl_8b", "Qwen3-VL-8B", model_type="qwen3vl_8b"),
    _family("Qwen3.5-2B", f"{TE}.qwen35.te", llama(24), "qwen35_2b", "Qwen3.5-2B", model_type="qwen35_2b"),
    _family("Qwen3.5-9B", f"{TE}.qwen35.te", llama(32), "qwen35_9b", "Qwen3.5-9B", model_type="qwen35_9b"),
    _family("ACE-Step 1.5", f"{TE}.ace15.te", llama(28), "", "Qwen3-0.6B, Qwen3-2B", lm_model="qwen3_2b"),
    _family("Lens", f"{TE}.gpt_oss.lens_te", {}, "gpt_oss", "gpt-oss-20b"),
)  # fmt: skip


def build(family: Family):
    """The tree class of `family`; None where this ComfyUI does not have it."""
    try:
        maker = getattr(importlib.import_module(family.module), family.maker)
        options = {k: v.found() if isinstance(v, Gemma4) else v for k, v in family.options.items()}
    except (ImportError, AttributeError):
        return None
    return maker if family.class_only else maker(**options)


def small_towers(set_item, set_attribute) -> None:
    """Makes the towers of encoders built from now on small; through pytest's `monkeypatch.setitem` and `.setattr`."""
    import functools

    import comfy.ops
    from comfy.text_encoders import llama as models
    from comfy.text_encoders import qwen_vl

    linear = comfy.ops.manual_cast.Linear

    class Narrower(linear):
        """Older releases fix the width of LTX-2's projection: 49 states, here 64 wide."""

        def __init__(self, in_features, *rest, **options):
            super().__init__(49 * 64 if in_features == 49 * 3840 else in_features, *rest, **options)

    set_attribute(comfy.ops.manual_cast, "Linear", Narrower)
    tower = functools.partial(qwen_vl.Qwen2VLVisionTransformer, num_layers=1, intermediate_size=64)
    set_attribute(qwen_vl, "Qwen2VLVisionTransformer", tower)
    known = [models]
    if importlib.util.find_spec("comfy.text_encoders.gemma4"):
        known.append(importlib.import_module("comfy.text_encoders.gemma4"))
    narrow = {"num_hidden_layers": 1, "intermediate_size": 64}
    for config in (value for module in known for value in vars(module).values() if isinstance(value, type)):
        for name in ("vision_config", "audio_config"):
            if isinstance(sizes := getattr(config, name, None), dict):
                set_attribute(config, name, sizes | {key: narrow[key] for key in narrow if key in sizes})
    try:
        from comfy.text_encoders import jina_clip_2

        jina = jina_clip_2.XLMRobertaConfig
        small = {"num_hidden_layers": 1, "vocab_size": 300}
        set_attribute(jina_clip_2, "XLMRobertaConfig", lambda **sizes: jina(**small))
    except ImportError:
        pass
    for name, table in (("qwen3vl", "QWEN3VL_VISION"), ("qwen35", "QWEN35_VISION_DEFAULTS")):
        try:
            known = getattr(importlib.import_module(f"comfy.text_encoders.{name}"), table)
        except ImportError:
            continue
        for entry in [known] if "depth" in known else known.values():
            set_item(entry, "depth", 2)
            set_item(entry, "intermediate_size", 64)
            if "deepstack_visual_indexes" in entry:
                set_item(entry, "deepstack_visual_indexes", [0, 1])


def tokens_for(family: Family, ids):
    """Tokens as the family's tokenizer would give them, of the given ids. CLIP text models take exactly 77."""
    row = [(int(i), 1.0) for i in ids]
    padded = row + [(49407, 1.0)] * (77 - len(row))
    return {key: [padded if key in ("l", "g", "h") else row] for key in family.keys} if family.keys else [row]
