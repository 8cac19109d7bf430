"""Damaged and hostile plans and files against the readers. Read command.py first."""
