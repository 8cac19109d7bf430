"""The world of shapes: what captions say, how scenes are drawn, how a picture is judged.

Read `world.py` first, then `captions.py` and `judge.py`.
"""
