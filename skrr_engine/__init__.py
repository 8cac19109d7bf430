"""Skrr: skip and re-use sub-blocks of text encoders (ICML 2025, arXiv 2502.08690).

PyTorch only: nothing in this package knows of ComfyUI. Floors, lowest first; a module imports only
from what stands before it in this list (tests/unit/test_house.py holds this):

1  errors  precision  architecture  stack  plan  discrepancy  events  deadline  digest  sketch
2  plan_json  compact  presets  header  tensor_reading  tensor_names  infer  files  encoder_files
2  lanes  feeding  execute  prompt_files  calibration  projection  checkpoint  encoders
3  outlook  portions  ranks  objective  budget  sweep  run  settings  curve
4  reference  exact  racing  beam  standing  floating  reuse  baselines  work  forecast
5  search
6  hosts  tokenizing  projection_files  progress  tables  demo  cli_plans  cli_search  cli
"""

__version__ = "0.1.0"
