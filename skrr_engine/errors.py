"""The one error a user of the engine meets: a sentence with the wrong value, what was expected and the cure."""

__all__ = ["PlanError", "SkrrError"]


class SkrrError(ValueError):
    """Something a person asked for cannot be done; the message is a whole sentence and says what would work."""


class PlanError(SkrrError):
    """A plan is malformed, or does not fit the encoder that it is applied to."""
