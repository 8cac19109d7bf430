"""A reason in words that a page can also say in another language."""

__all__ = ["Because", "Listed"]


class Listed(tuple):
    """Numbers in a sentence: "9, 18 and 27"."""

    def __str__(self):
        *first, last = map(str, self)
        return f"{', '.join(first)} and {last}" if first else last


class Because(str):
    """English text; `template` is the same with {names}, `values` are what stands in their place."""

    def __new__(cls, template: str, **values):
        """The text of `template` with `values` in it."""
        text = super().__new__(cls, template.format(**values))
        text.template, text.values = template, values
        return text
