"""Images through llama.cpp's mtmd: what its own helper says of the same images and prompt.

Three kinds of projector, all with random weights: LLaVA's beside the demo model and beside models
with running states; one with rows and columns among the positions (M-RoPE), as Qwen's models have;
one whose images' tokens all see each other (attention that is not causal) beside a sliding window,
as Gemma 3 has.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.mtmd_reference import MARKER, Answer, MtmdReference
from support.tiny_models import write_model
from support.tiny_projector import (
    jpeg_bytes,
    picture,
    png_bytes,
    write_mrope_model,
    write_projector,
)

from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.image_prompt import PromptTokens
from gguf_widgets.core.engine.llama import vision as llama_vision
from gguf_widgets.core.engine.llama.vision import LlamaVision
from gguf_widgets.core.engine.open import open_backend
from gguf_widgets.core.engine.prompt import PromptPart
from gguf_widgets.core.errors import (
    ImageError,
    MissingDependencyError,
    MmprojFileError,
    ModelFileError,
    ModelLoadError,
    RequestCancelledError,
)
from gguf_widgets.core.images import Image, image
from gguf_widgets.core.types import (
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    LoadSettings,
    Priority,
    Reply,
    SamplingSettings,
)
from gguf_widgets.demo import demo_model_path

KINDS = ("mlp", "qwen2vl_merger", "gemma3")
STATES = ("mamba", "jamba", "lfm2")  # a running state, with attention, with a sliding window
PICTURES = [picture(seed, width, height) for seed, width, height in
            [(1, 200, 120), (2, 120, 160), (3, 60, 60), (4, 200, 120)]]  # fmt: skip
BEGIN, END = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"

Parts = Sequence[str | bytes]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Return a model and its projector of each kind."""
    folder = tmp_path_factory.mktemp("vision")
    demo = demo_model_path()
    mrope = write_mrope_model(folder / "mrope.gguf")
    gemma = write_model(folder / "gemma3.gguf", "gemma3")
    write_projector(folder / "mmproj-64.gguf", 64)
    return {
        "mlp": (demo, write_projector(folder / "mmproj-mlp.gguf", 192)),
        "qwen2vl_merger": (
            mrope,
            write_projector(folder / "mmproj-qwen.gguf", 64, kind="qwen2vl_merger"),
        ),
        "gemma3": (gemma, write_projector(folder / "mmproj-gemma.gguf", 64, kind="gemma3")),
        **{
            kind: (write_model(folder / f"{kind}.gguf", kind), folder / "mmproj-64.gguf")
            for kind in STATES
        },
    }


@pytest.fixture
def open_engine(files: dict[str, tuple[Path, Path]]) -> Iterator[Callable[..., Engine]]:
    engines = []

    def open_it(kind: str, **load: object) -> Engine:
        model, projector = files[kind]
        settings = {"n_ctx": 1024, "n_batch": 256, "n_seq_max": 4, "n_threads": 1}
        backend = open_backend(
            "llama.cpp",
            model,
            LoadSettings.from_keywords(**(settings | {"mmproj": projector} | load)),
        )
        engines.append(Engine(backend))
        return engines[-1]

    yield open_it
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def reference(
    files: dict[str, tuple[Path, Path]],
) -> Iterator[Callable[[str, Parts, int], Answer]]:
    opened: dict[str, MtmdReference] = {}

    def answer(kind: str, parts: Parts, count: int = 8) -> Answer:
        if kind not in opened:
            opened[kind] = MtmdReference(*files[kind])
        prompt = "".join(MARKER if isinstance(part, bytes) else part for part in parts)
        return opened[kind].answer(prompt, [p for p in parts if isinstance(p, bytes)], count)

    yield answer
    for one in opened.values():
        one.close()


def prompt_of(engine: Engine, parts: Parts) -> PromptTokens:
    return engine.tokenize_with_images(
        image(part) if isinstance(part, bytes) else PromptPart(part) for part in parts
    )


