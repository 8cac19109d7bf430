"""What a word's state should tell of its scene: the second lesson of the encoder's pre-training.

Span corruption alone needs far more steps than fit here before a word's state depends on the words around it (see
`encoder`). So the encoder also learns to read: from the state of a word for a thing, the thing's colour, where it
stands from the other, and how many there are; from the state of a word for a colour, what has it. Asked is only what
the text says: where it leaves the place open, guessing it would be most of the lesson's loss.
"""

import re
from functools import lru_cache

from ..world.captions import NUMBERS, SYNONYMS, WAYS
from ..world.world import COLOURS, DIRECTIONS, SHAPES, Scene, direction
from .texts import UNSAID

__all__ = ["LESSONS", "lessons"]

# What is read, and how many answers it has. One answer more than there are directions: there is no other thing.
LESSONS = {"colour": len(COLOURS), "place": len(DIRECTIONS) + 1, "number": 4, "shape": len(SHAPES)}


def lessons(ids: list[int], text: str, scene: Scene | None, piece_of) -> dict[str, list[int]]:
    """For every lesson the answer at each of the tokens `ids` of `text`, UNSAID where nothing is to be read.
    `piece_of(id)` is the token's text."""
    found = {name: [UNSAID] * len(ids) for name in LESSONS}
    words = set(re.findall(r"\w+", text))
    said = {answer for word, answer in _words().items() if word in words}
    things = [thing for thing in (scene.things if scene else ()) if ("thing", SHAPES.index(thing.shape)) in said]
    for at, token in enumerate(ids):
        kind, number = _words().get(piece_of(token).strip("\u2581"), (None, 0))
        for thing in things:
            if kind == "thing" and SHAPES[number] == thing.shape:
                colour = list(COLOURS).index(thing.colour)
                others = [other for other in things if other.shape != thing.shape]
                if ("colour", colour) in said:
                    found["colour"][at] = colour
                if not others:
                    found["place"][at] = len(DIRECTIONS)
                elif words & _PLACING:
                    found["place"][at] = DIRECTIONS.index(direction(thing, others[0]))
                if scene.task != "counting" or words & _COUNTING:
                    found["number"][at] = len(things) - len(others) - 1
            elif kind == "colour" and list(COLOURS)[number] == thing.colour:
                found["shape"][at] = SHAPES.index(thing.shape)
    return found


_PLACING = {way.split()[0] for ways in WAYS.values() for way in ways} - {"to"}
_COUNTING = {*NUMBERS, "1", "2", "3", "4"}


@lru_cache
def _words() -> dict[str, tuple[str, int]]:
    """Word -> ("thing", number of its shape) or ("colour", its number)."""
    words = {name: ("colour", number) for number, name in enumerate(COLOURS)}
    for number, shape in enumerate(SHAPES):
        words |= {f"{name}{end}": ("thing", number) for name in (shape, SYNONYMS[shape]) for end in ("", "s", "es")}
    return words
