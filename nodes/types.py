"""The pack's own socket types."""

from comfy_api.latest import io

__all__ = ["CALIBRATION", "PLAN"]

CALIBRATION = io.Custom("SKRR_CALIBRATION")
PLAN = io.Custom("SKRR_PLAN")
