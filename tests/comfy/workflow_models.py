"""The files that the workflows name: where each is published and in which folder of models/ it belongs. The page offers
them for download where they are missing."""

__all__ = ["models_of"]

HUB = "https://huggingface.co"
COMFY = f"{HUB}/Comfy-Org"
# folder -> where from, and the files there (below a folder of that place).
PUBLISHED = {
    "diffusion_models": {
        f"{COMFY}/flux1-dev/resolve/main": ("flux1-dev.safetensors",),
        f"{HUB}/black-forest-labs/FLUX.2-klein-4b-fp8/resolve/main": ("flux-2-klein-4b-fp8.safetensors",),
        f"{COMFY}/z_image_turbo/resolve/main/split_files/diffusion_models": ("z_image_turbo_bf16.safetensors",),
        f"{COMFY}/Qwen-Image_ComfyUI/resolve/main/split_files/diffusion_models": ("qwen_image_fp8_e4m3fn.safetensors",),
        f"{COMFY}/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files/diffusion_models": (
            "wan2.2_ti2v_5B_fp16.safetensors",
        ),
        f"{HUB}/PixArt-alpha/PixArt-Sigma/resolve/main": ("PixArt-Sigma-XL-2-1024-MS.pth",),
    },
    "text_encoders": {
        f"{HUB}/comfyanonymous/flux_text_encoders/resolve/main": ("t5xxl_fp16.safetensors", "clip_l.safetensors"),
        f"{COMFY}/stable-diffusion-3.5-fp8/resolve/main/text_encoders": ("clip_g.safetensors",),
        f"{COMFY}/z_image_turbo/resolve/main/split_files/text_encoders": ("qwen_3_4b.safetensors",),
        f"{COMFY}/Qwen-Image_ComfyUI/resolve/main/split_files/text_encoders": (
            "qwen_2.5_vl_7b_fp8_scaled.safetensors",
        ),
        f"{COMFY}/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/text_encoders": (
            "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        ),
        f"{COMFY}/ltx-2/resolve/main/split_files/text_encoders": ("gemma_3_12B_it_fp4_mixed.safetensors",),
    },
    "vae": {
        f"{COMFY}/z_image_turbo/resolve/main/split_files/vae": ("ae.safetensors",),
        f"{COMFY}/flux2-dev/resolve/main/split_files/vae": ("flux2-vae.safetensors",),
        f"{COMFY}/Qwen-Image_ComfyUI/resolve/main/split_files/vae": ("qwen_image_vae.safetensors",),
        f"{COMFY}/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files/vae": ("wan2.2_vae.safetensors",),
        f"{HUB}/stabilityai/sdxl-vae/resolve/main": ("sdxl_vae.safetensors",),
    },
    "checkpoints": {
        f"{HUB}/stabilityai/stable-diffusion-3-medium/resolve/main": ("sd3_medium.safetensors",),
        f"{HUB}/Lightricks/LTX-2/resolve/main": ("ltx-2-19b-distilled.safetensors",),
    },
}
MODELS = {
    name: {"name": name, "url": f"{place}/{name}", "directory": folder}
    for folder, places in PUBLISHED.items()
    for place, names in places.items()
    for name in names
}


def models_of(values: dict) -> list[dict]:
    """What a node's `properties.models` holds for its widgets' values."""
    return [MODELS[value] for value in values.values() if isinstance(value, str) and value in MODELS]
