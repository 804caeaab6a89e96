"""What people ask about a drawing, and what the demo model should answer.

Promises: every answer follows from the drawing; one phrasing in six is never trained on (as
everywhere in the demo model, `Pool` decides by checksum); `before_and_after` gives exactly the text
that stands around the picture when llama.cpp is handed such a conversation.

Leaves to others: drawing (`figures`), tokens (`language`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Literal

from gguf_widgets.demo.chatml import START, message
from gguf_widgets.demo.sentences.base import Conversation, Part, Pool, Turn, capitalized, casual
from gguf_widgets.demo.sentences.conversations import conversation
from gguf_widgets.demo.vision.figures import COLOURS, SHAPES, Figure

MARK = "\0"
"""Stands for the picture inside a message."""

Kind = Literal["what", "colour", "shape", "is shape", "is colour"]

WHAT = Pool(
    (
        "What is in the picture?",
        "What is this?",
        "What do you see?",
        "Describe the picture.",
        "What does it show?",
        "What does the picture show?",
        "What is in the image?",
        "What can you see?",
        "Describe this image.",
        "What is it?",
        "What is shown here?",
        "Tell me what you see.",
        "What do you see in this picture?",
        "What is drawn here?",
        "What figure is this?",
        "Which figure is in the picture?",
        "Name the figure.",
        "What is on the picture?",
        "What is this a picture of?",
        "Can you see what this is?",
        "Say what is in this picture.",
        "Look at this. What is it?",
        "Describe it.",
        "Please describe what you see.",
    ),
    (
        "(what do|can) you see (in|on|here in) (the|this) (picture|image|drawing|photo)?",
        "(describe|explain|name) (the|this|my) (picture|image|drawing|figure|photo).",
        "(what is|what's) (in|on) (the|this|my) (picture|image|drawing|photo)?",
        "(please|) (tell me|say) what (is here|this is|it is|it shows|you see).",
        "what (does|can) (the|this) (picture|image|drawing) show?",
        "what (is|was) (drawn|shown|painted) (here|there|in it)?",
        "(what|which) (thing|figure|object) is (this|it|that|here|shown)?",
    ),
    always=2,
)
COLOUR = Pool(
    (
        "What colour is it?",
        "What color is it?",
        "Which colour is it?",
        "What is its colour?",
        "What colour is the figure?",
        "What color is the shape?",
        "What colour is this?",
        "Name the colour.",
        "Which colour does it have?",
        "Tell me the colour.",
        "What colour do you see?",
        "What is the color of the figure?",
        "Just the colour, please.",
        "Which color is this?",
        "Say the color.",
        "What colour does it have?",
        "And the colour?",
        "What colour is the thing in the picture?",
    ),
    (
        "(what|which) (colour|color) (is|has) (it|this|that)?",
        "(what|which) (colour|color) is (the|this) (figure|shape|thing|{s}|object)?",
        "(name|say|tell me|give me) (its|the) (colour|color).",
        "what is (the|its) (colour|color)?",
        "(in|) (what|which) (colour|color) is it (drawn|painted)?",
    ),
    always=2,
)
SHAPE = Pool(
    (
        "What shape is it?",
        "Which shape is it?",
        "What is its shape?",
        "What shape is this?",
        "What shape is in the picture?",
        "Name the shape.",
        "Which shape do you see?",
        "Tell me the shape.",
        "What shape does it have?",
        "What is the shape of the figure?",
        "Just the shape, please.",
        "What shape do you see?",
        "Say the shape.",
        "And the shape?",
        "What shape is the figure?",
        "Which shape is in the image?",
        "Which shape does it have?",
        "What form does it have?",
    ),
    (
        "(what|which) shape (is|has) (it|this|that|here|shown)?",
        "(what|which) (shape|form) is (the|this) (figure|thing|object)?",
        "(name|say|tell me|give me) (its|the) (shape|form).",
        "what is (the|its) shape?",
        "what shape (was|is) drawn (here|in the picture)?",
    ),
)
IS_SHAPE = Pool(
    (
        "Is there {a_s}?",
        "Is it {a_s}?",
        "Is this {a_s}?",
        "Do you see {a_s}?",
        "Does it show {a_s}?",
        "Is {a_s} in the picture?",
        "Is there {a_s} in the picture?",
        "Is that {a_s}?",
        "Can you see {a_s}?",
        "Is the figure {a_s}?",
        "Is the shape {a_s}?",
        "Does the picture show {a_s}?",
    ),
    (
        "(do|can) you see {a_s} (here|in it|in the picture|in the image)?",
        "is (it|this|that|the figure|the shape) {a_s}?",
        "is there {a_s} (here|in it|in the image|in this picture)?",
    ),
)
IS_COLOUR = Pool(
    (
        "Is it {c}?",
        "Is the figure {c}?",
        "Is this {c}?",
        "Is the shape {c}?",
        "Is its colour {c}?",
        "Is the colour {c}?",
        "Is the color {c}?",
        "Does it look {c}?",
        "Is that {c}?",
        "Is it painted {c}?",
        "Is the thing in the picture {c}?",
        "Is it a {c} one?",
    ),
    (
        "is (it|this|that|the figure|the shape|the object) (drawn in|painted|all|really|) {c}?",
        "is (the|its) (colour|color) {c}?",
    ),
)
POOLS: dict[Kind, Pool] = {
    "what": WHAT,
    "colour": COLOUR,
    "shape": SHAPE,
    "is shape": IS_SHAPE,
    "is colour": IS_COLOUR,
}
_SHARES = {"what": 0.45, "colour": 0.25, "shape": 0.18, "is shape": 0.06, "is colour": 0.06}


def with_article(words: str) -> str:
    """Return the words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def name(figure: Figure) -> str:
    """Return the figure's name with its colour: "a red circle"."""
    return with_article(f"{figure.colour} {figure.shape}")


