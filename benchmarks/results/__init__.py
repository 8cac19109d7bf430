"""The pages: docs/results.md from what the other benchmarks have measured. Read command.py first."""
