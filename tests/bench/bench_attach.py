"""What sharing a model costs: the time to join it, and the memory of 1 and of 8 kernels.

    python tests/bench/bench_attach.py [--rounds 30] [--kernels 8] [--quick]

"Load" starts a worker and loads the weights; "join"
finds that worker and shakes hands, in this process. Then real processes, as many as there are
kernels, join the one worker and ask it something. The memory is what the system says that all of
them and the worker use together (PSS, in which a page that several map counts once); beside it
stands what the same kernels use that have only imported the package. The cost of a request is its
whole time less the engine's own, for a reply of one token.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.harness import options, read_options  # noqa: E402 - the path comes first
from bench.models import bench_model  # noqa: E402
from bench.results import Finding, Results  # noqa: E402

GOAL_MS = 100.0
SETTINGS = {"n_ctx": 2048}

# A notebook's kernel as far as this matters: it joins, asks something, and stays.
KERNEL = """
import sys, time
from gguf_widgets.core.manager import ModelManager
manager = ModelManager(keep_alive=0)
print("imported", flush=True)
sys.stdin.readline()
start = time.perf_counter()
model = manager.load(sys.argv[1], n_ctx=int(sys.argv[2]))
print(time.perf_counter() - start, flush=True)
model.chat("Hello", max_tokens=4, temperature=0)
print(model.pid, flush=True)
sys.stdin.readline()
"""


class Kernel:
    """Another process with the model."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", KERNEL, str(path), str(SETTINGS["n_ctx"])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._read() != "imported":
            raise SystemExit("a kernel did not start")

    def join(self) -> float:
        """Load the model; return the seconds it took."""
        self._go_on()
        seconds = float(self._read())
        self.worker = int(self._read())
        return seconds

    def end(self) -> None:
        self._go_on()
        self.process.wait()

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def _go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def memory_of(pid: int) -> int:
    """Bytes of a process: its share of what it maps, where the system tells."""
    info = psutil.Process(pid).memory_full_info()
    return int(getattr(info, "pss", info.uss))


def mappers_of(path: Path, pids: list[int]) -> list[int]:
    """Which of these processes have the file mapped."""
    return [
        pid
        for pid in pids
        if any(Path(part.path) == path for part in psutil.Process(pid).memory_maps())
    ]


def main() -> int:
    parser = options(__doc__, rounds=30)
    parser.add_argument("--kernels", type=int, default=8)
    chosen = read_options(parser)
    if chosen.quick or chosen.tiny:
        chosen.rounds, chosen.kernels = 5, 2
    model = bench_model("tiny" if chosen.tiny else "smollm2-135m")
    results = Results("attach", chosen, model.description)
    with tempfile.TemporaryDirectory() as home:
        os.environ["GGUF_WIDGETS_HOME"] = home
        os.environ["PYTHONPATH"] = str(ROOT)
        measure_time(Path(model.path), chosen.rounds, results)
        measure_memory(Path(model.path), max(2, chosen.kernels), results)
    return results.finish()


