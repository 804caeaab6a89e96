"""How tokens are chosen, on real llama.cpp: each setting does what its description says."""

from __future__ import annotations

import math
import statistics

import llama_cpp
import numpy as np
import pytest
from support.tiny_model import write_tiny_model

from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.llama.sampling import likeliest, log_probabilities
from gguf_widgets.core.engine.open import open_backend
from gguf_widgets.core.types import (
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    LoadSettings,
    SamplingSettings,
)

PROMPT = "hello, the world is a tall tale and then the end"
# Nothing is ruled out and the model's own distribution is drawn from.
OPEN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("models") / "llama.gguf")


@pytest.fixture(scope="module")
def engine(path):
    load = LoadSettings(n_ctx=2048, n_batch=64, n_seq_max=16, n_threads=1)
    engine = Engine(open_backend("llama.cpp", path, load))
    yield engine
    engine.close()


def ask(engine, name, *, prompt=PROMPT, grammar=None, **sampling) -> None:
    sampling = {"max_tokens": 40} | sampling
    engine.add_request(
        GenerateRequest(
            request_id=name,
            client_id=name,
            prompt_tokens=engine.tokenize(prompt),
            sampling=SamplingSettings(grammar=grammar, **sampling),
            grammar=grammar,
        )
    )


def run(engine) -> dict:
    ends = {}
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, Finished):
                ends[event.request_id] = event.reply
            elif isinstance(event, Failed):
                ends[event.request_id] = event.error
    assert not engine.backend._samplers._open
    return ends


def reply_to(engine, **settings):
    ask(engine, "one", **settings)
    return run(engine)["one"]


def test_log_probabilities_are_the_models_own_whatever_the_settings(engine, path):
    reply = reply_to(engine, logprobs=3, max_tokens=12, temperature=0.7, seed=1, top_k=5)
    model = llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, n_threads=1, verbose=False)
    try:
        tokens = engine.tokenize(PROMPT)
        written = [one.token for one in reply.logprobs]
        assert len(written) == reply.usage.num_completion_tokens
        model.eval([*tokens, *written])
        logits = np.array(model.scores[len(tokens) - 1 : len(tokens) + len(written) - 1], float)
    finally:
        model.close()
    for one, row in zip(reply.logprobs, logits, strict=True):
        expected = row - np.log(np.exp(row - row.max()).sum()) - row.max()
        # The rows were computed in other batches, so they agree to rounding.
        assert one.logprob == pytest.approx(expected[one.token], abs=0.02)
        assert [top.logprob for top in one.top] == pytest.approx(
            np.sort(expected)[::-1][:3].tolist(), abs=0.02
        )
        assert len({top.token for top in one.top}) == 3
        assert one.text == engine.detokenize([one.token], special=True)


def test_a_requests_luck_is_its_own_whatever_runs_beside_it(engine):
    alone = reply_to(engine, seed=11, **OPEN)
    for number in range(15):
        ask(engine, str(number), seed=100 + number, prompt=PROMPT[number:], **OPEN)
    ask(engine, "x", seed=11, **OPEN)
    replies = run(engine)
    assert replies["x"].text == alone.text
    assert len({reply.text for reply in replies.values()}) == 16


def test_a_repeatable_request_is_the_same_to_the_last_digit_among_others(engine):
    settings = {"seed": 11, "logprobs": 2, "reproducible": True} | OPEN
    alone = reply_to(engine, **settings)
    for number in range(12):
        ask(engine, str(number), prompt=PROMPT[number:], **OPEN)
    ask(engine, "x", **settings)
    assert run(engine)["x"].logprobs == alone.logprobs


def test_the_end_can_be_put_off_and_ruled_out(engine):
    (end,) = engine.tokenize("<|im_end|>", parse_special=True)
    eager = {"logit_bias": {end: 1e4}, "temperature": 0.0}
    assert reply_to(engine, **eager).usage.num_completion_tokens == 0
    later = reply_to(engine, min_tokens=7, **eager)
    assert (later.usage.num_completion_tokens, later.finish_reason) == (7, FinishReason.STOP)
    never = reply_to(engine, ignore_eos=True, temperature=0.0)
    assert (never.usage.num_completion_tokens, never.finish_reason) == (40, FinishReason.LENGTH)


