"""The only place of the pack that imports comfy.*. Uses the engine, never the other way round.

Rooms, lowest first; a room imports only from those before it (tests/unit/test_house.py holds this):

1  weights
2  encoders
3  clip
4  denoiser  files
5  search
6  report  page
"""
