"""How long a second kernel takes to join a loaded model, beside loading it; the cost of a request.

    python tests/bench/bench_attach.py [--rounds 30]

Both are measured in this one process with the demo model: "load" starts a worker and loads the
weights, "join" finds that worker and shakes hands. The cost of a request is its whole time less the
engine's own, on a prompt of one message with a reply of one token.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

GOAL_S = 0.1


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as home:
        os.environ["GGUF_WIDGETS_HOME"] = home
        return measure(rounds)


def measure(rounds: int) -> int:
    from gguf_widgets.core.manager import ModelManager

    def load_and_unload() -> None:
        with ModelManager(keep_alive=0) as manager:
            loads.append(seconds(manager.load))
            manager.loaded()[0].unload()

    def join() -> None:
        with ModelManager(keep_alive=0) as manager:
            joins.append(seconds(manager.load))

    loads: list[float] = []
    joins: list[float] = []
    for _ in range(max(3, rounds // 5)):
        load_and_unload()
    with ModelManager(keep_alive=0) as manager:
        model = manager.load()
        for _ in range(rounds):
            join()
        model.chat("Hello", max_tokens=1, temperature=0)
        costs, trips = [], []
        for _ in range(rounds):
            start = time.perf_counter()
            reply = model.chat("Hello", max_tokens=1, temperature=0)
            costs.append(time.perf_counter() - start - reply.timings.total_s)
            trips.append(seconds(lambda: model.tokenize("Hello")))
        backend = model.info.backend
        model.unload()

    load, joined = statistics.median(loads), statistics.median(joins)
    print(f"backend {backend}, median of {len(loads)} loads and {rounds} of everything else")
    print(f"  load the model (start a worker)        {load * 1e3:8.1f} ms")
    print(f"  join the loaded model                  {joined * 1e3:8.1f} ms")
    print(f"  load / join                            {load / joined:8.1f} x")
    print(f"  a chat beyond the engine's own time    {statistics.median(costs) * 1e3:8.2f} ms")
    print(f"  tokenize, there and back               {statistics.median(trips) * 1e3:8.2f} ms")
    verdict = "reached" if joined <= GOAL_S else "MISSED"
    print(f"  goal: join in {GOAL_S * 1e3:.0f} ms or less: {verdict}")
    return 0 if joined <= GOAL_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
