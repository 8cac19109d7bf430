"""A CLIP taken apart and put together again smaller: its trees, cloning over the same storages, patching. Imports
`weights` and `encoders`.

Read `trees.py` and `kinds.py` first, then `patching.py`.
"""
