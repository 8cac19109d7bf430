"""Measurements under way: trials row by row, every finding on disk, stopped by a clock or a cancel. Imports `measure`.

Read `run.py` first, then `trial.py`, `checkpoint.py`.
"""
