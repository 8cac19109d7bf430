"""The ComfyUI layer: what a person sees and wires."""

from .apply import SkrrApply
from .calibrate import SkrrCalibrate
from .demo import SkrrDemoModels
from .load import SkrrCLIPLoader, SkrrProjection
from .plans import SkrrLoadPlan, SkrrSavePlan
from .report import SkrrReport
from .save import SkrrSaveEncoder
from .search import SkrrSearch

__all__ = ["NODE_CLASS_MAPPINGS"]

# Static scanners (ComfyUI-Manager, comfy-test) find node ids in a literal dict of this name. It is not exported
# at the top level, where it would keep ComfyUI from calling comfy_entrypoint.
NODE_CLASS_MAPPINGS = {
    "SkrrApply": SkrrApply,
    "SkrrCLIPLoader": SkrrCLIPLoader,
    "SkrrCalibrate": SkrrCalibrate,
    "SkrrDemoModels": SkrrDemoModels,
    "SkrrLoadPlan": SkrrLoadPlan,
    "SkrrProjection": SkrrProjection,
    "SkrrReport": SkrrReport,
    "SkrrSaveEncoder": SkrrSaveEncoder,
    "SkrrSavePlan": SkrrSavePlan,
    "SkrrSearch": SkrrSearch,
}
