"""Greetings, and what the model says about itself and about this app.

Promises: every answer here is true of the bundled model and of gguf-widgets; the same meaning
always gets one of the same few answers, so that a script can check them.

Leaves to others: questions that the model cannot answer (`unknown`).
"""

from __future__ import annotations

from random import Random

from gguf_widgets.demo.sentences import names
from gguf_widgets.demo.sentences.base import Part, Pool, Turn, casual
from gguf_widgets.demo.sentences.texts import section

WHO = (
    "I am a tiny demo model with about 3 million parameters. "
    "I come with gguf-widgets so that you can try the app at once."
)
SKILLS = (
    "I can label a review as positive, negative or neutral, read an order into JSON, "
    "name capitals, add and subtract small numbers, tell a short story, "
    "and write short Python lines."
)
BIGGER = (
    "Put a .gguf file into the models folder. It then shows up in the list of models: "
    "choose it and press Load. A bigger model knows far more than I do."
)
APP = (
    "gguf-widgets runs language models on your own machine. "
    "You choose a model, load it, and chat with it. Nothing leaves your computer."
)
SIZE = (
    "I have about 3 million parameters. Well-known models have a thousand times more, "
    "so I only know a few things."
)
MAKER = (
    "The gguf-widgets project trained me from scratch, in about an hour, "
    "on sentences that a small program wrote."
)
SORRY_SIZE = "I am very small, so I make mistakes. Please check what I say, or load a bigger model."

# What is meant -> the reply. The ways to say it are in texts/smalltalk.txt.
ANSWERS: dict[str, str] = {
    "greeting": "Hello! I am the demo model of gguf-widgets. What can I do for you?",
    "how_are_you": "I am fine, thank you. I am small, but I am quick. What can I do for you?",
    "who": WHO,
    "size": SIZE,
    "skills": SKILLS,
    "bigger": BIGGER,
    "app": APP,
    "maker": MAKER,
    "thanks": "You are welcome!",
    "bye": "Goodbye! Come back any time.",
    "praise": "Thank you! What would you like to try next?",
    "blame": SORRY_SIZE,
    "joke": "Why did the small model cross the road? Because it had only learned one side.",
    "language": "I only know a little English. A bigger model speaks many languages.",
}
INTENTS = {
    meaning: Pool(
        section("smalltalk", meaning), section("smalltalk", f"variants_{meaning}"), always=3
    )
    for meaning in ANSWERS
}

NAME_GREETINGS = Pool(
    section("smalltalk", "name_greetings"), section("smalltalk", "variants_name_greetings")
)
NAME_QUESTIONS = Pool(
    section("smalltalk", "name_questions"), section("smalltalk", "variants_name_questions")
)


def turn(rng: Random, part: Part, intent: str | None = None) -> Turn:
    """Return one remark about the model or the app, and the reply."""
    meaning = intent or rng.choice(_WEIGHTED)
    return Turn(casual(rng, INTENTS[meaning].pick(rng, part)), ANSWERS[meaning])


# The questions that a person asks first come up more often.
_WEIGHTED = [
    *INTENTS,
    "greeting",
    "greeting",
    "who",
    "who",
    "skills",
    "skills",
    "bigger",
    "app",
    "thanks",
]


def name_turns(rng: Random, part: Part) -> tuple[Turn, Turn]:
    """Return two turns: a person says their name, and later asks for it."""
    name = names.first_name(rng, part) if rng.random() < 0.7 else names.full_name(rng, part)
    hello = casual(rng, NAME_GREETINGS.pick(rng, part).format(name=name), keep_case=True)
    return (
        Turn(hello, f"Nice to meet you, {name}! What can I do for you?"),
        Turn(casual(rng, NAME_QUESTIONS.pick(rng, part)), f"Your name is {name}."),
    )


def name_unknown_turn(rng: Random, part: Part) -> Turn:
    """Return the question for a name that was never given."""
    return Turn(
        casual(rng, NAME_QUESTIONS.pick(rng, part)),
        "You have not told me your name yet.",
    )
