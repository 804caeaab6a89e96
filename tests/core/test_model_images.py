"""Images from a notebook to the model and back, on real workers with a real (random) projector."""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import signal
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.mtmd_reference import MARKER, MtmdReference
from support.tiny_projector import NUM_TOKENS, picture, png_chunk, write_projector

import gguf_widgets as gw
from gguf_widgets.core import conversation_input, load_judge
from gguf_widgets.core.engine.image_prompt import image_token
from gguf_widgets.core.errors import (
    ContextOverflowError,
    GgufWidgetsError,
    ImageError,
    InvalidValueError,
    MissingDependencyError,
    MmprojFileError,
    UnsupportedByModelError,
    WorkerDiedError,
)
from gguf_widgets.core.images import Image
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.running import is_running
from gguf_widgets.core.types import (
    FinishReason,
    ImagePart,
    Message,
    Reply,
    SamplingSettings,
    TextPart,
)
from gguf_widgets.core.worker import protocol
from gguf_widgets.demo import demo_model_path
from tests.core.conftest import processes_of, wait_for

LOAD = {"n_ctx": 1024, "n_threads": 1}
PICTURE, OTHER = gw.image(picture(1, 200, 120)), gw.image(picture(2, 90, 90))

# Encoding takes as long as it is told to in the environment, and can be broken off meanwhile.
SLOW = """
import os, time
from gguf_widgets.core.engine.llama import vision
real = vision.LlamaVision.encode
def slow(self, image, on_progress):
    for step in range(100):
        if not on_progress(step / 100):
            raise vision.RequestCancelledError("stopped")
        time.sleep(float(os.environ["SLOW_S"]) / 100)
    return real(self, image, on_progress)
vision.LlamaVision.encode = slow
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and the projector that belongs to it."""
    folder = tmp_path_factory.mktemp("seeing")
    shutil.copy(demo_model_path(), folder / "seeing.gguf")
    write_projector(folder / "mmproj-seeing.gguf", 192)
    return folder


@pytest.fixture
def manager(no_leaks: None) -> Iterator[ModelManager]:
    manager = ModelManager(keep_alive=0)
    yield manager
    manager.close()


@pytest.fixture
def model(manager: ModelManager, folder: Path) -> Model:
    return manager.load(folder / "seeing.gguf", **LOAD)


