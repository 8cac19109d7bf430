"""Folders and files -> an encoder as a stack, its tokenizer, a denoiser's projection. Imports the rooms below.

Read `open_encoder.py` first.
"""
