"""Calibrating, searching with cancel and cache, progress. Imports `clip`, `denoiser`, `encoders`, `files`, `weights`.

Read `searching.py` first.
"""
