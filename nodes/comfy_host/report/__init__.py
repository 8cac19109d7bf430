"""Dense against pruned: probing, verdict, plot, words. Imports `clip`, `denoiser`, `encoders` and `search`.

Read `comparing.py` first.
"""
