"""How far a download is, in words, and how often it is said."""

from __future__ import annotations

import threading

import pytest

from gguf_widgets.core.download.progress import Job, Progress
from gguf_widgets.core.errors import DownloadError


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress("asking"), "Asking what is there"),
        (Progress("waiting", "x.gguf"), "Waiting for x.gguf"),
        (Progress("judging", "x.gguf"), "Checking x.gguf"),
        (Progress("checking", "x.gguf"), "x.gguf: checking what is there already"),
        (Progress("fetching", "x.gguf", 1, 1, 1200), "x.gguf: 1.2 KB"),
        (
            Progress("fetching", "x.gguf", 2, 3, 1_200_000_000, 4_800_000_000, 24e6, 150),
            "x.gguf (file 2 of 3): 1.2 GB of 4.8 GB, 24 MB/s, about 2 min 30 s left",
        ),
        (Progress("done", "x.gguf", 1, 1, 12, 12), "x.gguf: 12 bytes of 12 bytes"),
        (Progress("fetching", "a\u202eb\n"), "a b : 0 bytes"),
    ],
)
def test_it_says_what_a_person_wants_to_know(progress: Progress, text: str) -> None:
    assert str(progress) == text


def test_a_fraction_is_always_one() -> None:
    assert Progress("fetching", received_bytes=5).fraction == 0
    assert Progress("fetching", received_bytes=5, total_bytes=10).fraction == 0.5
    assert Progress("fetching", received_bytes=50, total_bytes=10).fraction == 1
    assert Progress("done", received_bytes=5).fraction == 1


def test_it_is_not_said_for_each_byte_but_at_each_turn_and_at_the_end() -> None:
    steps: list[Progress] = []
    job = Job(on_progress=steps.append)
    job.turn("fetching", file="x.gguf", total_bytes=100_000)
    for received in range(100_001):
        job.at(received)
    assert 2 <= len(steps) < 100  # of a hundred thousand
    assert steps[-1].received_bytes == 100_000
    job.turn("judging")
    assert (steps[-1].phase, steps[-1].received_bytes) == ("judging", 100_000)


def test_speed_and_time_left_are_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    steps: list[Progress] = []
    job = Job(on_progress=steps.append)
    job.turn("fetching", total_bytes=1000)
    for second in range(1, 41):  # 10 bytes a second at first, then 20
        now[0] += 1
        job.at(10 * second if second <= 20 else 200 + 20 * (second - 20))
    assert steps[1].bytes_per_s == pytest.approx(10)
    assert steps[-1].bytes_per_s == pytest.approx(20)
    assert steps[-1].seconds_left == pytest.approx(400 / 20)


@pytest.mark.parametrize("how", ["event", "function", "answer"])
def test_each_way_of_stopping_is_noticed_by_each_wait(how: str) -> None:
    event = threading.Event()
    event.set()
    jobs = {
        "event": Job(cancel=event),
        "function": Job(cancel=lambda: True),
        "answer": Job(on_progress=lambda _: False),
    }
    job = jobs[how]
    job.turn("fetching")
    assert job.cancelled
    for wait in (job.check, lambda: job.at(1), lambda: job.sleep(600)):
        with pytest.raises(DownloadError, match="What had arrived is kept"):
            wait()