def ask(engine: Engine, name: str, prompt: PromptTokens, **more: object) -> None:
    sampling = {"temperature": 0.0, "max_tokens": 8, "logprobs": 2} | more
    engine.add_request(
        GenerateRequest(
            request_id=name,
            client_id="client",
            prompt_tokens=prompt.tokens,
            images=prompt.images,
            priority=sampling.pop("priority", Priority.INTERACTIVE),
            sampling=SamplingSettings.from_keywords(**sampling),
        )
    )


def run(engine: Engine) -> dict[str, Reply]:
    replies: dict[str, Reply] = {}
    while engine.has_work:
        for event in engine.step():
            assert not isinstance(event, Failed), event
            if isinstance(event, Finished):
                replies[event.request_id] = event.reply
    return replies


def reply_to(engine: Engine, parts: Parts) -> Reply:
    ask(engine, "request", prompt_of(engine, parts))
    return run(engine)["request"]


def judge(reply: Reply, answer: Answer, tolerance: float) -> None:
    """Compare with the helper's answer, as far as no near tie is decided otherwise."""
    assert reply.usage.num_prompt_tokens == answer.num_prompt
    found = reply.logprobs or []
    assert found
    for one, token, logprob, margin in zip(
        found, answer.tokens, answer.logprobs, answer.margins, strict=False
    ):
        if one.token != token:
            assert margin < 2 * tolerance
            return
        assert abs(one.logprob - logprob) < tolerance


@pytest.mark.parametrize("kind", [*KINDS, *STATES])
def test_the_same_answer_as_llama_cpps_own_helper(kind: str, open_engine, reference) -> None:
    one, two, three, four = PICTURES
    engine = open_engine(kind)
    for parts, cached in (
        ((BEGIN, one, "\nWhat is this?", END), 0),
        ((BEGIN, "Compare ", two, " with ", one, END), 0),
        ((BEGIN, three, three, END), 0),  # twice the same, side by side
        ((BEGIN, one, "\nWhat is that?", END), 1),  # as the first, but for the question
        ((BEGIN, "Compare ", two, " with ", four, END), 2),  # the other one is as large
    ):
        reply = reply_to(engine, parts)
        # What was computed in one batch is to the last digits what the helper computes; what lies
        # in the cache of before was computed beside other rows.
        judge(reply, reference(kind, parts), 1e-3 if not cached else 2e-2)
        if cached and kind in KINDS:  # a state is of use as a whole only
            spans = prompt_of(engine, parts).images
            end = spans[0].end
            assert reply.usage.num_cached_tokens >= end
            if cached == 2:
                assert reply.usage.num_cached_tokens <= spans[-1].start
    assert engine.stats().total_images == 4


@pytest.mark.parametrize("kind", ["mlp", "qwen2vl_merger"])
@pytest.mark.parametrize("n_batch", [5, 33])
def test_an_image_in_many_batches(kind: str, n_batch: int, open_engine, reference) -> None:
    engine = open_engine(kind, n_batch=n_batch, n_ubatch=n_batch)
    for parts in (
        (BEGIN, PICTURES[0], "\nWhat is this?", END),
        (BEGIN, PICTURES[0], "\nWhat is that?", END),
    ):
        judge(reply_to(engine, parts), reference(kind, parts), 2e-2)


def test_a_narrow_image_that_another_request_computes_just_now(open_engine, reference) -> None:
    """A single column of tokens takes as many positions as tokens, and shares the first in one."""
    parts = (BEGIN, picture(5, 20, 400), "\nWhat is this?", END)
    engine = open_engine("qwen2vl_merger", n_batch=1, n_ubatch=1)
    prompt = prompt_of(engine, parts)
    (span,) = prompt.images
    assert span.num_tokens == span.num_positions > 4
    ask(engine, "first", prompt)
    while engine.stats().num_cells_used <= span.start:
        engine.step()
    ask(engine, "second", prompt)  # when there is one token of it
    for reply in run(engine).values():
        judge(reply, reference("qwen2vl_merger", parts), 2e-2)


