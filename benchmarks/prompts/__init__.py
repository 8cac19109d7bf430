"""How well the calibration prompts cover what people write. Read command.py first."""