def turn(rng: Random, figure: Figure, kind: Kind, part: Part) -> Turn:
    """Return a question of one kind about a figure, and its answer."""
    template = POOLS[kind].pick(rng, part)
    shape, colour = figure.shape, figure.colour
    # Only for the colour alone there is an answer of its own. "A circle." to the question for the
    # shape, and yes or no, were tried: the frozen model tells too seldom which of them is wanted.
    answer = f"{colour.capitalize()}." if kind == "colour" else f"{capitalized(name(figure))}."
    if kind in ("is shape", "is colour"):
        shape, colour = _right_or_wrong(rng, shape, SHAPES), _right_or_wrong(rng, colour, COLOURS)
    question = template.format(a_s=with_article(shape), s=shape, c=colour)
    question = " ".join(question.split())
    return Turn(casual(rng, question), answer)


def _right_or_wrong(rng: Random, right: str, choices: Iterable[str]) -> str:
    if rng.random() < 0.5:
        return right
    return rng.choice([choice for choice in choices if choice != right])


@dataclass(frozen=True)
class Look:
    """A conversation about one picture, which stands in its first question."""

    turns: tuple[Turn, ...]
    picture_last: bool = False  # after the words of the first question instead of before them
    system: str | None = None
    earlier: tuple[Turn, ...] = ()  # without a picture


def look(rng: Random, figure: Figure, part: Part = "train") -> Look:
    """Make a conversation about a figure up: one to three questions, mostly one."""
    count = rng.choices((1, 2, 3), (0.78, 0.16, 0.06))[0]
    kinds = rng.choices(list(_SHARES), list(_SHARES.values()), k=count)
    turns = [turn(rng, figure, kind, part) for kind in kinds]  # type: ignore[arg-type]
    if rng.random() < 0.04:  # nothing but the picture
        turns[0] = Turn("", f"{capitalized(name(figure))}.")
    system: str | None = None
    earlier: tuple[Turn, ...] = ()
    luck = rng.random()
    if luck < 0.05:
        system = rng.choice(SYSTEMS)
    elif luck < 0.1:
        earlier = _earlier(rng)
    return Look(tuple(turns), rng.random() < 0.2, system, earlier)


SYSTEMS = (
    "You are a helpful assistant.",
    "You are a friendly assistant. Answer briefly.",
    "Answer in simple English.",
    "You are a helpful assistant who looks at pictures.",
)


def _earlier(rng: Random) -> tuple[Turn, ...]:
    """Return a short exchange from before the picture came."""
    while True:
        made: Conversation = conversation(rng, "train")
        if made.system is None and sum(len(t.user) + len(t.answer) for t in made.turns) < 160:
            return made.turns


def before_and_after(asked: Look, *, answers: bool = True) -> tuple[str, str]:
    """Return the text before the picture and the text after it.

    Parameters
    ----------
    asked
        The conversation.
    answers
        Whether its last answer is in it, or only the opening of one.
    """
    before = message("system", asked.system) if asked.system is not None else ""
    for said in asked.earlier:
        before += message("user", said.user) + message("assistant", said.answer)
    first, *others = asked.turns
    parts = [MARK, first.user] if first.user else [MARK]
    if asked.picture_last:
        parts.reverse()
    after = message("user", "\n".join(parts))
    for said, following in zip(asked.turns, others, strict=False):
        after += message("assistant", said.answer) + message("user", following.user)
    last = asked.turns[-1].answer
    after += message("assistant", last) if answers else f"{START}assistant\n"
    left, right = (before + after).split(MARK)
    return left, right
