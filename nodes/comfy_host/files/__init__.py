"""Loading only what is kept, saving, and the folders of plans and models. Imports `clip` and `encoders`.

Read `loading.py` first.
"""
