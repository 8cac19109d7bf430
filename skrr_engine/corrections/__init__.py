"""What makes a pruned encoder better without training, in closed form: matrices of kept sub-blocks fitted anew, and
biases and bridges at removed places, so that the pruned stream comes back to the dense one. Imports the ground,
`plans`, `files`, `encoders`, `measure`.

Read `fit.py` first, then `found.py`, which says what is found and how it runs.
"""
