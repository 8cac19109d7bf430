"""What Skrr is compared with: other ways to make a text encoder smaller without training.

`shortgpt`, `finercut` and `random_plans` hand out skipped sub-blocks, `laco` also moves matrices, and `magnitude`
sets weights to zero. `ladder` has what they share: the rung nearest to a sparsity, Re-use on top, plans, levels.
Read `shortgpt.py` first.
"""
