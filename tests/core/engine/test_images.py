"""Images beside text in the engine: each sequence has just its own, wherever they come from.

On scripted replies and made-up images. What is written depends on all that a slot's memory holds,
so a vector that is missing, twice, in the wrong place or another image's shows in the reply.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
from support.tiny_projector import picture

from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.image_prompt import PromptTokens, image_token
from gguf_widgets.core.engine.prompt import PromptPart
from gguf_widgets.core.engine.scripted import BOS, Fault, ScriptedBackend
from gguf_widgets.core.engine.scripted_vision import ScriptedVision, stand_in
from gguf_widgets.core.errors import ContextOverflowError, ImageError, UnsupportedByModelError
from gguf_widgets.core.images import Image
from gguf_widgets.core.types import (
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    GenerationEvent,
    ImageProgress,
    LoadSettings,
    Priority,
    SamplingSettings,
    TextDelta,
)

# 4 to 15 tokens wide; the third and the sixth have two parts.
IMAGES = [
    Image(picture(number, width, height))
    for number, (width, height) in enumerate(
        [(80, 60), (120, 20), (40, 90), (32, 32), (96, 96), (56, 57)]
    )
]


def script(tokens: Iterable[int], _: int) -> int:
    """Write a letter that depends on everything before it."""
    digest = hashlib.blake2b(np.array(list(tokens), "<i8").tobytes(), digest_size=4).digest()
    return ord("a") + int.from_bytes(digest, "big") % 26


def memory_of(prompt: PromptTokens) -> list[int]:
    """Return what a slot holds after a prompt."""
    memory = list(prompt.tokens)
    for span in prompt.images:
        for at in range(span.num_tokens):
            memory[span.start + at] = stand_in(span.image, span.part, at)
    return memory


def expected(prompt: PromptTokens, count: int) -> str:
    memory = memory_of(prompt)
    for _ in range(count):
        memory.append(script(memory, 0))
    return bytes(memory[-count:]).decode()


def open_engine(
    *,
    n_ctx: int = 400,
    n_batch: int = 64,
    n_seq_max: int = 4,
    vision: dict[str, object] | None = None,
    **backend: object,
) -> Engine:
    load = {name: backend.pop(name) for name in ("kv_unified", "n_draft") if name in backend}
    settings = LoadSettings.from_keywords(n_ctx=n_ctx, n_batch=n_batch, n_seq_max=n_seq_max, **load)
    seeing = ScriptedVision(n_batch, **(vision or {}))
    OPENED.append(Engine(ScriptedBackend(settings, script, vision=seeing, **backend)))
    return OPENED[-1]


OPENED: list[Engine] = []


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """Close what a test that failed has left open."""
    yield
    while OPENED:
        OPENED.pop().close()


def prompt_of(engine: Engine, parts: Iterable[str | Image]) -> PromptTokens:
    return engine.tokenize_with_images(
        part if isinstance(part, Image) else PromptPart(part) for part in parts
    )


def ask(
    engine: Engine,
    name: str,
    prompt: PromptTokens,
    *,
    client: str = "client",
    priority: Priority = Priority.INTERACTIVE,
    **sampling: object,
) -> None:
    engine.add_request(
        GenerateRequest(
            request_id=name,
            client_id=client,
            prompt_tokens=list(prompt.tokens),
            images=prompt.images,
            priority=priority,
            sampling=SamplingSettings.from_keywords(**({"max_tokens": 6} | sampling)),
        )
    )


def run(
    engine: Engine, each_step: Callable[[int], None] = lambda _: None, limit: int = 100_000
) -> list[GenerationEvent]:
    events: list[GenerationEvent] = []
    for step in range(limit):
        if not engine.has_work:
            return events
        each_step(step)
        events += engine.step()
    raise AssertionError("it does not come to an end")


def texts(events: Iterable[GenerationEvent]) -> dict[str, str]:
    found: dict[str, str] = {}
    for event in events:
        assert not isinstance(event, Failed), event
        if isinstance(event, Finished):
            assert event.request_id not in found
            found[event.request_id] = event.reply.text
    return found


KINDS = {
    "attention": {},
    "running state": {"can_cut": False},
    "own cells": {"kv_unified": False, "n_ctx": 160},
    "guesses": {"n_draft": 8},
    "whole images": {"vision": {"max_whole": 33}},
    "tiny batches": {"n_batch": 5},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_gives_each_its_own(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    engine = open_engine(**({"n_ctx": 160} | KINDS[kind]))
    wanted: dict[str, tuple[PromptTokens, int]] = {}
    beginnings: list[list[str | Image]] = [[]]
    for number in range(24):
        parts = list(beginnings[rng.integers(len(beginnings))])
        for _ in range(rng.integers(1, 4)):
            if rng.random() < 0.5:
                parts.append(IMAGES[rng.integers(len(IMAGES))])
            else:
                parts.append("What is this? "[: rng.integers(1, 15)])
        prompt = prompt_of(engine, parts)
        if len(prompt.tokens) > 140:
            continue
        beginnings.append(parts)
        wanted[f"r{number}"] = prompt, int(rng.integers(1, 9))
    waiting = list(wanted)
    events: list[GenerationEvent] = []

    gone: set[str] = set()

    def hand_in(step: int) -> None:
        name = list(wanted)[rng.integers(len(wanted))]
        if rng.random() < 0.15 and engine.abort(name):
            gone.add(name)
        while waiting and rng.random() < 0.4:
            name = waiting.pop(0)
            prompt, count = wanted[name]
            ask(
                engine,
                name,
                prompt,
                client=f"c{rng.integers(3)}",
                priority=Priority.BATCH if rng.random() < 0.5 else Priority.INTERACTIVE,
                max_tokens=count,
            )

    while waiting:
        hand_in(0)
        events += run(engine, hand_in)
    engine.close()
    found = texts(events)
    assert found.keys() == wanted.keys()
    for name, (prompt, count) in wanted.items():
        if name not in gone:
            assert found[name] == expected(prompt, count), name


def test_tokens_of_images_are_numbers_of_no_vocabulary_and_their_own() -> None:
    numbers = {
        image_token(image, part, count)
        for image in IMAGES
        for part in range(3)
        for count in (1, 2, 300)
    }
    assert len(numbers) == len(IMAGES) * 9
    assert max(numbers) < -1
    engine = open_engine()
    prompt = prompt_of(engine, ["a", IMAGES[2], "b"])
    spans = prompt.images
    assert [(span.num_tokens, span.part, span.number) for span in spans] == [(5, 0, 0), (5, 1, 0)]
    assert prompt.tokens[0] == BOS
    assert prompt.tokens[spans[0].start - 1] == ord("[")
    assert prompt.tokens[spans[0].end] == ord("|")
    assert prompt.tokens[spans[1].end :] == [ord("]"), ord("b")]
    engine.close()


def test_an_image_is_encoded_once_and_computed_once() -> None:
    engine = open_engine()
    vision = engine.backend.vision
    assert isinstance(vision, ScriptedVision)
    first = prompt_of(engine, [IMAGES[0], " What is it?"])
    ask(engine, "one", first)
    replies = texts(run(engine))
    assert vision.encoded == [IMAGES[0]]
    # The next turn, and another row with the same image: its cells are there.
    for name, rest in (("two", " What is it?" + replies["one"] + " And?"), ("three", " Why?")):
        ask(engine, name, prompt_of(engine, [IMAGES[0], rest]))
        done = [event for event in run(engine) if isinstance(event, Finished)]
        assert done[0].reply.usage.num_cached_tokens >= first.images[-1].end
    assert vision.encoded == [IMAGES[0]]
    # In another place its cells are of no use, and its vectors are.
    moved = prompt_of(engine, ["Elsewhere ", IMAGES[0]])
    ask(engine, "four", moved)
    events = run(engine)
    assert texts(events)["four"] == expected(moved, 6)
    assert vision.encoded == [IMAGES[0]]
    assert not [event for event in events if isinstance(event, ImageProgress)]
    assert engine.stats().total_images == 1
    engine.close()


def test_two_images_of_the_same_size_are_never_mixed_up() -> None:
    engine = open_engine()
    same_size = [Image(picture(seed, 80, 60)) for seed in (11, 12)]
    prompts = [prompt_of(engine, ["Look: ", image, " What is it?"]) for image in same_size]
    assert [len(prompt.tokens) for prompt in prompts] == [31, 31]
    for turn in range(3):
        for number, prompt in enumerate(prompts):
            ask(engine, f"{turn} {number}", prompt)
        found = texts(run(engine))
        assert found == {f"{turn} {n}": expected(p, 6) for n, p in enumerate(prompts)}
    engine.close()


def test_rows_that_come_together_share_one_image() -> None:
    engine = open_engine(vision={"encode_s": 0.05})
    wide = Image(picture(1, 8 * 50, 20))  # wide enough to be worth waiting for
    prompts = [prompt_of(engine, [wide, f" Question {n}?"]) for n in range(4)]
    for number, prompt in enumerate(prompts):
        ask(engine, f"r{number}", prompt, priority=Priority.BATCH)
    assert texts(run(engine)) == {f"r{n}": expected(p, 6) for n, p in enumerate(prompts)}
    assert engine.stats().total_images == 1
    assert engine.stats().total_prompt_tokens <= len(prompts[0].tokens) + 3 * 4
    engine.close()


def test_replies_go_on_while_an_image_is_encoded() -> None:
    engine = open_engine(n_ctx=4096, vision={"encode_s": 0.4})
    ask(engine, "story", prompt_of(engine, ["Tell me a story"]), max_tokens=3000)
    while not any(isinstance(event, TextDelta) for event in engine.step()):
        pass
    ask(engine, "image", prompt_of(engine, [IMAGES[0], "What?"]), max_tokens=1)
    num_written, fractions = 0, []
    events: list[GenerationEvent] = []
    while not any(isinstance(event, Finished) for event in events):
        events = engine.step()
        num_written += sum(isinstance(event, TextDelta) for event in events)
        fractions += [e.fraction for e in events if isinstance(e, ImageProgress)]
        time.sleep(0.001)  # a script needs no time, and the encoding some
    assert num_written > 20
    assert fractions == sorted(set(fractions))
    assert fractions[-1] == 1.0
    assert 3 <= len(fractions) <= 7  # it takes 0.4 s, and is told ten times a second
    engine.close()


def test_no_stream_waits_for_more_than_one_batch_of_an_image() -> None:
    engine = open_engine(n_ctx=4096, n_batch=512, n_seq_max=8)
    engine._pace.observe = lambda *_: None  # a script takes no time: its pace stays as at first
    wide = Image(picture(1, 8 * 300, 20))
    ask(engine, "story", prompt_of(engine, ["Tell me a story"]), max_tokens=2000)
    engine.step()
    for number in range(3):
        ask(engine, f"r{number}", prompt_of(engine, [wide, f"{number}"]), client=f"c{number}")
    order: list[str] = []
    real, real_images = engine.backend.decode, engine.backend.decode_images
    engine.backend.decode = lambda n: (order.append("t"), real(n))[1]
    engine.backend.decode_images = lambda n: (order.append(f"i{n}"), real_images(n))[1]
    found = texts(run(engine))
    assert len(found) == 4
    assert "".join(one[0] for one in order).count("ii") == 0
    assert max(int(one[1:]) for one in order if one[0] == "i") == engine._pace.limit == 64
    engine.close()


def test_what_fails_to_be_read_fails_alone() -> None:
    def fault(image: Image) -> None:
        if image == IMAGES[3]:
            raise ImageError("The image is damaged.", problem="damaged")
        if image == IMAGES[4]:
            raise ValueError("a fault of ours")

    engine = open_engine(vision={"fault": fault, "encode_s": 0.02})
    prompts = {n: prompt_of(engine, [IMAGES[n], "?"]) for n in range(5)}
    both = prompt_of(engine, [IMAGES[0], IMAGES[3]])
    for number, prompt in prompts.items():
        ask(engine, f"r{number}", prompt)
    ask(engine, "both", both)
    ask(engine, "text", prompt_of(engine, ["Hello"]))
    events = run(engine)
    failed = {e.request_id: e.error["kind"] for e in events if isinstance(e, Failed)}
    assert failed == {"r3": "ImageError", "r4": "DecodeError", "both": "ImageError"}
    done = texts(event for event in events if not isinstance(event, Failed))
    assert done.keys() == {"r0", "r1", "r2", "text"}
    assert done["r1"] == expected(prompts[1], 6)
    assert engine.stats().num_cells_used == 0
    engine.close()


def test_failed_batches_cost_only_the_sequence_at_fault() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        bad = stand_in(IMAGES[5], 0, 2)

        def fault(rows: list[tuple[int, int, int]], rng=rng, bad=bad) -> Fault | None:
            if any(token == bad for token, _, _ in rows):
                return Fault(-3, rows_done=int(rng.integers(len(rows))))
            if rng.random() < 0.2:
                # "No room" ends one that is alone, as it should: it is told to several only.
                several = len({slot for _, _, slot in rows}) > 1
                return Fault(int(rng.choice([1, 2])) if several else 2)
            return None

        engine = open_engine(n_batch=16, fault=fault)
        prompts = {f"r{n}": prompt_of(engine, [image, f" {n}?"]) for n, image in enumerate(IMAGES)}
        for name, prompt in prompts.items():
            ask(engine, name, prompt)
        events = run(engine)
        assert [e.request_id for e in events if isinstance(e, Failed)] == ["r5"]
        done = texts(event for event in events if not isinstance(event, Failed))
        assert done == {name: expected(p, 6) for name, p in prompts.items() if name != "r5"}
        engine.close()


def test_an_abort_ends_the_reading_too() -> None:
    engine = open_engine(vision={"encode_s": 5.0})
    ask(engine, "slow", prompt_of(engine, [IMAGES[0]]))
    ask(engine, "same", prompt_of(engine, [IMAGES[0], "?"]))
    ask(engine, "next", prompt_of(engine, [IMAGES[1]]))
    for _ in range(3):
        engine.step()
    began = time.perf_counter()
    threading.Timer(0.05, engine.interrupt).start()
    assert engine.abort("slow")
    assert engine.abort("same")
    assert engine.abort("next")
    events = run(engine)
    reasons = [e.reply.finish_reason for e in events if isinstance(e, Finished)]
    assert reasons == [FinishReason.ABORTED] * 3
    engine.close()  # the thread ends: a tenth of the encoding may be under way
    assert time.perf_counter() - began < 4
    assert not [t for t in threading.enumerate() if t.name == "gguf-widgets-images"]


def test_one_that_leaves_takes_no_image_from_another() -> None:
    engine = open_engine(vision={"encode_s": 0.3})
    prompt = prompt_of(engine, [IMAGES[0], "?"])
    ask(engine, "stays", prompt, client="a")
    ask(engine, "goes", prompt_of(engine, [IMAGES[0], "!"]), client="b")
    for _ in range(3):
        engine.step()
    assert engine.abort_client("b") == 1
    done = {e.request_id: e.reply for e in run(engine) if isinstance(e, Finished)}
    assert done["stays"].text == expected(prompt, 6)
    assert done["goes"].finish_reason is FinishReason.ABORTED
    assert engine.stats().total_images == 1
    engine.close()


def test_what_cannot_be_is_refused() -> None:
    engine = open_engine(n_ctx=32)
    with pytest.raises(ContextOverflowError) as caught:
        ask(engine, "long", prompt_of(engine, [IMAGES[4], IMAGES[4], IMAGES[4]]))
    assert caught.value.details["n_prompt"] == 3 * 14 + 1
    engine.close()

    blind = Engine(ScriptedBackend(LoadSettings.from_keywords(n_ctx=64), script))
    with pytest.raises(UnsupportedByModelError, match="mmproj") as caught:
        prompt_of(blind, [IMAGES[0]])
    assert caught.value.details["problem"] == "no_mmproj"
    with pytest.raises(UnsupportedByModelError, match="mmproj"):
        ask(blind, "image", prompt_of(engine, [IMAGES[0]]))
    blind.close()

    whole = open_engine(vision={"max_whole": 33})
    bare = prompt_of(whole, [IMAGES[3]])
    cut = PromptTokens(bare.tokens[: bare.images[-1].end], bare.images)
    with pytest.raises(UnsupportedByModelError, match="ends with an image"):
        ask(whole, "end", cut)
    whole.close()


def test_a_prompt_may_end_with_an_image() -> None:
    engine = open_engine()
    bare = prompt_of(engine, ["Look: ", IMAGES[0]])
    cut = PromptTokens(bare.tokens[: bare.images[-1].end], bare.images)
    for turn in range(2):
        ask(engine, f"{turn}", cut)
        assert texts(run(engine)) == {f"{turn}": expected(cut, 6)}
    engine.close()


def test_an_image_is_no_guess_of_how_a_reply_goes_on() -> None:
    # The reply says again and again what stands before the image.
    follows = {ord("b"): ord("c"), ord("c"): ord("["), ord("["): ord("b")}

    def repeat(tokens: list[int], _: int) -> int:
        return follows.get(tokens[-1], ord("b"))

    settings = LoadSettings.from_keywords(n_ctx=400, n_batch=64, n_seq_max=2, n_draft=8)
    engine = Engine(ScriptedBackend(settings, repeat, vision=ScriptedVision(64)))
    prompt = prompt_of(engine, ["abc", IMAGES[0], "?"])
    ask(engine, "one", prompt, max_tokens=30)
    (text,) = texts(run(engine)).values()
    assert text == "bc[" * 10
    assert engine._drafts.num_right > 0
    engine.close()


def test_where_images_are_computed_whole_no_batch_is_longer_than_it_may_be() -> None:
    engine = open_engine(n_seq_max=6, vision={"max_whole": 16})
    real, counts = engine.backend.decode_images, []
    engine.backend.decode_images = lambda count: (counts.append(count), real(count))[1]
    prompts = {f"r{n}": prompt_of(engine, [image, f"{n}"]) for n, image in enumerate(IMAGES)}
    for name, prompt in prompts.items():
        ask(engine, name, prompt)
    found = texts(run(engine))
    assert found == {name: expected(prompt, 6) for name, prompt in prompts.items()}
    assert max(counts) <= 16


def test_text_goes_on_as_text_after_the_last_image_has_gone() -> None:
    for ends_there in (False, True):
        engine = open_engine()
        bare = prompt_of(engine, ["Look: ", IMAGES[0]])
        cut = PromptTokens(bare.tokens[: bare.images[-1].end], bare.images)
        ask(engine, "image", cut, max_tokens=1 if ends_there else 50)
        hello = prompt_of(engine, ["Hello"])
        images = engine.backend.decode_images
        decoded: list[int] = []
        engine.backend.decode_images = lambda n, f=images, d=decoded: (d.append(n), f(n))[1]
        while not decoded:  # until its image was the last thing that was computed
            engine.step()
        if not ends_there:
            assert engine.abort("image")
        ask(engine, "text", hello)
        done = [event.reply for event in run(engine) if isinstance(event, Finished)]
        assert expected(hello, 6) in [reply.text for reply in done]
        engine.close()
