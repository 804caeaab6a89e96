"""Capitals of countries, and sums of small numbers.

Promises: every capital is right (as of 2026), every sum is computed, and one pair of numbers in
twenty is kept back from training, whatever the wording.

Leaves to others: sums with numbers beyond `LARGEST`, which `unknown` declines.
"""

from __future__ import annotations

from random import Random

from gguf_widgets.demo.sentences import names
from gguf_widgets.demo.sentences.base import Part, Pool, Turn, casual
from gguf_widgets.demo.sentences.texts import section

CAPITALS = dict(entry.split(":", 1) for entry in section("facts", "capitals"))

CAPITAL_QUESTIONS = Pool(section("facts", "capital_questions"))
COUNTRY_QUESTIONS = Pool(section("facts", "country_questions"))
FOLLOW_UPS = Pool(section("facts", "follow_ups"))

ADD_QUESTIONS = Pool(section("facts", "add_questions"), always=3)
SUBTRACT_QUESTIONS = Pool(section("facts", "subtract_questions"), always=3)
SUM_FOLLOW_UPS = Pool(section("facts", "sum_follow_ups"))

LARGEST = 20  # number in a sum


def capital_answer(country: str) -> str:
    """Return the sentence that names the capital."""
    return f"The capital of {country} is {CAPITALS[country]}."


def capital_question(rng: Random, part: Part, *, one_word: bool = False) -> tuple[str, str]:
    """Return a question for a capital (a one-word capital if asked for), and its country."""
    countries = [c for c, town in CAPITALS.items() if not (one_word and " " in town)]
    country = rng.choice(countries)
    text = casual(rng, CAPITAL_QUESTIONS.pick(rng, part).format(c=country))
    return (text[0].upper() + text[1:] if rng.random() < 0.5 else text), country


def capital_turn(rng: Random, part: Part) -> Turn:
    """Return a question about a capital; the country may also be asked for, or be made up."""
    luck = rng.random()
    if part == "train" and luck < 0.1:
        made_up = names.invented_word(rng).title()
        return Turn(
            casual(rng, CAPITAL_QUESTIONS.pick(rng, part).format(c=made_up)),
            f"I do not know the capital of {made_up}.",
        )
    if part == "train" and luck < 0.22:
        country, town = rng.choice(list(CAPITALS.items()))
        if town not in (
            "London",
            "Washington",
        ):  # two entries of the table share each of these
            return Turn(
                casual(rng, COUNTRY_QUESTIONS.pick(rng, part).format(t=town)),
                f"{town} is the capital of {country}.",
            )
    text, country = capital_question(rng, part)
    return Turn(text, capital_answer(country))


def capital_follow_up(rng: Random, part: Part) -> tuple[Turn, Turn]:
    """Return a question for a capital, and a short one that makes sense only after it."""
    country = rng.choice(list(CAPITALS))
    return capital_turn(rng, part), Turn(
        casual(rng, FOLLOW_UPS.pick(rng, part).format(c=country)),
        capital_answer(country),
    )


def pair_is_held_out(a: int, b: int) -> bool:
    """Say whether training never sees this pair of numbers (one pair in twenty)."""
    return (a * 31 + b * 17) % 20 == 7


def _pair(rng: Random, part: Part, operator: str, unseen: bool | None) -> tuple[int, int]:
    while True:
        top = rng.choice((10, LARGEST, LARGEST))
        a, b = rng.randint(0, top), rng.randint(0, top)
        if operator == "-" and b > a and rng.random() < 0.8:
            a, b = b, a
        if part == "train" and pair_is_held_out(a, b):
            continue
        if unseen is not None and pair_is_held_out(a, b) != unseen:
            continue
        return a, b


def sum_turn(rng: Random, part: Part, *, unseen: bool | None = None) -> Turn:
    """Return a sum or a difference of two numbers from 0 to `LARGEST`.

    ``unseen`` asks for a pair of numbers that training never sees (true), that it may see (false),
    or any (None).
    """
    operator = rng.choice("+-")
    a, b = _pair(rng, part, operator, unseen)
    result = a + b if operator == "+" else a - b
    questions = ADD_QUESTIONS if operator == "+" else SUBTRACT_QUESTIONS
    return Turn(
        casual(rng, questions.pick(rng, part).format(a=a, b=b)),
        f"{a} {operator} {b} = {result}",
    )


def sum_follow_up(rng: Random, part: Part) -> tuple[Turn, Turn]:
    """Return a sum and a short second question that is worded as going on from the first."""
    operator = rng.choice("+-")
    a, b = _pair(rng, part, operator, None)
    result = a + b if operator == "+" else a - b
    text = SUM_FOLLOW_UPS.pick(rng, part).format(a=a, b=b, o=operator)
    return sum_turn(rng, part), Turn(casual(rng, text), f"{a} {operator} {b} = {result}")
