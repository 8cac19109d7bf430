"""Training of the small pipeline: `python -m skrr_engine.demo.training all --work DIR` makes every shipped weight.

Each step's data is a function of the seed and the step's number alone, so an interrupted run goes on where it
was and ends where an uninterrupted one would, up to the rounding of the machine.
"""