@pytest.mark.parametrize("kind", [*KINDS, *STATES])
@pytest.mark.parametrize("kv_unified", [True, False])
def test_images_beside_text_are_what_they_are_alone(
    kind: str, kv_unified: bool, open_engine
) -> None:
    if kind in ("gemma3", *STATES) and not kv_unified:
        pytest.skip("a model with a sliding window or a state has one cache")
    engine = open_engine(kind, kv_unified=kv_unified, n_ctx=512)
    prompts: list[Parts] = [
        (BEGIN, "Hello, who are you?", END),
        (BEGIN, PICTURES[0], "\nWhat is this?", END),
        (BEGIN, PICTURES[0], "\nWhat is that over there?", END),
        (BEGIN, "Name ", PICTURES[1], " and ", PICTURES[2], "!", END),
        (BEGIN, "Tell me a story of a cat.", END),
        (BEGIN, PICTURES[3], "\nWhat is this?", END),
    ]
    alone = []
    for parts in prompts:
        engine.clear_cache()
        alone.append(reply_to(engine, parts))
    engine.clear_cache()
    for round_ in range(2):  # the second finds all in the cache that has stayed
        for number, parts in enumerate(prompts):
            priority = Priority.BATCH if number % 2 else Priority.INTERACTIVE
            ask(engine, f"{round_} {number}", prompt_of(engine, parts), priority=priority)
        together = run(engine)
        for number, reply in enumerate(alone):
            answer = Answer(
                [one.token for one in reply.logprobs or ()],
                [one.logprob for one in reply.logprobs or ()],
                [one.top[0].logprob - one.top[1].logprob for one in reply.logprobs or ()],
                reply.usage.num_prompt_tokens,
            )
            # The demo model is in Q8_0, and its rows are rounded beside others.
            judge(together[f"{round_} {number}"], answer, 0.15 if kind == "mlp" else 2e-2)
    assert engine.stats().num_cells_used == 0


@pytest.mark.parametrize("kind", [*KINDS, *STATES])
@pytest.mark.parametrize("seed", range(3))
def test_in_a_crowd(kind: str, seed: int, open_engine, reference) -> None:
    """Cells run short, requests come and go at any moment, and none has another one's image."""
    rng = np.random.default_rng(seed)
    n_batch = 33 if kind != "gemma3" else 64
    engine = open_engine(kind, n_ctx=256, n_batch=n_batch, n_ubatch=n_batch, n_seq_max=6)
    words = ("What is this?", "Which of them is larger?", "Hello!", "Name it.")
    prompts: dict[str, Parts] = {}
    for number in range(20):
        parts: list[str | bytes] = [BEGIN]
        for _ in range(rng.integers(1, 4)):
            choices = [*PICTURES[:3], *words]
            parts.append(choices[rng.integers(len(choices))])
        prompts[f"r{number}"] = (*parts, END)
    waiting, aborted = list(prompts), set()
    replies: dict[str, Reply] = {}
    while waiting or engine.has_work:
        while waiting and rng.random() < 0.5:
            name = waiting.pop()
            batch = Priority.BATCH if rng.random() < 0.5 else Priority.INTERACTIVE
            ask(engine, name, prompt_of(engine, prompts[name]), max_tokens=24, priority=batch)
        if rng.random() < 0.03:
            name = f"r{rng.integers(20)}"
            if engine.abort(name):
                aborted.add(name)
        for event in engine.step():
            assert not isinstance(event, Failed), event
            if isinstance(event, Finished):
                assert event.request_id not in replies
                replies[event.request_id] = event.reply
    assert replies.keys() == prompts.keys()
    if kind in KINDS:  # the others need few cells or none
        assert engine.stats().num_preemptions > 0
    for name, reply in replies.items():
        if name not in aborted:
            answer = reference(kind, prompts[name], 24)
            judge(reply, answer, 0.15 if kind == "mlp" else 2e-2)
    assert engine.stats().num_cells_used == 0
    assert engine.stats().total_images <= 3 * 3  # three pictures, each read again now and then


