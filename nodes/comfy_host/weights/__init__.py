"""How ComfyUI stores weights: formats, bytes, patches, memory. The lowest room of the host.

Read `weights.py` first.
"""