def measure_time(path: Path, rounds: int, results: Results) -> None:
    """Measure how long loading, joining and asking take."""
    from gguf_widgets.core.manager import ModelManager

    def load_and_unload() -> None:
        with ModelManager(keep_alive=0) as manager:
            loads.append(seconds(lambda: manager.load(path, **SETTINGS)))
            manager.loaded()[0].unload()

    def join() -> None:
        with ModelManager(keep_alive=0) as manager:
            joins.append(seconds(lambda: manager.load(path, **SETTINGS)))

    loads: list[float] = []
    joins: list[float] = []
    for _ in range(max(3, rounds // 5)):
        load_and_unload()
    with ModelManager(keep_alive=0) as manager:
        model = manager.load(path, **SETTINGS)
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
    print(f"{path.name}, {backend}, median of {len(loads)} loads and {rounds} of everything else")
    print(f"  load the model (start a worker)        {load * 1e3:8.1f} ms")
    print(f"  join the loaded model                  {joined * 1e3:8.1f} ms")
    print(f"  load / join                            {load / joined:8.1f} x")
    print(f"  a chat beyond the engine's own time    {statistics.median(costs) * 1e3:8.2f} ms")
    print(f"  tokenize, there and back               {statistics.median(trips) * 1e3:8.2f} ms")
    results.add(
        Finding(
            what="joining a loaded model",
            ours=f"{joined * 1e3:.1f} ms",
            peer=f"loading it {load * 1e3:.0f} ms",
            reading=f"{joined * 1e3:.1f} ms",
            ratio=joined * 1e3,
            goal=GOAL_MS,
            less_is_better=True,
        )
    )
    cost = statistics.median(costs) * 1e3
    results.add(
        Finding(
            what="a chat, beyond the engine's own time",
            ours=f"{cost:.2f} ms",
            reading=f"{cost:.2f} ms",
        )
    )


def measure_memory(path: Path, num_kernels: int, results: Results) -> None:
    """Measure the memory of 1 and of many kernels, and the time in which they join."""
    kernels = [Kernel(path) for _ in range(num_kernels)]
    pids = [kernel.process.pid for kernel in kernels]
    bare = {1: memory_of(pids[0]), num_kernels: sum(map(memory_of, pids))}
    kernels[0].join()
    worker = kernels[0].worker
    one = memory_of(pids[0]) + memory_of(worker)
    worker_with_one = memory_of(worker)
    joins = [kernel.join() for kernel in kernels[1:]]
    workers = {kernel.worker for kernel in kernels}
    if workers != {worker}:
        raise SystemExit(f"the kernels did not share one worker: {workers}")
    everybody = sum(map(memory_of, [*pids, worker]))
    mappers = mappers_of(path, [*pids, worker])
    size = path.stat().st_size
    # Where a process's share of common pages moves by some megabytes, a tiny model shows nothing.
    heavy = [pid for pid in pids if memory_of(pid) - bare[1] > max(size / 2, 20e6)]
    leaving = psutil.Process(worker)
    for kernel in kernels:
        kernel.end()
    leaving.wait(timeout=60)  # it tidies up in the folder that is removed after this

    mb = 1e6
    print(
        f"memory of all processes together (PSS), {num_kernels} kernels and the worker they share"
    )
    print(f"  the file of the model                  {size / mb:8.1f} MB")
    print(f"  the worker, with 1 kernel              {worker_with_one / mb:8.1f} MB")
    print(f"  1 kernel and the worker                {one / mb:8.1f} MB")
    print(f"  {num_kernels} kernels and the worker               {everybody / mb:8.1f} MB")
    print(f"  {num_kernels} kernels / 1 kernel                   {everybody / one:8.2f} x")
    print(f"  {num_kernels} kernels without the model            {bare[num_kernels] / mb:8.1f} MB")
    added = (everybody - bare[num_kernels] - (one - bare[1])) / (num_kernels - 1)
    print(f"  what a model costs each further kernel {added / mb:8.2f} MB")
    once = mappers == [worker] and not heavy
    print(
        f"  the weights are mapped by {len(mappers)} of {num_kernels + 1} processes: "
        + ("they exist once" if once else f"MORE THAN ONCE, see {mappers} {heavy}")
    )
    joined = statistics.median(joins)
    print(f"  a kernel joins in, median of {len(joins):<3}       {joined * 1e3:8.1f} ms")
    results.add(
        Finding(
            what="another kernel joins",
            ours=f"{joined * 1e3:.1f} ms",
            reading=f"{joined * 1e3:.1f} ms",
            ratio=joined * 1e3,
            goal=GOAL_MS,
            less_is_better=True,
        )
    )
    results.add(
        Finding(
            what=f"memory of {num_kernels} kernels with one model beside that of 1",
            ours=f"{everybody / mb:.0f} MB",
            peer=f"1 kernel {one / mb:.0f} MB",
            reading=f"{added / mb:.1f} MB for each further kernel; "
            + ("the weights exist once" if once else "THE WEIGHTS EXIST MORE THAN ONCE"),
            ratio=float(len(mappers) + len(heavy)),
            goal=1.0,
            less_is_better=True,
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
