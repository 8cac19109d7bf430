"""A complete text-to-image pipeline, small enough to ship: its world, its judge, its weights, and the demo.

Read `command.py` first, then `pipeline.py`.
"""
