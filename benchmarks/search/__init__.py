"""The search measured: work and time against the published one, quality of the fast one. Read command.py first."""
