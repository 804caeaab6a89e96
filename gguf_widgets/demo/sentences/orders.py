"""Order sentences and the JSON that says what is in them.

Promises: the answer is always JSON with the keys name, quantity, item and city, in that order;
what is not in the sentence is null; every text value stands in the sentence exactly as in the
answer. A held-out sentence is built from held-out pieces only.

Leaves to others: names and goods (`names`).
"""

from __future__ import annotations

import json
from random import Random

from gguf_widgets.demo.sentences import names
from gguf_widgets.demo.sentences.base import Part, Pool, Turn, casual
from gguf_widgets.demo.sentences.texts import section

PROMPTS = Pool(section("orders", "prompts"), section("orders", "variants_prompts"))
SYSTEMS = Pool(section("orders", "systems"), section("orders", "variants_systems"))

# Whole sentences with all four facts.
SENTENCES = Pool(section("orders", "sentences"), section("orders", "variants_sentences"))
# Pieces that are joined in any order that reads well. Each carries one fact.
GREETINGS = Pool(section("orders", "greetings"))
NAME_PIECES = Pool(section("orders", "name_pieces"), section("orders", "variants_name_pieces"))
ITEM_PIECES = Pool(section("orders", "item_pieces"), section("orders", "variants_item_pieces"))
CITY_PIECES = Pool(section("orders", "city_pieces"), section("orders", "variants_city_pieces"))
# Chatter with no fact in it, so that the model learns to step over it.
CHATTER = Pool(section("orders", "chatter"))

NUMBER_WORDS = {
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "a dozen": 12,
    "twenty": 20,
}


def _quantity(rng: Random) -> tuple[str, int]:
    luck = rng.random()
    if luck < 0.3:
        word = rng.choice(list(NUMBER_WORDS))
        return word, NUMBER_WORDS[word]
    number = rng.randint(1, 20) if luck < 0.75 else rng.randint(20, 999)
    return str(number), number


Facts = dict[str, str | int | None]


def facts(rng: Random, part: Part, *, unseen: bool = False) -> tuple[str, Facts]:
    """Return the quantity in words or digits, and all that an order says."""
    words, number = _quantity(rng)
    return words, {
        "name": names.full_name(rng, part, unseen=unseen),
        "quantity": number,
        "item": names.item(rng, part, unseen=unseen),
        "city": names.city(rng, part, unseen=unseen),
    }


def order(
    rng: Random, part: Part, *, unseen: bool = False, complete: bool = True
) -> tuple[str, Facts]:
    """Write one order sentence.

    Parameters
    ----------
    rng
        Where the randomness comes from.
    part
        Which templates to use.
    unseen
        Use names, goods and towns that training never sees.
    complete
        When false, the name, the town or both are left out and are null in the answer.

    Returns
    -------
    tuple
        The sentence, and what is in it (keys name, quantity, item, city).
    """
    words, said = facts(rng, part, unseen=unseen)
    if complete and rng.random() < 0.5:
        text = SENTENCES.pick(rng, part)
    else:
        pieces = [
            ITEM_PIECES.pick(rng, part),
            NAME_PIECES.pick(rng, part),
            CITY_PIECES.pick(rng, part),
        ]
        if not complete:
            for key, left_out in rng.choice(
                ((("name", 1),), (("city", 2),), (("name", 1), ("city", 2)))
            ):
                pieces[left_out] = ""
                said[key] = None
        if rng.random() < 0.4:
            pieces.append(CHATTER.pick(rng, part))
        rng.shuffle(pieces)
        if rng.random() < 0.6:
            pieces.insert(0, GREETINGS.pick(rng, part))
        text = " ".join(piece for piece in pieces if piece)
    text = text.format(name=said["name"], n=words, item=said["item"], city=said["city"])
    if text[0].islower() and rng.random() < 0.8 and not text.startswith(str(said["item"])):
        text = text[0].upper() + text[1:]
    return casual(rng, text, keep_case=True), said


def turn(rng: Random, part: Part, *, unseen: bool = False) -> Turn:
    """Return one question with an order in it, and the JSON."""
    complete = part == "held_out" or rng.random() < 0.9
    text, said = order(rng, part, unseen=unseen, complete=complete)
    return Turn(
        PROMPTS.pick(rng, part).format(order=text),
        json.dumps(said, ensure_ascii=False),
    )


def bare_turn(rng: Random, part: Part) -> tuple[str, Turn]:
    """Return a system prompt that asks for JSON, and a turn that is nothing but the order."""
    text, said = order(rng, part, complete=part == "held_out" or rng.random() < 0.9)
    return SYSTEMS.pick(rng, part), Turn(text, json.dumps(said, ensure_ascii=False))
