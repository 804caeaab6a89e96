"""The mix of skills, and how single questions become conversations.

Promises: `conversation(rng, part)` depends on nothing but `rng` and `part`. Later turns of a
conversation are as likely to be a new subject as a follow-up, so the model learns to answer the
last question and to use what was said before.

Leaves to others: turning text into tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from gguf_widgets.demo.sentences import (
    code,
    copying,
    facts,
    orders,
    sentiment,
    smalltalk,
    stories,
    unknown,
)
from gguf_widgets.demo.sentences.base import Conversation, Part, Pool, Turn
from gguf_widgets.demo.sentences.texts import section

ONE_WORD = Pool(section("conversations", "one_word"))
BEFORE = section("conversations", "before")
AFTER = section("conversations", "after")
PLAIN = Pool(section("conversations", "plain"))


def bare_review(rng: Random, part: Part) -> Turn:
    """Return a review with no request around it: people paste one just to see what happens."""
    text, label = sentiment.review(rng, part)
    return Turn(text, f"That sounds {label}.")


SINGLE: dict[str, tuple[float, Callable[[Random, Part], Turn]]] = {
    "orders": (0.27, orders.turn),
    "sentiment": (0.2, sentiment.turn),
    "sentiment_json": (0.02, sentiment.json_turn),
    "bare_review": (0.01, bare_review),
    "sums": (0.09, facts.sum_turn),
    "smalltalk": (0.11, smalltalk.turn),
    "copying": (0.07, copying.turn),
    "capitals": (0.06, facts.capital_turn),
    "unknown": (0.08, unknown.turn),
    "code": (0.05, code.turn),
    "stories": (0.035, stories.turn),
    "long_stories": (0.01, stories.long_turn),
}
PAIRS: tuple[tuple[str, Callable[[Random, Part], tuple[Turn, Turn]]], ...] = (
    ("name", smalltalk.name_turns),
    ("capital_follow_up", facts.capital_follow_up),
    ("sum_follow_up", facts.sum_follow_up),
    ("story_follow_up", stories.follow_up),
)
_SKILLS = list(SINGLE)
_SHARES = [share for share, _ in SINGLE.values()]


def _with_manners(rng: Random, turn: Turn) -> Turn:
    """Put a word of politeness before or after the question, now and then."""
    luck = rng.random()
    if luck < 0.06:
        return Turn(f"{rng.choice(BEFORE)} {turn.user}", turn.answer)
    if luck < 0.1:
        return Turn(f"{turn.user} {rng.choice(AFTER)}", turn.answer)
    return turn


def single(rng: Random, part: Part) -> tuple[str, Turn]:
    """Return one turn of any skill, and the skill's name."""
    skill = rng.choices(_SKILLS, _SHARES)[0]
    turn = SINGLE[skill][1](rng, part)
    if part == "train" and skill not in ("copying", "bare_review"):
        turn = _with_manners(rng, turn)
    return skill, turn


def one_word_turn(rng: Random, part: Part) -> Turn:
    """Return a question with the answer cut down to one word."""
    luck = rng.random()
    if luck < 0.4:
        question, country = facts.capital_question(rng, part, one_word=True)
        return Turn(question, facts.CAPITALS[country])
    if luck < 0.6:
        turn = facts.sum_turn(rng, part)
        return Turn(turn.user, turn.answer.rsplit(" ", 1)[1])
    if luck < 0.72:
        return sentiment.turn(rng, part)
    if luck < 0.85:
        intent, word = rng.choice(
            (
                ("greeting", "Hello!"),
                ("how_are_you", "Fine."),
                ("thanks", "Welcome!"),
                ("bye", "Goodbye!"),
                ("who", "Demo."),
                ("size", "Tiny."),
                ("app", "gguf-widgets."),
                ("joke", "Banana."),
            )
        )
        return Turn(smalltalk.turn(rng, part, intent).user, word)
    return Turn(unknown.turn(rng, part).user, "Unknown.")


def _with_system(rng: Random, part: Part) -> Conversation:
    luck = rng.random()
    if luck < 0.55:
        count = rng.choice((1, 1, 1, 2, 3))
        short = tuple(one_word_turn(rng, part) for _ in range(count))
        return Conversation("one_word", short, ONE_WORD.pick(rng, part))
    kind, maker = (
        ("orders_bare", orders.bare_turn)
        if luck < 0.78
        else ("sentiment_bare", sentiment.bare_turn)
    )
    system, turn = maker(rng, part)
    turns = [turn, *(maker(rng, part)[1] for _ in range(rng.choice((0, 0, 0, 1, 2))))]
    return Conversation(kind, tuple(turns), system)


def conversation(
    rng: Random, part: Part = "train", *, copying_share: float = 0.0, sums_share: float = 0.0
) -> Conversation:
    """Make one conversation.

    Parameters
    ----------
    rng
        Where the randomness comes from.
    part
        Which templates to use.
    copying_share
        How many of the conversations are nothing but copying (training starts with many).
    sums_share
        How many are nothing but a few sums (training ends with many).
    """
    luck = rng.random()
    if luck < copying_share:
        return Conversation("copying", (copying.turn(rng, part),))
    if luck < copying_share + sums_share:
        count = rng.choice((1, 2, 3))
        return Conversation("sums", tuple(facts.sum_turn(rng, part) for _ in range(count)))
    if rng.random() < 0.14:
        return _with_system(rng, part)
    if rng.random() < 0.75:
        skill, turn = single(rng, part)
        turns = [turn]
    else:
        skill, turns = _several(rng, part)
    system = PLAIN.pick(rng, part) if rng.random() < 0.12 else None
    return Conversation(skill, tuple(turns), system)


def _several(rng: Random, part: Part) -> tuple[str, list[Turn]]:
    """Return a conversation of two to six turns."""
    skill, maker = rng.choice(PAIRS)
    first, second = maker(rng, part)
    luck = rng.random()
    if luck < 0.35:
        turns = [first, second]
    elif luck < 0.6:  # something else lies between the first and what goes back to it
        between = [single(rng, part)[1] for _ in range(rng.choice((1, 1, 2)))]
        # only a name can be asked for after a change of subject
        turns = [first, *between, second] if skill == "name" else [*between, first, second]
    else:
        skill = "mixed"
        turns = [single(rng, part)[1] for _ in range(rng.choice((2, 2, 3, 3, 4, 6)))]
        if rng.random() < 0.15:
            turns.append(smalltalk.name_unknown_turn(rng, part))
        elif rng.random() < 0.3:
            turns.append(smalltalk.turn(rng, part, rng.choice(("thanks", "praise", "bye"))))
    return skill, turns
