"""Everything at once: threads that talk, stop, forget, unload and kill, in a random order."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
import traceback
from contextlib import suppress

import pytest

from gguf_widgets.core.errors import ModelUnloadedError, WorkerError
from gguf_widgets.core.manager import ModelManager

NUM_THREADS = 6
SECONDS = 6.0
STORY = "Tell me a story"


def _kill(manager: ModelManager, chance: random.Random) -> None:
    for model in manager.loaded():
        if model.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(model.pid, chance.choice([signal.SIGKILL, signal.SIGTERM]))
            return


def _do_something(manager: ModelManager, chance: random.Random) -> None:
    model = manager.load(n_ctx=chance.choice([None, None, 2048]))
    what = chance.choices(
        ["chat", "stop", "forget", "count", "stats", "unload", "kill", "close"],
        [25, 25, 10, 15, 5, 5, 4, 3],
    )[0]
    if what == "chat":
        reply = model.chat(STORY, max_tokens=chance.randint(1, 300))
        assert reply.text
    elif what == "stop":
        stream = model.stream(STORY)
        for number, _ in enumerate(stream):
            if number == 3:
                stream.stop()
        assert stream.text == stream.reply.text
    elif what == "forget":
        stream = model.stream(STORY)
        next(stream)
        del stream
        gc.collect()
    elif what == "count":
        assert model.count_tokens("abc") == 3
    elif what == "stats":
        assert model.stats().num_clients >= 1
    elif what == "unload":
        model.unload()
    elif what == "kill":
        _kill(manager, chance)
    else:
        manager.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_every_call_ends_and_nothing_is_left(
    no_leaks: None, scripted: None, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "3000")
    managers = [ModelManager(keep_alive=0.2) for _ in range(2)]
    unexpected: list[str] = []
    counts = [0] * NUM_THREADS
    deadline = time.monotonic() + SECONDS

    def work(number: int) -> None:
        chance = random.Random(f"{seed}-{number}")  # noqa: S311 - dice, not secrets
        while time.monotonic() < deadline:
            try:
                _do_something(chance.choice(managers), chance)
                counts[number] += 1
            except (WorkerError, ModelUnloadedError):
                continue  # somebody else's kill, unload or close, told as what it is
            except BaseException:  # noqa: BLE001 - the test fails with it
                unexpected.append(traceback.format_exc())
                return

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 45)
    assert not [thread for thread in threads if thread.is_alive()], "a call never ended"
    for manager in managers:
        manager.close()
    assert not unexpected, unexpected[0]
    assert any(counts)
