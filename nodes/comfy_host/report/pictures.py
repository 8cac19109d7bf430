"""Two pictures of the same seed side by side as numbers."""

import math
from dataclasses import dataclass

__all__ = ["PicturePair", "compare_pictures"]

STEP = 1 / 255


@dataclass(frozen=True)
class PicturePair:
    """`psnr` in dB (peak 1, infinite for equal pictures), mean and largest absolute difference on a scale of 0 to 1,
    and `flat_psnr`: the PSNR of one flat colour, the dense picture's own mean, in the place of the pruned one."""

    psnr: float
    mean: float
    largest: float
    flat_psnr: float

    @property
    def same(self) -> bool:
        """Whether no pixel differs by a whole step of an 8-bit picture."""
        return self.largest < STEP


def compare_pictures(dense, pruned) -> tuple[PicturePair | None, str]:
    """The measures of two IMAGEs, (batch, height, width, channels) in 0 to 1, colour channels only; or None and a
    sentence that says why there are none (it comes after minutes of sampling, so it is no error)."""
    if dense is None and pruned is None:
        return None, "No pictures were connected."
    if dense is None or pruned is None:
        return None, "Only one picture is connected; to compare pictures connect both."
    for name, picture in (("dense", dense), ("pruned", pruned)):
        reason = _unusable(name, picture)
        if reason:
            return None, reason
    a, b = dense[..., :3].float().cpu(), pruned[..., :3].float().cpu()
    if a.shape[:3] != b.shape[:3]:
        return None, (
            f"The pictures differ in size ({_size(a)} dense, {_size(b)} pruned), so they are not compared. Sample "
            "both with the same size, seed and settings."
        )
    if a.shape != b.shape:
        return None, (
            f"The pictures differ in their colour channels ({a.shape[-1]} dense, {b.shape[-1]} pruned), so they are "
            "not compared. Decode both with the same VAE, and connect what VAE Decode gives."
        )
    difference = (a - b).abs()
    flat = (a - a.mean(dim=(1, 2), keepdim=True)).square().mean().item()
    pair = PicturePair(
        psnr=_psnr(difference.square().mean().item()),
        mean=difference.mean().item(),
        largest=difference.max().item(),
        flat_psnr=_psnr(flat),
    )
    return pair, ""


def _unusable(name: str, picture) -> str:
    """Why an IMAGE has no measures, in a sentence; "" where it has."""
    if picture.ndim != 4:
        return (
            f"The {name} picture has the shape {tuple(picture.shape)}, so the pictures are not compared. Connect an "
            "IMAGE: (batch, height, width, channels)."
        )
    if not picture.numel():
        return f"The {name} picture is empty, so the pictures are not compared. Connect what VAE Decode gives."
    broken = picture.numel() - picture.isfinite().sum().item()
    if broken:
        return (
            f"The {name} picture has {broken} values that are no numbers (NaN or infinite), so the pictures are not "
            "compared. It was broken while it was sampled or decoded: look at the picture itself."
        )
    return ""


def _size(picture) -> str:
    count, height, width, _ = picture.shape
    return f"{width} x {height}" + (f", {count} of them" if count > 1 else "")


def _psnr(error: float) -> float:
    return -10 * math.log10(error) if error else math.inf