def test_phrases_are_not_said_again_with_dry(engine):
    def longest_repeat(text) -> int:
        return max(
            length
            for length in range(1, len(text))
            for start in range(len(text) - length)
            if text[start : start + length] in text[start + 1 :]
        )

    # What greedy choice falls into on a model of random weights: the same phrase for ever.
    plain = reply_to(engine, temperature=0.0, max_tokens=150)
    dry = reply_to(
        engine, temperature=0.0, max_tokens=150, dry_multiplier=5.0, dry_allowed_length=3
    )
    assert longest_repeat(plain.text) > 60
    assert longest_repeat(dry.text) < 20


def test_xtc_leaves_out_the_likeliest(engine):
    reply = reply_to(
        engine, seed=3, logprobs=100, max_tokens=60, xtc_probability=1.0, xtc_threshold=0.01, **OPEN
    )
    could = 0
    for one in reply.logprobs:
        above = [top for top in one.top if math.exp(top.logprob) > 0.0101]
        if len(above) >= 2:
            could += 1
            assert one.token not in [top.token for top in above[:-1]]
    assert could > 5


def test_top_n_sigma_keeps_what_is_near_the_best_logit(engine):
    settings = OPEN | {"temperature": 3.0}
    free = reply_to(engine, seed=3, logprobs=0, max_tokens=100, **settings)
    near = reply_to(engine, seed=3, logprobs=1, max_tokens=100, top_n_sigma=1.0, **settings)
    behind = [one.top[0].logprob - one.logprob for one in near.logprobs]
    spread = statistics.pstdev(one.logprob for one in free.logprobs)
    assert max(behind) < 3 * spread
    assert statistics.mean(o.logprob for o in near.logprobs) > statistics.mean(
        o.logprob for o in free.logprobs
    )


def test_mirostat_steers_towards_the_surprise_asked_for(engine):
    def surprise(tau) -> float:
        settings = {"temperature": 1.0, "mirostat": 2, "mirostat_tau": tau, "ignore_eos": True}
        reply = reply_to(engine, seed=3, logprobs=0, max_tokens=400, **settings)
        return statistics.mean(-one.logprob / math.log(2) for one in reply.logprobs)

    # In bits of the model's own distribution; mirostat counts in those of what it leaves of it.
    assert surprise(4.0) + 0.3 < surprise(5.5) < surprise(7.0) - 0.3


def test_the_first_mirostat_is_there_too(engine):
    # It estimates the slope of Zipf's law, which a model of random weights does not follow.
    settings = {"temperature": 1.0, "seed": 3, "ignore_eos": True, "reproducible": True}
    texts = [reply_to(engine, mirostat=version, **settings).text for version in (0, 1, 1, 2)]
    assert texts[1] == texts[2]
    assert len(set(texts)) == 3


def test_a_grammar_is_kept_to_and_ends_the_reply(engine):
    grammar = 'root ::= "yes" | "no" | "perhaps " [a-c]{3}'
    for number in range(12):
        ask(engine, str(number), grammar=grammar, seed=number, **OPEN)
    replies = run(engine)
    allowed = {"yes", "no"} | {f"perhaps {a}{b}{c}" for a in "abc" for b in "abc" for c in "abc"}
    assert {reply.text for reply in replies.values()} <= allowed
    assert len({reply.text for reply in replies.values()}) > 2
    assert {reply.finish_reason for reply in replies.values()} == {FinishReason.STOP}
    short = reply_to(engine, grammar='root ::= "a long word"', max_tokens=3, temperature=0.0)
    assert short.finish_reason is FinishReason.LENGTH
    assert "a long word".startswith(short.text)


