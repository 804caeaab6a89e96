"""The probabilities of choices, against models whose every probability is known."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_widgets.batch.choices import (
    TOLERANCE,
    ChoiceProbabilities,
    certainty,
    choice_probabilities,
    scoring_requests,
    token_certainty,
    whole_probabilities,
)
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.types import (
    FinishReason,
    Reply,
    Timings,
    TokenChance,
    TokenLogprob,
    Usage,
)

END = b"<|end|>"


class KnownModel:
    """A model over tokens of bytes: after each path, every token's probability is drawn once."""

    def __init__(self, vocabulary: Sequence[bytes], seed: int, sharpness: float = 3.0) -> None:
        self.vocabulary = [*vocabulary, END]
        self.seed = seed
        self.sharpness = sharpness

    def chances(self, path: tuple[bytes, ...]) -> dict[bytes, float]:
        rng = random.Random(f"{self.seed} {path}")  # noqa: S311 - no secret
        weights = [math.exp(self.sharpness * rng.gauss(0, 1)) for _ in self.vocabulary]
        total = sum(weights)
        return {token: one / total for token, one in zip(self.vocabulary, weights, strict=True)}

    def write(self, forms: Sequence[bytes], num_top: int, rng: random.Random | None) -> Reply:
        """Write one of the forms, as a grammar would have it; greedily without a generator."""
        path: list[bytes] = []
        told = []
        while True:
            text, chances = b"".join(path), self.chances(tuple(path))
            allowed = {
                token: chance
                for token, chance in chances.items()
                if (
                    text in forms
                    if token == END
                    else any(f.startswith(text + token) for f in forms)
                )
            }
            assert allowed, "a form cannot be spelled"
            if rng is None:
                token = max(allowed, key=allowed.__getitem__)
            else:
                token = rng.choices([*allowed], [*allowed.values()])[0]
            if token == END:
                return a_reply(text.decode(), told)
            best = sorted(chances, key=lambda one: -chances[one])[:num_top]
            told.append(
                TokenLogprob(
                    self.vocabulary.index(token),
                    token.decode("utf-8", "replace"),
                    math.log(chances[token]),
                    [
                        TokenChance(
                            self.vocabulary.index(one),
                            one.decode("utf-8", "replace"),
                            math.log(chances[one]),
                        )
                        for one in best
                    ],
                )
            )
            path.append(token)

    def truth(self, choices: Sequence[str]) -> tuple[dict[str, float], float]:
        """Follow every path of tokens, by the definition and nothing else."""
        found = dict.fromkeys(choices, 0.0)
        shares = []

        def begins(text: bytes) -> set[str]:
            return {c for c in choices for f in forms_of(c) if f.startswith(text)}

        def follow(path: tuple[bytes, ...], mass: float) -> None:
            text = b"".join(path)
            group = begins(text)
            if len(group) == 1:
                found[group.pop()] += mass
                return
            allowed = {
                token: chance
                for token, chance in self.chances(path).items()
                if token != END and begins(text + token)
            }
            total = sum(allowed.values())
            shares.append(total)
            for choice in choices:
                if text in forms_of(choice):
                    found[choice] += mass * (1 - total)
                    total = 1.0
            for token, chance in allowed.items():
                follow((*path, token), mass * chance / total)

        follow((), 1.0)
        return found, shares[0]


def forms_of(choice: str) -> tuple[bytes, bytes]:
    return choice.encode(), b" " + choice.encode()


def a_reply(text: str, logprobs: list[TokenLogprob] | None) -> Reply:
    return Reply(
        text=text,
        finish_reason=FinishReason.STOP,
        usage=Usage(num_prompt_tokens=1),
        timings=Timings(queue_s=0, prefill_s=0, decode_s=0, ttft_s=0, total_s=0),
        seed=0,
        logprobs=logprobs,
    )


