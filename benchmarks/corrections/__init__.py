"""What a re-fit wins on the small pipeline: `python -m benchmarks.corrections`. Read command.py first."""
