"""The denoiser's text projection: of a MODEL, of a file. Imports `clip`.

Read `projections.py` first.
"""
