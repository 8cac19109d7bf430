"""A search as a job: from an objective to a plan, level by level, in the time there is, resumable. Imports `search`.

Read `search.py` first, then `skip_phase.py` and `reuse_phase.py`.
"""