BYTES = [bytes((one,)) for one in "ab é".encode() + "ü".encode()[1:]]
TEXTS = st.text("abéü ", min_size=1, max_size=5).map(str.strip).filter(bool)
CHOICES = st.lists(TEXTS, min_size=2, max_size=6, unique=True)
PIECES = st.lists(
    st.text("abéü ", min_size=1, max_size=3).map(str.encode), max_size=12, unique=True
)


def assert_right(found: ChoiceProbabilities, truth: dict[str, float]) -> None:
    assert list(found.values) == list(truth)
    assert math.isclose(sum(found.values.values()), 1.0)
    for choice, true in truth.items():
        assert abs(found.values[choice] - true) <= found.margins[choice] + 1e-9, choice
    assert {c for c, margin in found.margins.items() if margin > TOLERANCE} == set(found.untold)


@settings(max_examples=400)
@given(CHOICES, PIECES, st.integers(0, 10**6), st.sampled_from([0, 1, 2, 4, 8, 100]))
def test_the_truth_is_within_the_margins_whatever_is_told(
    choices: list[str], pieces: list[bytes], seed: int, num_top: int
) -> None:
    model = KnownModel(list(dict.fromkeys([*BYTES, *pieces])), seed)
    forms = [form for choice in choices for form in forms_of(choice)]
    replies = [model.write(forms, num_top, random.Random(seed))]  # noqa: S311 - no secret
    truth, _ = model.truth(choices)
    found = choice_probabilities(choices, replies[0])
    assert_right(found, truth)
    assert ChoiceProbabilities.from_dict(found.to_dict()) == found
    # More requests only ever help, and they come to an end.
    for _ in range(len(choices) + 1):
        wanted = scoring_requests(found)
        if not wanted:
            break
        replies += [model.write([choice.encode()], num_top, None) for choice in wanted]
        found = choice_probabilities(choices, replies[0], replies[1:])
        assert_right(found, truth)
    assert not scoring_requests(found)


def test_where_each_choice_is_one_token_one_reply_tells_all_exactly() -> None:
    choices = ["ab", "ba", "bb"]
    for seed in range(50):
        model = KnownModel([b"ab", b"ba", b" ba", b"bb"], seed)
        truth, share = model.truth(choices)
        found = choice_probabilities(choices, model.write([*map(str.encode, choices)], 100, None))
        assert found.untold == ()
        assert max(found.margins.values()) < 1e-9
        assert found.values == pytest.approx(truth, abs=1e-9)
        assert found.share == pytest.approx(share)
        assert found.certainty == max(found.values.values()) == certainty(found.values)
        assert found.values[found.likeliest] == found.certainty


def told(
    *places: tuple[str, dict[str, float]], numbers: dict[str, int] | None = None
) -> list[TokenLogprob]:
    """Return what a reply tells: at each place the token taken, and some probabilities."""
    ids = numbers if numbers is not None else {}

    def number(text: str) -> int:
        return ids.setdefault(text, len(ids))

    return [
        TokenLogprob(
            number(taken),
            taken,
            math.log(top[taken]),
            [
                TokenChance(number(text), text, math.log(chance))
                for text, chance in sorted(top.items(), key=lambda item: -item[1])
            ],
        )
        for taken, top in places
    ]


def test_a_choice_that_others_begin_with_gets_what_they_leave() -> None:
    ids: dict[str, int] = {}
    choices = ["good", "good enough", "bad"]
    start = {"good": 0.6, "bad": 0.3, "The": 0.1}
    short = a_reply("good", told(("good", start), numbers=ids))
    found = choice_probabilities(choices, short)
    # How the 0.6 are divided cannot be known from a reply that ended there.
    assert set(found.untold) == {"good", "good enough"}
    assert found.values["bad"] == pytest.approx(1 / 3)
    assert found.unsettled == ("good enough",) or found.unsettled == ("good",)

    after = {" enough": 0.25, "<|im_end|>": 0.7, ".": 0.05}
    long = a_reply("good enough", told(("good", start), (" enough", after), numbers=ids))
    for replies in ((long,), (short, long)):
        found = choice_probabilities(choices, replies[0], replies[1:])
        assert found.untold == ()
        assert found.values == pytest.approx(
            {"good": 0.6 / 0.9 * 0.75, "good enough": 0.6 / 0.9 * 0.25, "bad": 0.3 / 0.9}
        )
        assert found.share == pytest.approx(0.9)


