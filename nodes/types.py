"""The pack's own socket types."""

from comfy_api.latest import io

__all__ = ["CALIBRATION", "PLAN", "PROJECTION"]

CALIBRATION = io.Custom("SKRR_CALIBRATION")
PLAN = io.Custom("SKRR_PLAN")
PROJECTION = io.Custom("SKRR_PROJECTION")
