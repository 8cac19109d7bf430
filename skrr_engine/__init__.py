"""Skrr: skip and re-use sub-blocks of text encoders (ICML 2025, arXiv 2502.08690).

PyTorch only: nothing in this package knows of ComfyUI. Floors, lowest first; a module imports
only from lower floors (tests/unit/test_house.py holds this):

1  errors  precision  architecture  stack  plan  discrepancy  events
2  plan_json  execute  calibration  files  checkpoint  encoders  presets
3  objective  sweep
4  reference  beam  reuse
5  search
6  projection  hosts  cli  demo
"""

__version__ = "0.1.0"
