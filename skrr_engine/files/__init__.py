"""What is read and written: safetensors headers and tensors, encoder files, plans, prompt files. Strict and bounded,
because files come from strangers. Imports the ground and `plans`.

Read `files.py` first, then `header.py`.
"""