def test_a_grammar_and_a_bias_that_exclude_each_other_fail_that_request_alone(engine):
    grammar = 'root ::= "q"'
    (q,) = engine.tokenize("q")
    ask(engine, "bad", grammar=grammar, logit_bias={q: float("-inf")})
    ask(engine, "good", grammar=grammar)
    ends = run(engine)
    assert ends["bad"]["kind"] == "DecodeError"
    assert "No token of this model fits" in ends["bad"]["message"]
    assert ends["good"].text == "q"


def test_a_complete_grammar_ends_before_min_tokens(engine):
    reply = reply_to(engine, grammar='root ::= "no"', min_tokens=10, temperature=0.0)
    assert (reply.text, reply.finish_reason) == ("no", FinishReason.STOP)


def test_a_grammar_llama_cpp_does_not_take_fails_its_request(engine):
    ask(engine, "bad", grammar="root ::= nothing")
    ask(engine, "good", temperature=0.0)
    ends = run(engine)
    assert ends["bad"]["kind"] == "GrammarError"
    assert ends["good"].text


def test_what_the_model_would_say_anyway_is_not_changed_by_a_grammar_that_allows_it(engine):
    n_vocab = engine.backend.vocabulary.n_vocab
    letters = {t for t in range(n_vocab) if engine.detokenize([t], special=True).isalpha()}
    settings = OPEN | {
        "seed": 4,
        "logit_bias": {t: float("-inf") for t in range(n_vocab) if t not in letters},
    }
    free = reply_to(engine, **settings)
    assert reply_to(engine, grammar="root ::= [^\\x00]*", **settings).text == free.text
    assert len(free.text) >= 40


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_tokens": 3}, "forbids every token other than its end"),
        ({"ignore_eos": True}, "together forbid every token"),
    ],
)
def test_settings_that_leave_no_token_are_told_and_what_is_forbidden_is_not_written(
    engine, temperature, settings, message
):
    vocabulary = engine.backend.vocabulary
    only_the_end = dict.fromkeys(set(range(vocabulary.n_vocab)) - vocabulary.eog, float("-inf"))
    error = reply_to(engine, logit_bias=only_the_end, temperature=temperature, **settings)
    assert message in error["message"]
    assert reply_to(engine, logit_bias=only_the_end, temperature=temperature).text == ""


def test_whatever_a_sampler_does_to_the_candidates_the_next_token_has_all_of_them(engine):
    """XTC moves the start of the array: what lies before it has to be there again."""
    settings = OPEN | {"xtc_probability": 1.0, "xtc_threshold": 0.001, "max_tokens": 100}
    for seed in range(8):
        reply = reply_to(engine, seed=seed, grammar="root ::= [a-z]+", **settings)
        assert reply.text.islower(), reply
        # Two ways to the same: llama.cpp's own array without the end, and the engine's.
        theirs, ours = (
            reply_to(engine, seed=seed, reproducible=True, **settings, **one)
            for one in ({"ignore_eos": True}, {"min_tokens": 100})
        )
        assert ours.text == theirs.text


@pytest.mark.parametrize("n_vocab", [3, 260, 1536, 32_003, 151_936])
def test_the_likeliest_tokens_are_found_in_vocabularies_of_any_size(n_vocab):
    rng = np.random.default_rng(n_vocab)
    for logits in (
        rng.normal(0, 3, n_vocab).astype(np.float32),
        rng.integers(-3, 4, n_vocab).astype(np.float32),  # many equal ones
        np.where(np.arange(n_vocab) % 10, -np.inf, 1).astype(np.float32),
        np.linspace(-5, 5, n_vocab, dtype=np.float32),
    ):
        order = np.lexsort((np.arange(n_vocab), -logits))
        for count in (1, 5, 100):
            assert likeliest(logits, count) == order[:count].tolist()
        logprob, top = log_probabilities(logits, int(order[0]), 5)
        wide = logits.astype(np.float64)
        total = np.log(np.exp(wide - wide.max()).sum()) + wide.max()
        assert logprob == pytest.approx(wide.max() - total, abs=2e-6)
        assert top == [(t, pytest.approx(wide[t] - total, abs=2e-6)) for t in order[:5].tolist()]
