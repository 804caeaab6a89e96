"""Stories: four sentences about anyone, and a long one that goes through a week.

Promises: a short story has four sentences and names its hero in at least two of them; a long one
has between 16 and 18 sentences and goes through the seven days in order. No pronouns for the
hero, so that any name fits.

Leaves to others: names (`names`).
"""

from __future__ import annotations

from random import Random

from gguf_widgets.demo.sentences import names
from gguf_widgets.demo.sentences.base import Part, Pool, Turn, capitalized, casual
from gguf_widgets.demo.sentences.texts import section

QUESTIONS = Pool(section("stories", "questions"))
OPEN_QUESTIONS = Pool(section("stories", "open_questions"))
LONG_QUESTIONS = Pool(section("stories", "long_questions"))
LONG_ABOUT = Pool(section("stories", "long_about"))
FOLLOW_UPS = Pool(section("stories", "follow_ups"))

ANIMALS = section("stories", "animals")
PLACES = section("stories", "places")
TRAITS = section("stories", "traits")
THINGS = section("stories", "things")
SPOTS = section("stories", "spots")
FRIENDS = section("stories", "friends")
_PLOTS = (
    (
        "One day {h} found a {t} {p}.",
        "It belonged to {f}, and {h} gave it back at once.",
        "From that day on the two were the best of friends.",
    ),
    (
        "One morning {h} met {f} {p}.",
        "Together they looked for a {t} and found it before dark.",
        "In the evening {h} was tired and very happy.",
    ),
    (
        "One night {h} heard a noise {p}.",
        "It was {f}, who had lost a {t}, so {h} helped to look for it.",
        "They found it at sunrise and laughed for a long time.",
    ),
    (
        "One winter {h} saw {f} {p}, cold and hungry.",
        "{h} shared some warm soup and a {t}.",
        "When spring came, the whole place was full of songs.",
    ),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# Two events for each day, so that even the likeliest long story never tells the same thing twice.
_DAY_EVENTS = (
    (
        ("{h} found a {t} {p}", "Nobody knew where it came from."),
        ("{h} woke up very early", "The sky was pink and gold."),
    ),
    (
        ("{h} met {f} {p}", "They talked until it was dark."),
        ("{f} came to visit and brought a {t}", "{h} was very glad."),
    ),
    (
        ("it rained, so {h} stayed at home and baked bread", "The whole house smelled good."),
        ("a storm came, and {h} listened to the wind", "It sounded like a song."),
    ),
    (
        ("{h} walked all the way to the river", "The water was cold and clear."),
        ("{h} planted a seed in the garden", "It needed water and time."),
    ),
    (
        ("{h} climbed a hill and looked at the clouds", "One looked like a sleeping bear."),
        ("{h} wrote a letter to {f}", "The answer came the same day."),
    ),
    (
        ("{h} got lost in the forest", "A small light showed the way home."),
        ("{h} slept until noon", "Then it was time for pancakes."),
    ),
    (
        ("there was music in the street", "{h} danced with {f}."),
        ("everybody came for dinner", "{h} told the story of the {t}."),
    ),
)
_ENDINGS = (
    "When the week was over, {h} fell asleep with a smile.",
    "It had been the best week of the year.",
    "And the next week was even better.",
)


def hero(rng: Random, part: Part = "train") -> str:
    """Return who the story is about: a name, or "a fox"."""
    if rng.random() < 0.35:
        animal = rng.choice(ANIMALS)
        return f"{'an' if animal[0] in 'aeiou' else 'a'} {animal}"
    return names.first_name(rng, part)


def _fill(rng: Random, text: str, called: str) -> str:
    return text.format(h=called, t=rng.choice(THINGS), p=rng.choice(SPOTS), f=rng.choice(FRIENDS))


def _opening(rng: Random, who: str) -> tuple[str, str]:
    """Return the first sentence, and what the hero is called from then on."""
    if who.startswith(("a ", "an ")):
        called = "the " + who.split(" ", 1)[1]
        return f"Once there was {who} who lived in {rng.choice(PLACES)}.", called
    return (
        f"{who} was a {rng.choice(TRAITS)} child who lived in {rng.choice(PLACES)}.",
        who,
    )


def short_story(rng: Random, who: str) -> str:
    """Tell a story of four sentences."""
    first, called = _opening(rng, who)
    return " ".join(
        [first, *(capitalized(_fill(rng, text, called)) for text in rng.choice(_PLOTS))]
    )


def long_story(rng: Random, who: str) -> str:
    """Tell a story that goes through the seven days of a week."""
    first, called = _opening(rng, who)
    sentences = [first]
    for day, events in zip(DAYS, _DAY_EVENTS, strict=True):
        event, after = rng.choice(events)
        sentences.append(f"On {day} {_fill(rng, event, called)}.")
        sentences.append(capitalized(_fill(rng, after, called)))
    return " ".join(
        [
            *sentences,
            *(_fill(rng, text, called) for text in _ENDINGS[: rng.randint(1, 3)]),
        ]
    )


def turn_about(rng: Random, part: Part) -> Turn:
    """Ask for a short story about somebody."""
    who = hero(rng, part)
    question = QUESTIONS.pick(rng, part).format(h=who)
    return Turn(casual(rng, question, keep_case=True), short_story(rng, who))


def turn(rng: Random, part: Part) -> Turn:
    """Ask for a short story, about somebody or about anything."""
    if rng.random() < 0.3:
        return Turn(casual(rng, OPEN_QUESTIONS.pick(rng, part)), short_story(rng, hero(rng)))
    return turn_about(rng, part)


def long_turn(rng: Random, part: Part) -> Turn:
    """Ask for a long story."""
    if rng.random() < 0.5:
        return Turn(casual(rng, LONG_QUESTIONS.pick(rng, part)), long_story(rng, hero(rng)))
    who = hero(rng, part)
    return Turn(
        casual(rng, LONG_ABOUT.pick(rng, part).format(h=who), keep_case=True),
        long_story(rng, who),
    )


def follow_up(rng: Random, part: Part) -> tuple[Turn, Turn]:
    """Ask for a story, and then for one about somebody else."""
    who = hero(rng, part)
    return turn(rng, part), Turn(
        casual(rng, FOLLOW_UPS.pick(rng, part).format(h=who), keep_case=True),
        short_story(rng, who),
    )