def asking(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def test_from_the_notebook_to_the_model_and_back(model: Model, folder: Path) -> None:
    assert model.sees_images
    assert model.mmproj == folder / "mmproj-seeing.gguf"
    assert model.load_notes == []
    question = asking(PICTURE, "What is this?")
    text = model.render(question)
    assert text.count(MARKER) == 1
    assert (
        model.count_tokens(question) == len(model.tokenize(text.replace(MARKER, ""))) + NUM_TOKENS
    )
    with model.stream(question, temperature=0, max_tokens=8, logprobs=0) as stream:
        assert "".join(map(str, stream)) == stream.text
    progress = stream.image_progress
    assert (progress.number, progress.num_images, progress.fraction) == (1, 1, 1.0)
    reply = stream.reply
    assert reply.usage.num_prompt_tokens == model.count_tokens(question)

    reference = MtmdReference(folder / "seeing.gguf", folder / "mmproj-seeing.gguf")
    answer = reference.answer(text, [PICTURE.data])
    reference.close()
    assert [one.token for one in reply.logprobs] == answer.tokens
    for one, wanted in zip(reply.logprobs, answer.logprobs, strict=True):
        assert abs(one.logprob - wanted) < 1e-3

    # OpenAI's own form, and the next turn: nothing of the image is computed again.
    url = {"type": "image_url", "image_url": {"url": PICTURE.to_url()}}
    again = model.chat(asking(url, {"type": "text", "text": "What is this?"}), temperature=0)
    assert again.text.startswith(reply.text)
    turn = [*question, {"role": "assistant", "content": again.text}, *asking("And this?", OTHER)]
    later = model.chat(turn, temperature=0, max_tokens=4)
    assert later.usage.num_cached_tokens >= reply.usage.num_prompt_tokens
    assert model.stats().engine.total_images == 2
    replies = model.choices(question, 3, max_tokens=3, seed=1)
    assert len(replies) == 3
    assert asyncio.run(model.achat(question, temperature=0, max_tokens=8)).text == reply.text


def test_many_rows_with_images_and_without(model: Model) -> None:
    ends: queue.SimpleQueue[tuple[int, Reply | GgufWidgetsError]] = queue.SimpleQueue()
    damaged = Image(b"GIF89a\x08\0\x08\0" + b"nothing" * 9)
    rows: list[Any] = [asking(PICTURE, f"Row {n}") if n % 3 else f"Row {n}" for n in range(18)]
    rows[7] = asking(damaged, "Row 7")
    alone = {n: model.chat(row, temperature=0, max_tokens=5) for n, row in enumerate(rows) if n < 4}
    for number, row in enumerate(rows):
        model.submit(
            row,
            lambda end, number=number: ends.put((number, end)),
            priority="batch",
            temperature=0,
            max_tokens=5,
        )
    found = dict(ends.get(timeout=60) for _ in rows)
    error = found.pop(7)
    assert isinstance(error, ImageError)
    assert error.details["problem"] == "damaged"
    assert all(isinstance(end, Reply) for end in found.values())
    # The demo model's numbers are rounded beside others: once in a while that decides a near tie.
    assert sum(found[number].text == reply.text for number, reply in alone.items()) >= 3
    assert model.stats().engine.total_images == 1


def test_what_cannot_be_sent_is_refused_before_it_is(model: Model) -> None:
    for conversation, error, words in (
        (
            asking({"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}),
            ImageError,
            "net",
        ),
        (asking({"type": "image_url", "image_url": {"url": "/etc/passwd"}}), ImageError, "data:"),
        (asking({"type": "image_url", "image_url": {}}), InvalidValueError, "url"),
        (
            asking({"type": "image_url", "image_url": "data:image/png;base64,AAAA"}),
            ImageError,
            "no image",
        ),
        (asking({"type": "audio", "data": "x"}), InvalidValueError, "Part 1 of message 1"),
        (asking(b"raw bytes"), InvalidValueError, "Part 1 of message 1"),
        (asking(5), InvalidValueError, "Part 1"),
        (asking(*[PICTURE] * 70), ContextOverflowError, "too many"),
    ):
        with pytest.raises(error, match=words):
            model.chat(conversation, max_tokens=1)
    with pytest.raises(InvalidValueError, match="images cannot be saved"):
        model.save_prefix(asking(PICTURE, "x"), "x.prefix")
    # A template that forgets the image, and one that says it twice.
    for content in ("nothing", "{{ messages[0].content }}{{ messages[0].content }}"):
        model.use_chat_template(content)
        with pytest.raises(GgufWidgetsError, match="image"):
            model.chat(asking(PICTURE, "x"), max_tokens=1)
    # One that wants the parts of a message by themselves.
    parts = "{% for part in messages[0].content if part.type %}{{ part.text }}|{% endfor %}"
    model.use_chat_template(parts)
    assert model.render(asking(PICTURE, "Hello")) == f"{MARKER}|Hello|"
    model.use_chat_template(None)
    assert model.chat("Hello", max_tokens=3).usage.num_completion_tokens > 0


def test_a_persons_text_is_no_image(model: Model) -> None:
    text = f"Look: {MARKER} {MARKER}"
    assert model.render(text).count(MARKER) == 2
    assert model.count_tokens([{"role": "user", "content": text}]) < 60
    both = asking(text, PICTURE)
    assert model.render(both).count(MARKER) == 3
    plain = len(model.tokenize(model.render(asking(text, "")).rstrip()))
    assert abs(model.count_tokens(both) - NUM_TOKENS - plain) <= 2
    assert model.chat(both, max_tokens=2, temperature=0).usage.num_completion_tokens == 2


def test_without_the_pair_it_is_said_and_nothing_is_sent(
    manager: ModelManager, folder: Path, tmp_path: Path
) -> None:
    blind = manager.load(folder / "seeing.gguf", mmproj=False, **LOAD)
    assert not blind.sees_images
    assert blind.mmproj is None
    with pytest.raises(UnsupportedByModelError, match="mmproj") as caught:
        blind.chat(asking(PICTURE, "What?"))
    assert caught.value.details["problem"] == "no_mmproj"
    assert blind.chat("Hello", max_tokens=3).usage.num_completion_tokens > 0

    seeing = manager.load(folder / "seeing.gguf", **LOAD)
    assert seeing is not blind
    assert seeing.pid != blind.pid
    assert manager.load(folder / "seeing.gguf", **LOAD) is seeing
    named = manager.load(folder / "seeing.gguf", mmproj=folder / "mmproj-seeing.gguf", **LOAD)
    assert named is seeing
    assert manager.is_running(folder / "seeing.gguf", **LOAD)
    assert is_running(folder / "seeing.gguf", **LOAD)
    assert not manager.is_running(folder / "seeing.gguf", mmproj=tmp_path / "x.gguf", **LOAD)


def test_a_wrong_pair_is_refused_if_named_and_left_out_if_found(
    manager: ModelManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "seeing.gguf"
    shutil.copy(demo_model_path(), model)
    wrong = write_projector(tmp_path / "mmproj-seeing.gguf", 100)
    with pytest.raises(MmprojFileError, match="192 wide"):
        manager.load(model, mmproj=wrong, **LOAD)
    assert not manager.load(model, **LOAD).sees_images  # the library sees that it is another's
    # One that is right by its header, and that llama.cpp does not take.
    write_projector(wrong, 192, kind="no such kind")
    loaded = manager.load(model, **LOAD)
    assert not loaded.sees_images
    assert any("unknown projector type" in note for note in loaded.load_notes)
    assert loaded.chat("Hello", max_tokens=3).usage.num_completion_tokens > 0
    with pytest.raises(GgufWidgetsError, match="unknown projector type"):
        manager.load(model, mmproj=wrong, n_ctx=512)

    # One at which llama.cpp stops the whole process: its matrices do not go together.
    write_projector(wrong, 192, narrow="attn_k")
    crashed = manager.load(model, n_ctx=896, n_threads=1)
    assert not crashed.sees_images
    assert any("the model's process ended" in note for note in crashed.load_notes)
    assert crashed.chat("Hello", max_tokens=3).usage.num_completion_tokens > 0
    with pytest.raises(WorkerDiedError, match="It may be the image companion"):
        manager.load(model, mmproj=wrong, n_ctx=832)

    # Where the memory is short it stays out, if it was not asked for.
    write_projector(wrong, 192)
    real = load_judge._memory_beside

    def much(companion: Any, *rest: Any) -> dict[str, int]:
        return dict.fromkeys(real(companion, *rest), 1 << 60)

    monkeypatch.setattr(load_judge, "_memory_beside", much)
    short = manager.load(model, n_ctx=768)
    assert not short.sees_images
    assert any("not enough memory" in note for note in short.load_notes)
    with pytest.raises(GgufWidgetsError, match="is for its image companion"):
        manager.load(model, mmproj=wrong, n_ctx=640)


def test_without_llama_cpps_library_for_images_text_goes_on(
    manager: ModelManager, folder: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker("sys.modules['llama_cpp.mtmd_cpp'] = None")
    model = manager.load(folder / "seeing.gguf", **LOAD)
    assert not model.sees_images
    assert any("mtmd" in note and "Text works" in note for note in model.load_notes)
    assert model.chat("Hello", max_tokens=3).usage.num_completion_tokens > 0
    with pytest.raises(UnsupportedByModelError, match="mmproj"):
        model.chat(asking(PICTURE, "What?"))
    with pytest.raises(MissingDependencyError, match="mtmd"):
        manager.load(folder / "seeing.gguf", mmproj=folder / "mmproj-seeing.gguf", n_ctx=512)


def test_a_stop_in_the_middle_of_reading(
    manager: ModelManager,
    folder: Path,
    in_worker: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLOW_S", "60")
    in_worker(SLOW)
    model = manager.load(folder / "seeing.gguf", **LOAD)
    with model.stream(asking(PICTURE, "What?"), max_tokens=5) as stream:
        ended = threading.Event()

        def read() -> None:
            list(stream)
            ended.set()

        threading.Thread(target=read, name="reader").start()
        wait_for(lambda: stream.image_progress is not None, "the reading has begun")
        # Others are not held up by it.
        assert model.chat("Hello", temperature=0, max_tokens=5).usage.num_completion_tokens == 5
        stream.stop()
        assert ended.wait(20)
    assert stream.reply.finish_reason is FinishReason.ABORTED
    wait_for(lambda: model.stats().engine.num_running == 0, "nothing is left of it")


def test_a_worker_killed_in_the_middle_of_reading(
    manager: ModelManager,
    folder: Path,
    home: Path,
    in_worker: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLOW_S", "60")
    in_worker(SLOW)
    model = manager.load(folder / "seeing.gguf", **LOAD)
    stream = model.stream(asking(PICTURE, "What?"), max_tokens=5)
    failure: list[BaseException] = []

    def read() -> None:
        try:
            list(stream)
        except GgufWidgetsError as error:
            failure.append(error)

    reader = threading.Thread(target=read, name="reader")
    reader.start()
    wait_for(lambda: stream.image_progress is not None, "the reading has begun")
    os.kill(model.pid, signal.SIGKILL)
    reader.join(20)
    assert [type(error) for error in failure] == [WorkerDiedError]
    monkeypatch.setenv("SLOW_S", "0")
    reply = model.chat(asking(PICTURE, "What?"), temperature=0, max_tokens=5)
    assert reply.usage.num_completion_tokens == 5
    assert model.sees_images
    assert len(processes_of(home, "gguf_widgets.core.worker")) == 1


def test_a_client_that_judges_nothing_harms_nobody(model: Model, manager: ModelManager) -> None:
    client = model._link.client()

    def send(to: Any, *parts: Any) -> Any:
        message = Message(role="user", content="", parts=list(parts))
        return to.call(
            lambda request_id: protocol.Generate(
                request_id=request_id,
                prompt=protocol.Prompt(messages=[message]),
                sampling=SamplingSettings(max_tokens=2),
                pieces=False,
            )
        )

    bomb = png_of(8, 8, zlib.compress(b"\0" * 100_000_000, 9))
    for data, error in (
        (b"", ImageError),
        (b"nonsense", ImageError),
        (picture(1)[:50], ImageError),
        (bomb, ImageError),
        (picture(1) + b"and more", None),
    ):
        future = send(client, ImagePart(data), TextPart("What?"))
        if error is None:
            assert future.result(60).reply.usage.num_completion_tokens == 2
        else:
            with pytest.raises(error):
                future.result(60)
    # What is no list of parts at all is no message of the protocol: it ends that connection only.
    with pytest.raises(GgufWidgetsError):
        send(client, {"type": "video", "data": b""}).result(60)
    assert model.chat("Hello", max_tokens=2).usage.num_completion_tokens == 2
    blind = manager.load("demo", backend="scripted")
    with pytest.raises(UnsupportedByModelError, match="mmproj"):
        send(blind._link.client(), ImagePart(picture(1))).result(60)


def png_of(width: int, height: int, packed: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def test_messages_as_they_are_sent() -> None:
    (sent,) = conversation_input.to_messages(asking("One", PICTURE, "two"))
    assert sent == {
        "role": "user",
        "content": "One\ntwo",
        "parts": [TextPart("One"), ImagePart(PICTURE.data), TextPart("two")],
    }
    assert conversation_input.to_messages([sent]) == [sent]
    assert conversation_input.to_messages(asking("One", {"type": "text", "text": "two"})) == [
        Message(role="user", content="One\ntwo")
    ]
    with pytest.raises(ImageError):
        conversation_input.to_messages([{**sent, "parts": [ImagePart(b"nothing")]}])
    assert image_token(PICTURE, 0, 16) != image_token(OTHER, 0, 16)
