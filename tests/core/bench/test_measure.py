"""One repetition: its formulas on made-up timings, and its requests through real engines."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_models import FAMILIES, write_model

from gguf_widgets.core import request_events
from gguf_widgets.core.bench.measure import Repetitions, StoppedError, sample_of
from gguf_widgets.core.bench.plan import BenchTest
from gguf_widgets.core.errors import RequestError, UnsupportedByModelError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.types import FinishReason, Reply, Timings, Usage


def reply(
    prompt: int, cached: int, written: int, *, queue: float, prefill: float, decode: float
) -> Reply:
    return Reply(
        text="",
        finish_reason=FinishReason.LENGTH,
        usage=Usage(
            num_prompt_tokens=prompt, num_cached_tokens=cached, num_completion_tokens=written
        ),
        timings=Timings(
            queue_s=queue,
            prefill_s=prefill,
            decode_s=decode,
            ttft_s=queue + prefill,
            total_s=queue + prefill + decode,
        ),
        seed=1,
    )


def test_what_one_sequence_took_is_the_workers_own_time() -> None:
    one = reply(612, 100, 129, queue=7.0, prefill=2.0, decode=4.0)
    pp, tg, both = (
        sample_of(BenchTest(n_prompt=p, n_gen=g), [one], [1000.0])
        for p, g in ((512, 0), (0, 128), (512, 128))
    )
    assert (pp.num_tokens, pp.seconds, pp.tok_per_s) == (512, pytest.approx(2), pytest.approx(256))
    assert (tg.num_tokens, tg.seconds, tg.tok_per_s) == (128, pytest.approx(4), pytest.approx(32))
    assert (both.num_tokens, both.seconds) == (640, pytest.approx(6))
    assert pp.each_tok_per_s == pytest.approx(256)


def test_several_count_from_the_first_begin_to_the_last_end_on_one_clock() -> None:
    # Taken in at 10.0 and 10.5: the first is computed 10.1 to 11 and writes until 15, the second
    # 10.5 to 12 and until 16.
    early = reply(100, 0, 41, queue=0.1, prefill=0.9, decode=4.0)
    late = reply(100, 0, 41, queue=0.0, prefill=1.5, decode=4.0)
    ends = [15.0, 16.0]
    pp = sample_of(BenchTest(n_prompt=100, n_gen=0, n_seq=2), [early, late], ends)
    tg = sample_of(BenchTest(n_prompt=0, n_gen=40, n_seq=2), [early, late], ends)
    both = sample_of(BenchTest(n_prompt=100, n_gen=40, n_seq=2), [early, late], ends)
    assert (pp.num_tokens, pp.seconds) == (200, pytest.approx(1.9))
    assert (tg.num_tokens, tg.seconds) == (80, pytest.approx(5.0))
    assert (both.num_tokens, both.seconds) == (280, pytest.approx(5.9))
    assert tg.each_tok_per_s == pytest.approx(10)


@given(st.lists(st.tuples(*[st.floats(0.001, 100)] * 3, st.floats(-5, 5)), min_size=1, max_size=8))
def test_together_they_are_never_faster_than_the_sum_of_each(times: Any) -> None:
    replies = [reply(9, 1, 5, queue=q, prefill=p, decode=d) for q, p, d, _ in times]
    ends = [1000 + skew for *_, skew in times]
    for test in (BenchTest(n_prompt=8, n_gen=0), BenchTest(n_prompt=0, n_gen=4)):
        sample = sample_of(test, replies, ends)
        assert 0 < sample.tok_per_s <= sample.each_tok_per_s * len(replies) * (1 + 1e-6)


def test_what_took_no_time_is_no_figure() -> None:
    with pytest.raises(RequestError, match="took no time that could be measured"):
        sample_of(
            BenchTest(n_prompt=0, n_gen=1), [reply(1, 0, 2, queue=0, prefill=0, decode=0)], [5.0]
        )


@pytest.fixture
def llama(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("llama_cpp")
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "llama.cpp")
    with ModelManager(keep_alive=0) as manager:
        yield manager


TESTS = [
    BenchTest(n_prompt=prompt, n_gen=gen, n_depth=depth, n_seq=n_seq)
    for n_seq in (1, 3)
    for depth in (0, 30)
    for prompt, gen in ((40, 0), (0, 8), (24, 6))
]


@pytest.mark.parametrize("kind", FAMILIES)
def test_with_every_kind_of_memory_what_is_timed_is_what_the_test_says(
    llama: ModelManager, tmp_path: Path, kind: str
) -> None:
    needed = max(test.num_shared_cells for test in TESTS)
    model = llama.load(write_model(tmp_path / "m.gguf", kind), n_ctx=needed, n_seq_max=3)
    ended: list[request_events.RequestEnded] = []

    def listen(event: object) -> None:
        if isinstance(event, request_events.RequestEnded):
            ended.append(event)

    end = request_events.subscribe(listen)
    try:
        for test in TESTS:
            repetitions = Repetitions(model, test, threading.Event())
            repetitions.warm_up()
            first, second = prompts_of(repetitions.once, ended), prompts_of(repetitions.once, ended)
            for timed, sample in (first, second):
                # Counted: all of the prompts behind the depth, all steps after the first token.
                prompt = test.n_prompt or 1
                written = test.n_gen * test.n_seq
                counted = {"prompt": test.n_prompt * test.n_seq, "generation": written}
                assert sample.num_tokens == counted.get(
                    test.kind, test.n_prompt * test.n_seq + written
                )
                assert len(timed) == test.n_seq
                before = test.n_depth if test.n_prompt else max(0, test.n_depth - 1)
                for one in timed:
                    assert one.reply is not None
                    assert one.reply.usage.num_prompt_tokens == before + prompt
                    assert one.reply.usage.num_cached_tokens == before
                    assert one.reply.usage.num_completion_tokens == test.n_gen + 1
            # Nothing of the first is in the second.
            a, b = (
                [tuple(one.prompt.tokens or ()) for one in timed] for timed, _ in (first, second)
            )
            assert not set(a) & set(b)
            assert len({*a, *b}) == 2 * test.n_seq
    finally:
        end()
        model.unload()


def prompts_of(
    once: Callable[[], Any], ended: list[request_events.RequestEnded]
) -> tuple[list[request_events.RequestEnded], Any]:
    ended.clear()
    sample = once()
    gates = [one for one in ended if one.sampling.reproducible]
    assert len(gates) == 1  # which empties the cache
    timed = [one for one in ended if not one.sampling.reproducible]
    longest = max(len(one.prompt.tokens or ()) for one in timed)
    return [one for one in timed if len(one.prompt.tokens or ()) == longest], sample


def test_a_depth_that_did_not_stay_is_an_error_and_no_figure(
    llama: ModelManager, tmp_path: Path
) -> None:
    # Half of this cache is not enough for two depths, so the engine gives one up.
    model = llama.load(write_model(tmp_path / "m.gguf", "llama"), n_ctx=256, n_seq_max=2)
    test = BenchTest(n_prompt=8, n_gen=0, n_depth=100, n_seq=2)
    with pytest.raises(UnsupportedByModelError, match="A depth of 100 tokens cannot be prepared"):
        Repetitions(model, test, threading.Event()).once()
    model.unload()


def test_a_stop_takes_back_what_is_under_way(llama: ModelManager, tmp_path: Path) -> None:
    model = llama.load(write_model(tmp_path / "m.gguf", "llama"), n_ctx=4096, n_seq_max=2)
    stop = threading.Event()
    repetitions = Repetitions(model, BenchTest(n_prompt=0, n_gen=2000, n_seq=2), stop)
    model.complete("Hello", max_tokens=1)
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    with pytest.raises(StoppedError):  # noqa: PT012
        for _ in range(1000):
            repetitions.once()
    timer.join()
    assert model.stats().num_requests == 0
    model.unload()
