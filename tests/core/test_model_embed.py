"""What a notebook does with vectors and adapters, on real workers with tiny models."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.peer import Peer
from support.tiny_embedding import adapter_deltas, write_adapter, write_bert, write_decoder

from gguf_widgets.core.errors import (
    AdapterFileError,
    ContextOverflowError,
    InvalidValueError,
    ModelNotFoundError,
    UnsupportedByModelError,
    WorkerDiedError,
)
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import Failed
from gguf_widgets.core.worker import protocol
from tests.core.conftest import wait_for

# Half a minute of work; none of it is waited for.
MANY = ["the cat and the dog, hello " * 12] * 6000


@pytest.fixture
def llama(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelManager]:
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "llama.cpp")
    manager = ModelManager(keep_alive=0)
    yield manager
    manager.close()


@pytest.fixture
def writer(llama: ModelManager, tmp_path: Path) -> Model:
    return llama.load(write_decoder(tmp_path / "writer.gguf"), n_ctx=512)


def _wait_until_idle(model: Model) -> None:
    wait_for(lambda: model.stats().num_requests == 0, "nothing is left open")


def test_an_embedding_model_gives_vectors_counts_tokens_and_says_that_it_cannot_write(
    llama: ModelManager, tmp_path: Path
) -> None:
    model = llama.load(write_bert(tmp_path / "bert.gguf"))
    assert model.load_notes == [
        "This is an embedding model: it turns texts into vectors and cannot write."
    ]
    assert model.count_tokens("hello world") == 2
    texts = [f"{word} {number}" for number in range(150) for word in ("hello", "the dog")]
    vectors = model.embed(texts)
    assert vectors.shape == (300, 32)
    assert vectors.dtype == np.float32
    assert vectors.flags.writeable
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for index in (0, 127, 128, 299):  # the parts are in order
        assert np.allclose(model.embed(texts[index]), vectors[index], atol=2e-3)
    assert model.embed(texts[0]).shape == (32,)
    assert model.embed(iter(texts[:2])).shape == (2, 32)
    assert model.embed([]).shape == (0, 32)
    assert not np.allclose(model.embed("hello", pooling="cls"), model.embed("hello"), atol=0.01)
    long = model.embed("hello", normalize=False)
    assert np.allclose(long / np.linalg.norm(long), model.embed("hello"), atol=2e-3)
    for ask in (model.chat, model.complete):
        with pytest.raises(UnsupportedByModelError, match="Load a model that writes"):
            ask("Hello")
    _wait_until_idle(model)


def test_what_is_wrong_is_told_with_the_index_and_nothing_is_cut(
    llama: ModelManager, tmp_path: Path
) -> None:
    model = llama.load(write_bert(tmp_path / "bert.gguf"), n_ctx=100, n_batch=32)
    assert model.load_notes[-2:] == [
        "With it n_batch has no effect: that follows from the model.",
        "n_ctx is 64 instead of 100: the model was made for no more.",
    ]
    texts = ["a"] * 400
    with pytest.raises(ContextOverflowError, match="room for 64") as caught:
        model.embed([*texts, "hello " * 80, *texts])
    assert caught.value.details == {"index": 400, "n_tokens": 82, "n_ctx": 64, "excess": 18}
    with pytest.raises(InvalidValueError, match="index 400 is empty") as empty:
        model.embed([*texts, "", *texts])
    assert empty.value.details == {"index": 400}
    for wrong, match in (
        (["a", 3], "index 1 is a int"),
        (["a", "\ud800"], "index 1 holds half a character"),
        (b"a", "this is a bytes"),
        (7, "this is a int"),
    ):
        with pytest.raises(InvalidValueError, match=match):
            model.embed(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="'mean', 'last', 'cls'"):
        model.embed("a", pooling="max")
    with Peer() as peer:
        peer.hello()
        peer.send(protocol.Embed(request_id=f"{peer.id}-1", texts=["a"] * 257))
        answer = peer.receive()
        assert isinstance(answer, Failed)
        assert "at most 256" in answer.error["message"]
    _wait_until_idle(model)


def test_chats_go_on_beside_a_great_many_texts(writer: Model) -> None:
    for _ in range(2):  # the second time from the cache, as beside the texts
        alone = writer.complete("hello the", temperature=0, max_tokens=40, ignore_eos=True)
    few = MANY[:40]
    expected = writer.embed(few)
    failed: list[BaseException] = []

    def embed_many() -> None:
        try:
            writer.embed(MANY)
        except BaseException as error:  # noqa: BLE001 - looked at below
            failed.append(error)

    worker = threading.Thread(target=embed_many)
    worker.start()
    wait_for(lambda: writer.stats().num_requests >= 4, "the texts are under way")
    beside = writer.complete("hello the", temperature=0, max_tokens=40, ignore_eos=True)
    assert beside.text == alone.text
    vectors = writer.embed(few)  # a few texts do not wait for the many
    assert worker.is_alive()
    writer.unload()
    worker.join()
    assert len(failed) == 1
    assert np.allclose(vectors, expected, atol=5e-3)


def test_an_interrupt_takes_the_texts_back(writer: Model) -> None:
    threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        writer.embed(MANY)
    _wait_until_idle(writer)
    assert writer.embed("hello").shape == (32,)


def test_a_cancelled_task_takes_the_texts_back(writer: Model) -> None:
    async def run() -> np.ndarray:
        task = asyncio.create_task(writer.aembed(MANY))
        await asyncio.sleep(0.5)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await writer.aembed(["hello", "the dog"])

    assert asyncio.run(run()).shape == (2, 32)
    _wait_until_idle(writer)


def test_a_killed_client_takes_its_texts_with_it(writer: Model) -> None:
    code = (
        "import sys, gguf_widgets as gw\n"
        "model = gw.load(sys.argv[1], n_ctx=512)\n"
        "print('loaded', flush=True)\n"
        f"model.embed({MANY[0]!r} for _ in range(6000))\n"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", code, str(writer.path)], stdout=subprocess.PIPE
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"loaded\n"
    wait_for(lambda: writer.stats().num_requests, "its texts are under way")
    client.kill()
    client.wait()
    client.stdout.close()
    _wait_until_idle(writer)
    assert writer.stats().num_clients == 1


def test_a_killed_worker_is_told_and_the_next_call_starts_another(writer: Model) -> None:
    pid = writer.pid
    assert pid is not None
    threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(WorkerDiedError):
        writer.embed(MANY)
    assert writer.embed(["hello"]).shape == (1, 32)
    assert writer.pid != pid


def test_demo_mode_has_no_vectors_and_no_adapters(manager: ModelManager, tmp_path: Path) -> None:
    model = manager.load()
    with pytest.raises(UnsupportedByModelError, match="no vectors"):
        model.embed("hello")
    adapter = write_adapter(tmp_path / "adapter.gguf", adapter_deltas())
    with pytest.raises(InvalidValueError, match="nothing that an adapter"):
        manager.load(lora=adapter)


def test_adapters_are_part_of_what_is_loaded_and_shared(
    llama: ModelManager, tmp_path: Path
) -> None:
    path = write_decoder(tmp_path / "model.gguf")
    adapter = write_adapter(tmp_path / "style.gguf", adapter_deltas(1))
    plain = llama.load(path, n_ctx=512)
    half = llama.load(path, n_ctx=512, lora={adapter: 0.5})
    assert half.settings.lora == ((str(adapter), 0.5),)
    assert 'The adapter "tiny adapter" (LoRA, rank 4' in half.load_notes[0]
    assert "with a scale of 0.5" in half.load_notes[0]
    assert llama.load(path, n_ctx=512, lora=[(str(adapter), 0.5)]) is half
    with ModelManager(keep_alive=0) as another:
        assert another.load(path, n_ctx=512, lora={str(adapter): 0.5}).pid == half.pid
        assert another.load(path, n_ctx=512).pid == plain.pid
        assert another.is_running(path, n_ctx=512, lora={adapter: 0.5})
        assert not another.is_running(path, n_ctx=512, lora=adapter)
    time.sleep(0.02)  # the time of a file's change is told in steps
    write_adapter(adapter, adapter_deltas(2))
    rewritten = llama.load(path, n_ctx=512, lora={adapter: 0.5})
    assert len({plain.pid, half.pid, rewritten.pid}) == 3
    texts = {
        model.complete("hello the world", temperature=0, max_tokens=30).text
        for model in (plain, half, rewritten)
    }
    assert len(texts) == 3
    with pytest.raises(ModelNotFoundError, match=r"no file at .*gone\.gguf"):
        llama.load(path, lora=tmp_path / "gone.gguf")
    with pytest.raises(AdapterFileError, match="is no adapter"):
        llama.load(path, lora=path)