def test_one_more_request_settles_two_choices_that_begin_alike() -> None:
    ids: dict[str, int] = {}
    choices = ["very good", "very bad", "ok"]
    start = {"ok": 0.5, "very": 0.4, "x": 0.1}
    found = choice_probabilities(choices, a_reply("ok", told(("ok", start), numbers=ids)))
    assert found.values["ok"] == pytest.approx(0.5 / 0.9)
    assert found.margins["ok"] < 1e-9
    assert found.untold == ("very good", "very bad")
    (wanted,) = scoring_requests(found).values()
    assert wanted["grammar"] == 'root ::= c0\nc0 ::= "very good"\n'
    assert wanted["temperature"] == 0
    after = {" good": 0.2, " bad": 0.7, "x": 0.1}
    score = a_reply("very good", told(("very", start), (" good", after), numbers=ids))
    reply = a_reply("ok", told(("ok", start), numbers=ids))
    found = choice_probabilities(choices, reply, [score])
    assert found.untold == ()
    assert found.values == pytest.approx(
        {"very good": 0.4 / 0.9 * 2 / 9, "very bad": 0.4 / 0.9 * 7 / 9, "ok": 0.5 / 0.9}
    )


def test_a_choice_outside_the_likeliest_tokens_is_bounded_by_the_least_likely_of_them() -> None:
    start = {"yes": 0.6, "no": 0.2, "x": 0.001}
    found = choice_probabilities(["yes", "no", "maybe"], a_reply("yes", told(("yes", start))))
    assert found.values["maybe"] == 0.0
    # "m", "ma", ... "maybe", each with a blank or not, and the lone blank: 11 tokens of 0.001.
    assert found.margins["maybe"] == pytest.approx(0.011 / 0.811)
    assert "maybe" in found.untold
    assert found.unsettled == ("maybe",)


def test_tokens_told_without_their_blank_are_understood() -> None:
    """Some tokenizers do that: " very" comes as "very", and " good" as "good"."""
    choices = ["very good", "very bad"]
    logprobs = told(
        ("very", {"very": 0.9, "": 0.1}), ("good", {"good": 0.5, "bad": 0.25, "x": 0.25})
    )
    found = choice_probabilities(choices, a_reply(" very good", logprobs))
    assert found.values == pytest.approx({"very good": 2 / 3, "very bad": 1 / 3}, abs=0.1)
    assert found.values["very good"] / found.values["very bad"] == pytest.approx(2)


def test_whole_probabilities_count_every_token() -> None:
    rest = (" mixed one", {" mixed one": 0.01})
    scores = {
        "A mixed one": a_reply("A mixed one", told(("A", {"A": 0.8}), rest)),
        "bad": a_reply(" bad", told((" bad", {" bad": 0.1}))),
    }
    found = whole_probabilities(["A mixed one", "bad"], scores)
    assert found == pytest.approx({"A mixed one": 0.008 / 0.108, "bad": 0.1 / 0.108})
    with pytest.raises(InvalidValueError, match="'good' has no reply that scores it"):
        whole_probabilities(["bad", "good"], scores)


def test_the_certainty_of_a_text_is_the_geometric_mean_of_its_tokens() -> None:
    logprobs = told(("a", {"a": 0.5}), ("b", {"b": 0.125}))
    assert token_certainty(logprobs) == pytest.approx(0.25)
    assert token_certainty([]) is None


def test_what_cannot_be_told_is_refused_in_words() -> None:
    with pytest.raises(InvalidValueError, match="has no log probabilities"):
        choice_probabilities(["a", "b"], a_reply("a", None))
    with pytest.raises(InvalidValueError, match="There are no choices"):
        choice_probabilities([], a_reply("a", []))
    with pytest.raises(InvalidValueError, match="There are no probabilities"):
        certainty({})