@pytest.mark.parametrize("kind", KINDS)
def test_layout_is_what_encoding_gives(kind: str, open_engine) -> None:
    vision = open_engine(kind).backend.vision
    for size in ((1, 1), (56, 56), (300, 7), (7, 300), (1000, 600)):
        one = image(picture(1, *size))
        parts = [piece for piece in vision.layout(one) if not isinstance(piece, list)]
        encoded = vision.encode(one, lambda _: True)
        assert [part.num_tokens for part in parts] == [len(part.vectors) for part in encoded]
        assert all(np.isfinite(part.vectors).all() for part in encoded)
        for part, vectors in zip(parts, encoded, strict=True):
            placed = vectors.positions(7, 0, part.num_tokens)
            if vectors.places is None:
                assert part.num_positions == part.num_tokens
                assert placed.tolist() == list(range(7, 7 + part.num_tokens))
            else:
                assert placed[:3].max() == 7 + part.num_positions - 1
                assert placed[0].tolist() == [7] * part.num_tokens
                assert not placed[3].any()


def test_encoding_tells_how_far_it_is_and_can_be_broken_off(open_engine) -> None:
    vision = open_engine("mlp").backend.vision
    one = image(PICTURES[0])
    fractions: list[float] = []
    whole = vision.encode(one, lambda fraction: fractions.append(fraction) or True)
    assert len(fractions) >= 3
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] < 1.0
    for number in range(1, len(fractions) + 1):
        calls = itertools.count(1)
        with pytest.raises(RequestCancelledError):
            vision.encode(one, lambda _, calls=calls, number=number: next(calls) != number)
    again = vision.encode(one, lambda _: True)
    assert np.array_equal(again[0].vectors, whole[0].vectors)


def test_a_photo_stands_upright(open_engine) -> None:
    vision = open_engine("mlp").backend.vision
    assert isinstance(vision, LlamaVision)
    grey = np.array([[10, 60, 110], [160, 200, 250]], np.uint8)
    upright = {
        1: grey,
        2: grey[:, ::-1],
        3: grey[::-1, ::-1],
        4: grey[::-1],
        5: grey.T,
        6: np.rot90(grey, -1),
        7: np.rot90(grey, 2).T,
        8: np.rot90(grey, 1),
    }
    for turn, wanted in upright.items():
        exif = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, turn, 0, 0)
        pixels = vision._pixels(image(jpeg_bytes(grey, exif)))
        assert pixels.shape == (8 * wanted.shape[0], 8 * wanted.shape[1], 3)
        seen = pixels[4::8, 4::8, 0].astype(int)
        assert np.abs(seen - wanted).max() <= 2, turn


def test_what_is_damaged_is_refused_and_harms_nothing(open_engine, reference) -> None:
    engine = open_engine("mlp")
    vision = engine.backend.vision
    rng = np.random.default_rng(0)
    refused = 0
    before = set(psutil.Process().children())  # what other tests have left is theirs
    originals = [picture(9, 64, 48), jpeg_bytes(rng.integers(0, 256, (6, 8)).astype(np.uint8))]
    for data in originals * 150:
        broken = bytearray(data)
        for place in rng.integers(8, len(broken), 3):
            broken[place] = rng.integers(256)
        try:
            found = Image(bytes(broken))
        except ImageError:
            continue
        with contextlib.suppress(ImageError):
            vision.encode(found, lambda _: True)
            refused -= 1
        refused += 1
    assert refused > 10
    new = set(psutil.Process().children()) - before
    assert not new, "nothing was handed to another program"
    parts = (BEGIN, PICTURES[0], "\nWhat is this?", END)
    judge(reply_to(engine, parts), reference("mlp", parts), 1e-3)


