"""Which sub-blocks go: Algorithms 1 and 2 as published (`reference`), exactly, and fast. Imports `running`.

Read `reference.py` first, then `beam.py` and `reuse.py`.
"""
