"""Rows of a table through `model.map`, beside the bare engine that is handed all rows at once.

    python tests/bench/bench_map.py [--rounds 2] [--quick] [--threads 2 | --busy]

`model.map` is the whole way: a DataFrame's rows into the database, a template, requests to the
model's process, every reply kept as it ends, and the result as a DataFrame. The engine is in the
same process as whoever hands it tokens, and keeps nothing. The peers of `bench_batch.py` take part:
llama.cpp's own server with as many slots, and `llama_cpp.Llama` with one row after another. All
have the same model, threads and prompts, and take turns.

Then 100,000 short rows on the scripted backend, which takes no time to speak of: what a row costs
besides the model, and how much the memory grows from the first tenth to the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.contestants import Setup  # noqa: E402 - the path comes first
from bench.harness import Runner, Turns, installed, options, read_options  # noqa: E402
from bench.models import bench_model  # noqa: E402
from bench.results import Finding, Results  # noqa: E402
from bench.rows import RowMaker  # noqa: E402

NUM_OWN, NUM_NEW, SLOTS = 64, 48, 16
GOAL, GOAL_LLAMA = 0.97, 1.7
MOST_GROWN_MB = 64.0
ENGINE, MAP = "the bare engine", "model.map"
PEER, LLAMA = "xllamacpp", "llama_cpp.Llama, one by one"

SHORT_ROWS = """
import json, sys, time
import psutil
import gguf_widgets as gw
from gguf_widgets.batch.processor import BatchProcessor

num_rows = int(sys.argv[1])
model = gw.load("demo")
run = BatchProcessor(model).prepare([f"row {i}" for i in range(num_rows)], "{text}", max_tokens=4)
me, worker = psutil.Process(), psutil.Process(model.pid)
begin, early = time.perf_counter(), None
run.start()
while run.progress.counts.waiting and not run.error:
    time.sleep(0.2)
    if early is None and run.progress.counts.ended > num_rows / 10:
        early = me.memory_info().rss + worker.memory_info().rss
run.wait()
seconds = time.perf_counter() - begin
grown = me.memory_info().rss + worker.memory_info().rss - (early or 0)
print(json.dumps([run.counts.done / seconds, grown / 1e6 if early else 0.0]))
"""


def short_rows(num_rows: int) -> tuple[float, float]:
    """Return rows a second, and MB that both processes grew by after the first tenth."""
    with tempfile.TemporaryDirectory() as home:
        switches = {
            "GGUF_WIDGETS_HOME": home,
            "GGUF_WIDGETS_BACKEND": "scripted",
            "GGUF_WIDGETS_DEMO_PACE": "0",
        }
        done = subprocess.run(
            [sys.executable, "-c", SHORT_ROWS, str(num_rows)],
            env={**os.environ, **switches},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    speed, grown = json.loads(done.stdout.splitlines()[-1])
    return speed, grown


def main() -> int:
    chosen = read_options(options(__doc__, rounds=2))
    conditions = (
        f"{NUM_OWN} prompt + {NUM_NEW} new tokens a row, greedy, {chosen.threads} threads"
        + (", by CPU time" if chosen.busy else "")
    )
    results = Results("map", chosen, conditions)
    num_rows, num_alone, slots = (32, 6, SLOTS) if chosen.quick else (48, 8, SLOTS)
    if chosen.tiny:
        num_rows, num_alone, slots = 4, 1, 2
    model = bench_model("tiny" if chosen.tiny else "smollm2-135m")
    maker = RowMaker(model.path)
    setup = Setup(path=model.path, n_slots=slots, n_row=NUM_OWN + NUM_NEW, n_threads=chosen.threads)
    peer = f"{PEER}, {slots} slots"
    who: list[tuple[str, str, int | None]] = [(ENGINE, "engine", None), (MAP, "map", None)]
    if installed(PEER):
        who.append((peer, PEER, None))
    who.append((LLAMA, "llama", num_alone))
    with contextlib.ExitStack() as stack:
        runners = [
            stack.enter_context(Runner(name, kind, setup, num_rows=some))
            for name, kind, some in who
        ]
        turns = Turns(runners, busy=chosen.busy)
        turns.take(
            chosen.rounds,
            lambda number: maker.work(num_rows, num_own=NUM_OWN, num_new=NUM_NEW, seed=number),
        )
    what = f"{num_rows} rows with nothing shared, {slots} slots"
    for other, goal in ((ENGINE, GOAL), (peer, 1.0), (LLAMA, GOAL_LLAMA)):
        if not turns.has(other):
            missing = f"{PEER} is not installed"
            results.add(Finding(what=what, ours="", peer=PEER, reading=missing, goal=goal))
            continue
        ratio = turns.ratio(MAP, other)
        results.add(
            Finding(
                what=what,
                ours=f"{turns.rows_per_s(MAP):.2f} rows/s",
                peer=f"{other}: {turns.rows_per_s(other):.2f}",
                reading=f"{ratio:.2f} times as fast as {other}",
                ratio=ratio,
                goal=goal,
                strict=goal == 1.0,
            )
        )
    num_short = 200 if chosen.tiny else 10_000 if chosen.quick else 100_000
    speed, grown = short_rows(num_short)
    results.add(
        Finding(
            what=f"{num_short:,} short rows on the scripted backend",
            ours=f"{speed:,.0f} rows/s",
            reading=f"{speed:,.0f} rows/s; memory grew by {max(0.0, grown):.0f} MB after the first "
            "tenth",
            ratio=round(max(0.0, grown), 1),
            goal=MOST_GROWN_MB,
            less_is_better=True,
        )
    )
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
