"""What to load for how many bytes, on the small pipeline: `python -m benchmarks.front`. Read command.py first."""
