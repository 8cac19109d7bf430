"""What leaving sub-blocks out does to the features: the discrepancy D, one assignment at a time (the oracle) or many in
one pass over the weights. Imports the ground, `plans`, `encoders` and `files`.

Read `discrepancy.py` first, then `execute.py`, `objective.py`, `sweep.py`.
"""
