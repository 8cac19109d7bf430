"""What makes a pruned encoder better without training and without a byte: matrices of kept sub-blocks, fitted anew in
closed form so that the pruned stream comes back to the dense one. Imports the ground, `plans`, `encoders`, `measure`.

Read `refit.py` first, then `corrected.py`, which runs what was found.
"""
