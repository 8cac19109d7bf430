"""Plans and corrections on two real language models, run by ComfyUI's own classes. Read models.py first."""
