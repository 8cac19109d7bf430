"""What weights take in memory, counted as ComfyUI counts it, and putting a model back to rest."""

import comfy.model_management as mm

__all__ = ["module_bytes", "rest"]


def module_bytes(module) -> int:
    """Bytes of a module's state in its storage format (what ComfyUI's load accounting adds up)."""
    return mm.module_size(module)


def rest(patcher) -> None:
    """Unloads `patcher` and all clones of it, so that its tree holds its pristine weights on the offload device:
    no LoRA baked in, no object patches, no tensor on the GPU. The next use loads it again."""
    for index in reversed(range(len(mm.current_loaded_models))):
        loaded = mm.current_loaded_models[index]
        if loaded.model is not None and loaded.model.is_clone(patcher):
            mm.current_loaded_models.pop(index)
            loaded.model_unload()
    patcher.detach(unpatch_all=True)
