"""What a text encoder offers (`stack`), and the encoders of the transformers library as such stacks. Imports `plans`.

Read `stack.py` first.
"""
