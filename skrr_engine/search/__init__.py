"""Which sub-blocks to skip and to re-use: Algorithms 1 and 2 as published (`reference`), exact, and fast. Imports
`running`.

Read `reference.py` first, then `beam.py` and `reuse.py`.
"""
