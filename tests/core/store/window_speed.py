"""How quick a window onto 100,000 rows is, and how much memory it takes; a script, not a test.

    python tests/core/store/window_speed.py [--rows 100000]

Each query is made three times with nothing kept from the one before and nothing made beforehand;
the middle time is printed, of the processor and by the clock.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter, thread_time

sys.path.insert(0, str(Path(__file__).parents[3]))

import psutil

from gguf_widgets.core.store import batch_window_kept
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, TaskStatus
from gguf_widgets.core.store.batch_window import BatchWindow, WindowQuery
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import FinishReason, Timings, Usage

WORDS = ["lamp", "chair", "great", "broke", "table", "café", "naïve", "price", "love", "fine"]
COLUMNS = [
    {"name": "review", "dtype": "str"},
    {"name": "stars", "dtype": "int64"},
    {"name": "price", "dtype": "float64"},
    {"name": "who", "dtype": "str"},
    {"name": None, "dtype": "int64", "index": True},
]
QUERIES = [
    WindowQuery(),
    *(WindowQuery(status=status) for status in ("done", "failed", "waiting")),
    *(
        WindowQuery(sort=sort, descending=descending)
        for sort in ("certainty", "total_s", "num_completion_tokens")
        for descending in (False, True)
    ),
    *(WindowQuery(sort=sort) for sort in ("label", "score", "why", "stars", "price", "review")),
    *(
        WindowQuery(words=words)
        for words in ("lamp", "zzzz", "label", "e", "null", "CAFÉ", "4711", "lamp chair fine")
    ),
    WindowQuery(where={"label": "good"}),
    WindowQuery(where={"stars": 3}),
    WindowQuery(status="failed", words="chair", sort="certainty"),
    WindowQuery(status="done", where={"label": "good"}, sort="certainty"),
]


def fill(store: Store, num_rows: int) -> str:
    """Put a run into the store of which 95% have ended, and return its id."""
    rng = random.Random(1)  # noqa: S311 - it keeps no secret

    def text(num: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(num))

    run = BatchRuns(store).create({"prompts": [{"name": ""}]}, COLUMNS)
    tasks = RunTasks(store, run.id)
    tasks.add_rows(
        json.dumps(
            [text(25), i % 6, rng.random() * 100, f"customer {rng.randrange(5000)}", i],
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for i in range(num_rows)
    )
    ended = []
    for number in range(int(num_rows * 0.95)):
        values = {"label": rng.choice(["good", "bad"]), "score": rng.randrange(99), "why": text(8)}
        sure = rng.random()
        ended.append(
            (
                Outcome(
                    number=number,
                    status=TaskStatus.DONE if sure < 0.98 else TaskStatus.FAILED,
                    text=json.dumps(values, ensure_ascii=False),
                    values=values,
                    finish_reason=FinishReason.STOP,
                    usage=Usage(
                        num_prompt_tokens=70,
                        num_cached_tokens=30,
                        num_completion_tokens=rng.randrange(40),
                    ),
                    timings=Timings(
                        queue_s=0.1, prefill_s=0.1, decode_s=0.1, ttft_s=0.2, total_s=rng.random()
                    ),
                    seed=rng.randrange(2**32),
                    probabilities={"good": sure, "bad": 1 - sure},
                    certainty=sure,
                ),
                f"{number:032x}",
            )
        )
        if len(ended) == 1000:
            tasks.save(ended)
            ended = []
    tasks.save(ended)
    return run.id


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    num_rows = parser.parse_args().rows
    process = psutil.Process()
    batch_window_kept._FEWEST = num_rows + 1  # a person meets the orders that are made beforehand
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.sqlite3") as store:
        run_id = fill(store, num_rows)
        before = process.memory_info().rss
        say("processor  clock    page   rows  query")
        for query in QUERIES:
            times, clocks, pages = [], [], []
            for _ in range(3):
                window = BatchWindow(store, run_id)
                busy, start = thread_time(), perf_counter()
                found = window.select(query)
                times.append(thread_time() - busy)
                clocks.append(perf_counter() - start)
                start = perf_counter()
                window.page(found, found.num_rows // 2, found.num_rows // 2 + 60)
                pages.append(perf_counter() - start)
            shown = ", ".join(
                f"{name}={getattr(query, name)!r}"
                for name in query.__struct_fields__
                if getattr(query, name) not in (None, "", {}, False, "row")
            )
            select, page = statistics.median(times) * 1e3, statistics.median(pages) * 1e3
            clock = statistics.median(clocks) * 1e3
            say(f"{select:6.0f} ms {clock:4.0f} ms {page:4.1f} ms {found.num_rows:7,}  {shown}")
        grown = (process.memory_info().rss - before) / 2**20
        say(f"memory: {grown:.0f} MiB more than before the first query")


if __name__ == "__main__":
    main()
