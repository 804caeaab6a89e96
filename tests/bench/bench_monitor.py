"""What recording costs: a batch's rows with a `PerformanceMonitor` beside it, and without.

    python tests/bench/bench_monitor.py [--rounds 6] [--quick] [--threads 2 | --busy]

The same model computes tables of rows in turns: one with a monitor that looks at the machine every
second, keeps everything in the store and has a listener, the next without. A ratio compares two
that ran next to each other; which of them is first changes. What the monitor's own thread used of a
processor core is told beside it, while rows are computed and while nothing happens; so is what one
request costs the program that makes it, from the first message to the store.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.harness import options, read_options  # noqa: E402 - the path comes first
from bench.models import bench_model  # noqa: E402
from bench.results import Finding, Results  # noqa: E402
from bench.rows import RowMaker  # noqa: E402

NUM_OWN, NUM_NEW, SLOTS = 64, 48, 16
GOAL_RATIO, GOAL_PERCENT = 0.99, 1.0
IDLE_S = 20.0


class Side:
    """One of the two, and what came of its turns: rows a second of the clock, or of CPU time."""

    def __init__(self, model: Any, *, watched: bool, busy: bool) -> None:
        self._model, self._watched, self._busy = model, watched, busy
        self.speeds: list[float] = []
        self.percents: list[float] = []

    def take(self, texts: list[str]) -> None:
        from gguf_widgets.core.monitor.monitor import PerformanceMonitor

        monitor = PerformanceMonitor() if self._watched else None
        heard: list[object] = []
        if monitor is not None:
            monitor.subscribe(heard.append)
        began, used = time.perf_counter(), self._cpu_s()
        run = self._model.map({"text": texts}, "{text}", max_tokens=NUM_NEW, progress=False)
        seconds, cpu_s = time.perf_counter() - began, self._cpu_s() - used
        if monitor is not None:
            self.percents.append(monitor.cost_percent)
            monitor.close()
            assert len(monitor.request_metrics()) == len(texts)
        assert run.counts.done == len(texts)
        self.speeds.append(len(texts) / (cpu_s if self._busy else seconds))

    def _cpu_s(self) -> float:
        own, worker = psutil.Process().cpu_times(), psutil.Process(self._model.pid).cpu_times()
        return float(own.user + own.system + worker.user + worker.system)


def measure_rows(chosen: Any, results: Results) -> None:
    import gguf_widgets as gw

    num_rows, slots = (48, SLOTS) if not chosen.quick else (32, SLOTS)
    if chosen.tiny:
        num_rows, slots = 4, 2
    found = bench_model("tiny" if chosen.tiny else "smollm2-135m")
    maker = RowMaker(found.path)

    def texts(seed: int) -> list[str]:
        return maker.work(num_rows, num_own=NUM_OWN, num_new=NUM_NEW, seed=seed).texts

    settings = {
        "n_ctx": slots * (NUM_OWN + NUM_NEW + 16),
        "n_seq_max": slots,
        "n_threads": chosen.threads,
    }
    with gw.load(found.path, **settings) as model:
        model.use_chat_template("{{ messages[0].content }}")
        without = Side(model, watched=False, busy=chosen.busy)
        watched = Side(model, watched=True, busy=chosen.busy)
        without.take(texts(-1)[: num_rows // 2])  # unmeasured: everything is in its place then
        without.speeds.clear()
        for number in range(chosen.rounds):
            sides = [without, watched] if number % 2 else [watched, without]
            for place, side in enumerate(sides):
                # Never the same rows: the second would find their beginnings computed.
                side.take(texts(2 * number + place))
            print(f"  {without.speeds[-1]:.2f} without, {watched.speeds[-1]:.2f} with", flush=True)
    pairs = zip(watched.speeds, without.speeds, strict=True)
    ratios = sorted(on / off for on, off in pairs)
    ratio = statistics.median(ratios)
    spread = f", {ratios[0]:.3f} to {ratios[-1]:.3f} in {len(ratios)} pairs"
    results.add(
        Finding(
            what=f"{num_rows} rows, {slots} slots, with a monitor beside them",
            ours=f"{statistics.median(watched.speeds):.2f} rows/s",
            peer=f"without: {statistics.median(without.speeds):.2f}",
            reading=f"{ratio:.3f} of the speed without{spread}",
            ratio=round(ratio, 4),
            goal=GOAL_RATIO,
        )
    )
    percent = statistics.median(watched.percents)
    results.add(
        Finding(
            what="the monitor's thread while rows are computed",
            ours=f"{percent:.2f}% of a core",
            reading=f"{percent:.2f}% of a core",
            ratio=round(percent, 3),
            goal=GOAL_PERCENT,
            less_is_better=True,
        )
    )


def measure_idle(chosen: Any, results: Results) -> None:
    import gguf_widgets as gw

    with gw.load("demo"), gw.PerformanceMonitor() as monitor:
        time.sleep(1.0 if chosen.tiny else IDLE_S)
        percent = monitor.cost_percent
    results.add(
        Finding(
            what="the monitor's thread while a loaded model waits",
            ours=f"{percent:.2f}% of a core",
            reading=f"{percent:.2f}% of a core",
            ratio=round(percent, 3),
            goal=GOAL_PERCENT,
            less_is_better=True,
        )
    )


def measure_request(chosen: Any, results: Results) -> None:
    """Have a monitor hear of requests that take no time at all."""
    from gguf_widgets.core import request_events
    from gguf_widgets.core.monitor.monitor import PerformanceMonitor
    from gguf_widgets.core.types import (
        Finished,
        FinishReason,
        Priority,
        Reply,
        SamplingSettings,
        Timings,
        Usage,
    )
    from gguf_widgets.core.worker.prompt import Prompt

    num = 100 if chosen.tiny else 20_000
    model: Any = SimpleNamespace(name="m", settings=SimpleNamespace(n_ctx=4096))
    client: Any = SimpleNamespace(pid=1, abort=lambda _request_id: None)
    sink: Any = SimpleNamespace(deliver=lambda _message: None)
    timings = Timings(queue_s=0.1, prefill_s=0.1, decode_s=0.1, ttft_s=0.2, total_s=0.3)
    reply = Reply(
        text="",
        finish_reason=FinishReason.STOP,
        usage=Usage(num_prompt_tokens=64, num_completion_tokens=48),
        timings=timings,
        seed=1,
    )

    def requests() -> float:
        used = time.process_time()
        for number in range(num):
            with request_events.watched(
                model, Prompt(text="x"), SamplingSettings(), Priority.BATCH
            ) as tap:
                name = f"c1-{number}"
                if tap is not None:
                    tap.before(sink, client)
                    tap.sent(name)
                    tap.deliver(Finished(request_id=name, reply=reply))
        return time.process_time() - used

    alone = requests()
    with PerformanceMonitor(system=False) as monitor:
        used = time.process_time()
        requests()
        assert len(monitor.request_metrics()) > 0
        told = time.process_time() - used
    results.add(
        Finding(
            what="one request, from its beginning to the store",
            ours=f"{told / num * 1e6:.0f} µs with a monitor",
            peer=f"with nobody listening: {alone / num * 1e6:.1f} µs",
            reading=f"{told / num * 1e6:.0f} µs, and {alone / num * 1e6:.1f} where nobody listens",
        )
    )


def main() -> int:
    chosen = read_options(options(__doc__, rounds=6))
    conditions = (
        f"{NUM_OWN} prompt + {NUM_NEW} new tokens a row, greedy, {chosen.threads} threads"
        + (", by CPU time" if chosen.busy else "")
    )
    results = Results("monitor", chosen, conditions)
    with tempfile.TemporaryDirectory() as home:
        os.environ["GGUF_WIDGETS_HOME"] = home
        measure_rows(chosen, results)
        measure_idle(chosen, results)
        measure_request(chosen, results)
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
