"""The scene grammar: captions that a scene of the small world answers to, in many wordings.

Templates come in three families. CALIBRATION and EVALUATION share none, and the two halves of the shape-colour
pairs (`split_pairs`) share none either, so that a plan is judged on wordings and things its search never saw;
the training draws from all of them and from MORE.
"""

import random

from .world import COLOURS, SHAPES, Scene, direction

__all__ = ["CALIBRATION", "EVALUATION", "FAMILIES", "MORE", "caption", "split_pairs", "statement", "whole_caption"]

CALIBRATION, EVALUATION, MORE = FAMILIES = ("calibration", "evaluation", "more")
SYNONYMS = {
    "circle": "disc", "square": "box", "triangle": "wedge", "cross": "plus", "ring": "hoop", "diamond": "rhombus"
}  # fmt: skip
NUMBERS = ("one", "two", "three", "four")
# Words that change nothing in the picture.
ADJECTIVES = ("plain", "simple", "neat", "shiny", "lovely", "little")
ENDINGS = (
    "on a dark ground", "flat design", "high quality", "in a quiet room", "minimal style", "studio light", "no text",
    "as a child would draw it", "seen from the front", "printed on cloth", "for a game", "in the evening",
)  # fmt: skip

TEMPLATES = {
    "things": {  # {a}: a thing with its article; one of them
        CALIBRATION: ("a photo of {a}", "there is {a} here", "just {a}", "{a} and nothing else", "an icon of {a}"),
        EVALUATION: ("a picture showing {a}", "draw {a}", "we see {a}", "{a} alone", "a card with {a} on it"),
        MORE: ("{a}", "a painting of {a}", "{a} in the middle of nowhere", "look, {a}", "a poster of {a}"),
    },
    "two": {  # two things
        CALIBRATION: ("{a} and {b}", "a photo of {a} next to {b}", "both {a} and {b}", "{a} plus {b} in one view"),
        EVALUATION: ("{a} with {b}", "a scene with {a} together with {b}", "{a}, also {b}", "draw {a} beside {b}"),
        MORE: ("{a}, {b}", "one sees {a} as well as {b}", "a painting of {a} and of {b}", "{b} and {a}"),
    },
    "counting": {  # {n} {s}: a number and a plural
        CALIBRATION: ("a photo of {n} {s}", "{n} {s} in a group", "exactly {n} {s}", "there are {n} {s} here"),
        EVALUATION: ("a picture of {n} {s}", "{n} {s}, no more", "draw {n} {s}", "we count {n} {s}"),
        MORE: ("{n} {s}", "a set of {n} {s}", "some {s}, {n} of them", "the number of {s} is {n}"),
    },
    "position": {  # {a} stands {d} {b}; {r} is the opposite of {d}
        CALIBRATION: ("{a} {d} {b}", "a photo of {a} {d} {b}", "{b} is {r} {a}", "there is {a} {d} {b}"),
        EVALUATION: ("{a} placed {d} {b}", "draw {a} {d} {b}", "{b} stands {r} {a}", "we see {a} {d} {b}"),
        MORE: ("{d} {b} there is {a}", "{a}, and {r} it {b}", "{a} can be found {d} {b}", "{b} {r} {a}"),
    },
    "colour": {  # how a thing says its colour: {c} {s}
        CALIBRATION: ("{s} in {c}", "{s} that is {c}", "bright {c} {s}"),
        EVALUATION: ("{c} {s}", "{s} painted {c}", "{s} coloured {c}"),
        MORE: ("{s} of {c} colour", "{c} coloured {s}", "{s} which is {c}"),
    },
}
WAYS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "lower than"),
}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def split_pairs() -> tuple[set, set]:
    """The (shape, colour) pairs of the calibration and of the evaluation captions: half of all each, every
    shape and every colour in both."""
    colours = list(COLOURS)
    calibration = {(s, c) for i, s in enumerate(SHAPES) for j, c in enumerate(colours) if (i + j) % 2 == 0}
    return calibration, {(s, c) for s in SHAPES for c in colours} - calibration


