"""The shipped small pipeline as ComfyUI's own objects: MODEL, CLIP and VAE over the engine's weights."""

from pathlib import Path
from types import SimpleNamespace

import comfy.ldm.pixart.pixartms
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.text_encoders.pixart_t5
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer

from ....skrr_engine.demo import denoiser
from ....skrr_engine.demo.layout import AUTOENCODER, DENOISER, ENCODER, T5_SHAPE, TOKENIZER, WEIGHTS
from ....skrr_engine.disk import reading
from ....skrr_engine.files.header import read_header
from .whole_files import load_whole

__all__ = ["load_demo_models"]

UNET = {
    "image_model": "pixart_sigma", "in_channels": denoiser.CHANNELS, "patch_size": denoiser.PATCH,
    "hidden_size": denoiser.WIDTH, "num_heads": denoiser.HEADS, "depth": denoiser.DEPTH,
    "caption_channels": denoiser.TEXT_WIDTH, "model_max_length": 1, "micro_condition": False, "pred_sigma": False,
}  # fmt: skip


class SmallPixArt(comfy.ldm.pixart.pixartms.PixArtMS):
    """ComfyUI's PixArt with the position embedding of small pictures: its own divides by the picture's side in
    whole 512 pixels, which is zero here. Layers, conditioning and weights are its own."""

    def forward(self, x, timesteps, context, **kwargs):
        sides = x.shape[2:]
        place = denoiser.position_embedding(self.hidden_size, *(side // self.patch_size for side in sides))
        hidden = self.x_embedder(x) + place.to(x)
        time = self.t_embedder(timesteps, x.dtype)
        shared = self.t_block(time)
        text = self.y_embedder(context, False).reshape(1, -1, self.hidden_size)
        for block in self.blocks:
            hidden = block(hidden, text, shared, None, tuple(sides))
        return self.unpatchify(self.final_layer(hidden, time), *sides)


class _SmallModel(comfy.model_base.PixArt):
    def __init__(self, model_config, device=None):
        kind = comfy.model_base.ModelType.V_PREDICTION
        comfy.model_base.BaseModel.__init__(self, model_config, kind, device=device, unet_model=SmallPixArt)


class _SmallConfig(comfy.supported_models.PixArtSigma):
    def get_model(self, state_dict, prefix="", device=None):
        return _SmallModel(self, device=device).eval()


class _Pieces(comfy.sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(
            str(WEIGHTS / TOKENIZER), pad_with_end=False, embedding_directory=embedding_directory,
            embedding_size=denoiser.TEXT_WIDTH, embedding_key="t5xxl", tokenizer_class=SPieceTokenizer,
            has_start_token=False, pad_to_max_length=False, max_length=99999999, min_length=1, pad_token=0,
            tokenizer_data=tokenizer_data or {},
        )  # fmt: skip


class _Tokenizer(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(embedding_directory, tokenizer_data or {}, clip_name="t5xxl", tokenizer=_Pieces)


def load_demo_models(folder: Path = WEIGHTS):
    """(MODEL, CLIP, VAE) of the small pipeline in `folder`."""
    return _model(folder / DENOISER), _clip(folder / ENCODER), _vae(folder / AUTOENCODER)


def _model(path: Path):
    state = load_whole(read_header(path))
    dtype = state["final_layer.linear.weight"].dtype
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    config = _SmallConfig(UNET)
    cast = comfy.model_management.unet_manual_cast(dtype, device, config.supported_inference_dtypes)
    config.set_inference_dtype(dtype, cast)
    model = config.get_model({}, "")
    patcher = comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=offload)
    model.load_model_weights(state, "", assign=patcher.is_dynamic())
    return patcher


def _clip(path: Path):
    state = load_whole(read_header(path))
    with reading(WEIGHTS / TOKENIZER):
        (WEIGHTS / TOKENIZER).stat()  # ComfyUI does not name it
    target = SimpleNamespace(params={}, clip=comfy.text_encoders.pixart_t5.pixart_te(), tokenizer=_Tokenizer)
    options = {"dtype": state["shared.weight"].dtype, "t5xxl_model_config": T5_SHAPE}
    clip = comfy.sd.CLIP(target, model_options=options)
    clip.load_sd(state)
    return clip


def _vae(path: Path):
    return comfy.sd.VAE(sd=load_whole(read_header(path)))
