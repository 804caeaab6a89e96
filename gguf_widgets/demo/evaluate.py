"""Measure the demo model, as it is shipped: ``python -m gguf_widgets.demo.evaluate``.

Promises: every question comes from templates that training never saw, the file is run through
llama.cpp, replies are greedy (temperature 0), and a reply counts only if all of it is right.

Leaves to others: the questions (`sentences`).
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from gguf_widgets.demo import demo_model_path
from gguf_widgets.demo.chatml import START, message
from gguf_widgets.demo.sentences import (
    after_training,
    code,
    conversations,
    copying,
    facts,
    orders,
    sentiment,
    smalltalk,
    stories,
    unknown,
)
from gguf_widgets.demo.sentences.base import Conversation, Turn

Maker = Callable[[Random], Conversation]
Check = Callable[[str, str], bool]


@dataclass
class Score:
    """How many of the questions of one kind were answered rightly."""

    kind: str
    right: int = 0
    total: int = 0
    wrong: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of right answers, from 0 to 1."""
        return self.right / self.total if self.total else 0.0


class Answerer:
    """The model file, loaded by llama.cpp, answering greedily.

    Parameters
    ----------
    path
        The GGUF file; the bundled one unless told.
    threads
        Processor threads.
    """

    def __init__(self, path: Path | None = None, threads: int = 2) -> None:
        try:
            from llama_cpp import Llama
        except ModuleNotFoundError:
            raise SystemExit(
                "Measuring the demo model needs llama-cpp-python. Run: pip install llama-cpp-python"
            ) from None
        self.llama: Any = Llama(
            str(path or demo_model_path()),
            n_ctx=1024,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )

    def reply(self, messages: Iterable[tuple[str, str]], max_tokens: int = 400) -> str:
        """Answer a conversation given as (role, content) pairs."""
        prompt = (
            "".join(message(role, content) for role, content in messages) + f"{START}assistant\n"
        )
        tokens = self.llama.tokenize(prompt.encode(), add_bos=False, special=True)
        made = self.llama.create_completion(
            tokens, max_tokens=max_tokens, temperature=0.0, repeat_penalty=1.0
        )
        text: str = made["choices"][0]["text"]
        return text

    def ask(self, user: str, system: str | None = None) -> str:
        """Answer one question."""
        return self.reply([*([("system", system)] if system else []), ("user", user)])


def same(expected: str, reply: str) -> bool:
    """Say whether the reply is word for word the expected one."""
    return reply == expected


def same_json(expected: str, reply: str) -> bool:
    """Say whether the reply is JSON with exactly the expected content."""
    try:
        return bool(json.loads(reply) == json.loads(expected))
    except ValueError:
        return False


def is_short_story(expected: str, reply: str) -> bool:
    """Say whether the reply has four sentences and names its hero at least twice."""
    first = expected.split(".")[0]
    if first.startswith("Once there was "):  # Once there was a fox who lived ...
        who = first.removeprefix("Once there was ").split(" who ")[0].split(" ", 1)[1]
    else:  # Emma was a kind child who lived ...
        who = first.split(" was a ")[0]
    return len(re.findall(r"[.!?](?: |$)", reply)) == 4 and reply.count(who) >= 2


def _one(turn: Callable[[Random], Turn]) -> Maker:
    return lambda rng: Conversation("", (turn(rng),))


def _pair(turns: Callable[[Random], tuple[Turn, Turn]]) -> Maker:
    return lambda rng: Conversation("", turns(rng))


def _bare(maker: Callable[[Random], tuple[str, Turn]]) -> Maker:
    def make(rng: Random) -> Conversation:
        system, turn = maker(rng)
        return Conversation("", (turn,), system)

    return make


APP_PROMPTS = {
    "sentiment": "Is this review positive or negative? {review}",
    "order": 'Read this order as JSON: "{order}"',
}  # what the tutorials of this package ask


def _app_review(rng: Random) -> Turn:
    text, label = sentiment.review(rng, "held_out")
    return Turn(APP_PROMPTS["sentiment"].format(review=text), label)


def _app_order(rng: Random) -> Turn:
    text, found = orders.order(rng, "held_out")
    return Turn(APP_PROMPTS["order"].format(order=text), json.dumps(found))


