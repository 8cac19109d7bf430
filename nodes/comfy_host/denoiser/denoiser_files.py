"""A denoiser's file in place of MODEL: ComfyUI's own model, built without memory, of which a module is read when it
is asked for. A search needs the text projection only, a few MB of a file of many GB."""

from pathlib import Path

import comfy.model_detection
import comfy.utils
import torch

from ....skrr_engine.errors import SkrrError
from ....skrr_engine.files.header import read_header
from ....skrr_engine.files.tensor_reading import DTYPES, TensorReader
from ....skrr_engine.opening.projection_files import check_plain, is_plain

__all__ = ["FileModel"]

META = torch.device("meta")
# Before the names of a denoiser's tensors: nothing, or this in a checkpoint.
PREFIX = "model.diffusion_model."


class FileModel:
    """What projections.py asks of a MODEL, out of the safetensors file at `path`. `asked` counts the bytes of the
    tensors that were read. `diffusion_model` is None where ComfyUI does not know a model of the file's shapes."""

    # A file carries no LoRA.
    backup, patches = {}, {}

    def __init__(self, path: Path):
        self.header, self.asked = read_header(path), 0
        tensors = self.header.tensors
        self.prefix = PREFIX if any(name.startswith(PREFIX) for name in tensors) else ""
        outline = {
            name: torch.empty(entry.shape, dtype=DTYPES.get(entry.dtype, torch.uint8), device=META)
            for name, entry in tensors.items()
        }
        config = comfy.model_detection.model_config_from_unet(outline, self.prefix)
        self.diffusion_model = None
        if config is not None:
            config.quant_config = None  # layers of the file's own formats would need their data while they are built
            config.set_inference_dtype(torch.float32, torch.float32)
            found = config.get_model(outline, self.prefix, device=META).diffusion_model
            # Some sizes are taken for granted, as PixArt's; those of quantised layers say nothing.
            shapes = {self.prefix + name: tensor.shape for name, tensor in found.state_dict().items()}
            plain = [name for name in shapes.keys() & tensors.keys() if is_plain(self.header, name)]
            if all(shapes[name] == tensors[name].shape for name in plain):
                self.diffusion_model = found

    def get_model_object(self, name: str):
        """As ModelPatcher's: an attribute by its path. A module below the model is filled from the file. Raises
        SkrrError where the file lacks a tensor of it or stores it quantised."""
        found = comfy.utils.get_attr(self, name)
        below = name.partition(".")[2]
        if below and isinstance(found, torch.nn.Module) and any(p.is_meta for p in found.parameters()):
            self._fill(found, f"{self.prefix}{below}.")
        return found

    def _fill(self, module, prefix: str) -> None:
        file, state = self.header.path.name, {}
        with TensorReader(self.header) as reader:
            for name in module.state_dict():
                if prefix + name not in self.header.tensors:
                    raise SkrrError(f"{file} is not whole: it lacks {prefix + name}. Download it again.")
                check_plain(self.header, prefix + name)
                state[name] = reader.read(prefix + name)
        module.load_state_dict(state, assign=True)
        self.asked += reader.asked
