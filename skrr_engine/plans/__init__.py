"""Plans as data, as one line of text, as JSON: which sub-blocks go and which run in their place. No tensors but the
sketch of an encoder. Imports the ground.

Read `plan.py` first.
"""