# kind -> (how to make a conversation, how to judge the last reply, how many to ask for it)
KINDS: dict[str, tuple[Maker, Check, float]] = {
    "sentiment, wordings written after training": (_one(after_training.review_turn), same, 1.0),
    "order JSON, wordings written after training": (
        _one(after_training.order_turn),
        same_json,
        1.0,
    ),
    "sentiment, in the words of the tutorials": (_one(_app_review), same, 1.0),
    "sentiment": (_one(lambda rng: sentiment.turn(rng, "held_out")), same, 1.0),
    "sentiment, asked by a system prompt": (
        _bare(lambda rng: sentiment.bare_turn(rng, "held_out")),
        same,
        0.5,
    ),
    "order JSON, in the words of the tutorials": (_one(_app_order), same_json, 1.0),
    "order JSON": (_one(lambda rng: orders.turn(rng, "held_out")), same_json, 1.0),
    "order JSON, names and goods unseen": (
        _one(lambda rng: orders.turn(rng, "held_out", unseen=True)),
        same_json,
        1.0,
    ),
    "order JSON, asked by a system prompt": (
        _bare(lambda rng: orders.bare_turn(rng, "held_out")),
        same_json,
        0.5,
    ),
    "capitals": (_one(lambda rng: facts.capital_turn(rng, "held_out")), same, 0.5),
    f"sums, numbers up to {facts.LARGEST}": (
        _one(lambda rng: facts.sum_turn(rng, "held_out", unseen=False)),
        same,
        0.5,
    ),
    "sums, pairs of numbers unseen": (
        _one(lambda rng: facts.sum_turn(rng, "held_out", unseen=True)),
        same,
        0.5,
    ),
    "greetings, itself and the app": (
        _one(lambda rng: smalltalk.turn(rng, "held_out")),
        same,
        0.5,
    ),
    "Python one-liners": (_one(lambda rng: code.turn(rng, "held_out")), same, 0.5),
    "four-sentence stories": (
        _one(lambda rng: stories.turn_about(rng, "held_out")),
        is_short_story,
        0.25,
    ),
    "says that it does not know": (
        _one(lambda rng: unknown.turn(rng, "held_out")),
        same,
        0.5,
    ),
    "one word, because the system prompt says so": (
        lambda rng: Conversation(
            "",
            (conversations.one_word_turn(rng, "held_out"),),
            conversations.ONE_WORD.pick(rng, "held_out"),
        ),
        same,
        0.5,
    ),
    "second turn: the person's name": (
        _pair(lambda rng: smalltalk.name_turns(rng, "held_out")),
        same,
        0.25,
    ),
    "second turn: another capital": (
        _pair(lambda rng: facts.capital_follow_up(rng, "held_out")),
        same,
        0.25,
    ),
    "repeats a text": (_one(lambda rng: copying.turn(rng, "held_out")), same, 0.25),
}


def measure(
    answerer: Answerer, n: int = 400, seed: int = 0, kinds: Iterable[str] | None = None
) -> list[Score]:
    """Ask the model and count right answers.

    Parameters
    ----------
    answerer
        The loaded model.
    n
        Questions for the two main kinds; the others get a half or a quarter.
    seed
        Decides the questions.
    kinds
        Which kinds to ask; all unless told.
    """
    scores = []
    for kind in kinds or KINDS:
        make, check, share = KINDS[kind]
        rng, score = Random(f"{kind} {seed}"), Score(kind)
        for _ in range(max(1, int(n * share))):
            conversation = make(rng)
            messages = [("system", conversation.system)] if conversation.system else []
            for earlier in conversation.turns[:-1]:
                messages += [("user", earlier.user), ("assistant", earlier.answer)]
            last = conversation.turns[-1]
            reply = answerer.reply([*messages, ("user", last.user)])
            score.total += 1
            if check(last.answer, reply):
                score.right += 1
            else:
                score.wrong.append((last.user, last.answer, reply))
        scores.append(score)
    return scores


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description="Measure the demo model on sentences from templates that training never saw."
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=None,
        help="another GGUF file than the bundled one",
    )
    parser.add_argument("-n", type=int, default=400, help="questions for the main kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--wrong", type=int, default=0, help="show this many wrong answers of each kind"
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    began = time.perf_counter()
    answerer = Answerer(arguments.model, arguments.threads)
    print(
        "Templates that training never saw; greedy replies; a reply counts only if all of it is "
        "right.\n"
    )
    for kind in KINDS:
        (score,) = measure(answerer, arguments.n, arguments.seed, [kind])
        print(
            f"{score.kind:<46}{score.right:>4} of {score.total:<4} {score.share:>7.1%}",
            flush=True,
        )
        for question, expected, reply in score.wrong[: arguments.wrong]:
            print(f"    asked    {question!r}\n    expected {expected!r}\n    got      {reply!r}")
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