def test_one_that_says_another_size_than_it_has(open_engine) -> None:
    vision = open_engine("mlp").backend.vision
    found = Image(png_bytes(np.zeros((16, 16, 3), np.uint8)))
    found.width = 12  # as if the two judged differently
    with pytest.raises(ImageError, match="other pixels"):
        vision.encode(found, lambda _: True)


def test_an_image_too_large_to_be_computed_in_one_go(open_engine) -> None:
    engine = open_engine("gemma3", n_batch=3, n_ubatch=3)
    with pytest.raises(ImageError, match="n_batch=4") as caught:
        prompt_of(engine, (BEGIN, PICTURES[0], END))
    assert caught.value.details["num_tokens"] == 4


def test_an_abort_in_the_middle_of_encoding(open_engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine("mlp")
    begun = threading.Event()
    real = LlamaVision.encode

    def slow(self: LlamaVision, one: Image, on_progress: Callable[[float], bool]) -> object:
        def report(fraction: float) -> bool:
            begun.set()
            time.sleep(0.1)
            return on_progress(fraction)

        return real(self, one, report)

    monkeypatch.setattr(LlamaVision, "encode", slow)
    ask(engine, "slow", prompt_of(engine, (BEGIN, PICTURES[0], END)))
    while not begun.is_set():
        engine.step()
    engine.interrupt()
    assert engine.abort("slow")
    assert run(engine)["slow"].finish_reason is FinishReason.ABORTED
    monkeypatch.undo()
    reply = reply_to(engine, (BEGIN, PICTURES[0], END))
    assert reply.usage.num_completion_tokens > 0


# --- the file --------------------------------------------------------------------------------


def test_a_projector_of_another_model_is_refused(files, tmp_path: Path) -> None:
    demo, projector = files["mlp"]
    for mmproj, words in (
        (files["qwen2vl_merger"][1], "192 wide"),
        (write_projector(tmp_path / "a.gguf", 192, kind="qwen2vl_merger"), "qwen2vl"),
        (demo, "'llama'"),
    ):
        with pytest.raises(MmprojFileError, match=words):
            open_backend("llama.cpp", demo, LoadSettings.from_keywords(n_ctx=256, mmproj=mmproj))
    settings = LoadSettings.from_keywords(n_ctx=256, mmproj=tmp_path / "none.gguf")
    with pytest.raises(ModelFileError, match="no file"):
        open_backend("llama.cpp", demo, settings)
    whole = projector.read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in (0, 10, 300, len(whole) // 2, len(whole) - 100):
        cut.write_bytes(whole[:size])
        with pytest.raises(ModelFileError):
            open_backend("llama.cpp", demo, LoadSettings.from_keywords(n_ctx=256, mmproj=cut))


def test_what_llama_cpp_says_of_a_projector_comes_in_words(files, tmp_path: Path) -> None:
    demo, _ = files["mlp"]
    odd = write_projector(tmp_path / "odd.gguf", 192, kind="no such kind")
    with pytest.raises(ModelLoadError, match="unknown projector type") as caught:
        open_backend("llama.cpp", demo, LoadSettings.from_keywords(n_ctx=256, mmproj=odd))
    assert "odd.gguf" in caught.value.message


def test_without_mtmd_text_works_and_images_say_so(files, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"no {name} here")

    monkeypatch.setattr(llama_vision.importlib, "import_module", missing)
    demo, projector = files["mlp"]
    settings = LoadSettings.from_keywords(n_ctx=256, mmproj=projector)
    with pytest.raises(MissingDependencyError, match="mtmd"):
        open_backend("llama.cpp", demo, settings)
    engine = Engine(open_backend("llama.cpp", demo, LoadSettings.from_keywords(n_ctx=256)))
    assert reply_to(engine, (BEGIN, "Hello", END)).usage.num_completion_tokens > 0
    engine.close()
