"""Skrr: skip and re-use sub-blocks of text encoders (ICML 2025, arXiv 2502.08690).

PyTorch only: nothing in this package knows of ComfyUI. Rooms, lowest first; a room imports only from those before it
in this list (tests/unit/test_house.py holds this). Each room's own __init__ says what happens there and what to read
first:

1  errors  events  digest  precision  disk
2  plans  progress
3  files  encoders
4  measure
5  opening  running  corrections
6  search
7  jobs
8  baselines
9  demo
10 command
"""

__version__ = "0.2.0"
