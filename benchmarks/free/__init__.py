"""What no picture ever reads of the text encoders that ComfyUI loads, in bytes. Read families.py first."""
