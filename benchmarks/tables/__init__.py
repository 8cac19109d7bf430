"""The paper's tables on the small pipeline: one cell at a time, resumable. Read command.py first, then layout.py."""