def caption(scene: Scene, sampler: random.Random, family: str | None = None) -> str:
    """A caption that says what the scene's task asks and leaves the rest open. `family` None mixes all three."""
    first, *rest = scene.things
    coloured = scene.task in ("colours", "colour attribution")
    if scene.task in ("single object", "colours"):
        text = _pick("things", sampler, family).format(a=_a(first, coloured, sampler, family))
    elif scene.task == "counting":
        text = _counted(scene, sampler, family)
    elif scene.task == "position":
        text = _placed(first, rest[0], False, sampler, family)
    else:
        a, b = (_a(thing, coloured, sampler, family) for thing in scene.things)
        text = _pick("two", sampler, family).format(a=a, b=b)
    return f"{text}, {sampler.choice(ENDINGS)}" if sampler.random() < 0.3 else text


def whole_caption(scene: Scene, sampler: random.Random) -> str:
    """A caption that says all that can be said of the scene, whatever its task: number, shapes, colours, places."""
    things = list(scene.things)
    if scene.task == "counting":
        return _counted(scene, sampler, None, coloured=True)
    if len(things) == 1:
        return _pick("things", sampler, None).format(a=_a(things[0], True, sampler, None))
    sampler.shuffle(things)
    return _placed(*things, True, sampler, None)


def statement(scene: Scene, sampler: random.Random) -> str:
    """Something true of the scene, not only what its task asks: texts about one scene teach the encoder to
    bind colours, places and numbers to things."""
    things = list(scene.things)
    thing = sampler.choice(things)
    kind = sampler.random()
    if scene.task == "counting" and kind < 0.6:
        return _counted(scene, sampler, None, coloured=sampler.random() < 0.5)
    if kind < 0.3:
        article = "the" if scene.task != "counting" else "every"
        return f"{article} {_name(thing.shape, sampler)} is {thing.colour}"
    if len(things) == 2 and scene.task != "counting":
        coloured = sampler.random() < 0.6
        if kind < 0.7:
            sampler.shuffle(things)
            return _placed(*things, coloured, sampler, None)
        a, b = (_a(t, coloured, sampler, None) for t in things)
        return _pick("two", sampler, None).format(a=a, b=b)
    return _pick("things", sampler, None).format(a=_a(thing, True, sampler, None))


def _pick(kind: str, sampler: random.Random, family: str | None) -> str:
    return sampler.choice(TEMPLATES[kind][family or sampler.choice(FAMILIES)])


def _name(shape: str, sampler: random.Random) -> str:
    return SYNONYMS[shape] if sampler.random() < 0.25 else shape


def _a(thing, coloured: bool, sampler: random.Random, family: str | None) -> str:
    name = _name(thing.shape, sampler)
    if sampler.random() < 0.15:
        name = f"{sampler.choice(ADJECTIVES)} {name}"
    if coloured:
        name = _pick("colour", sampler, family).format(c=thing.colour, s=name)
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _counted(scene: Scene, sampler: random.Random, family: str | None, coloured: bool = False) -> str:
    count, thing = len(scene.things), scene.things[0]
    name = _name(thing.shape, sampler)
    plural = name if count == 1 else name + ("es" if name[-1] in "sx" else "s")
    if coloured:
        plural = f"{thing.colour} {plural}"
    number = NUMBERS[count - 1] if sampler.random() < 0.8 else str(count)
    return _pick("counting", sampler, family).format(n=number, s=plural)


def _placed(first, second, coloured: bool, sampler: random.Random, family: str | None) -> str:
    where = direction(first, second)
    a, b = (_a(thing, coloured, sampler, family) for thing in (first, second))
    d, r = sampler.choice(WAYS[where]), sampler.choice(WAYS[OPPOSITE[where]])
    return _pick("position", sampler, family).format(a=a, b=b, d=d, r=r)
