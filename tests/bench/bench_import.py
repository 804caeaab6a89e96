"""How long `import gguf_widgets` takes, in fresh interpreters, beside `import ipywidgets`.

    python tests/bench/bench_import.py [--rounds 15]

The named peer is ipywidgets, which every widget package has to import at some time. Each round
starts each of the programs once, in turn, so that whatever else the machine does meets all alike;
the table gives medians of whole processes, and the cost of an import is its process less the bare
Python.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.harness import options, read_options  # noqa: E402 - the path comes first
from bench.results import Finding, Results  # noqa: E402

PROGRAMS = {
    "bare Python": "pass",
    "import gguf_widgets": "import gguf_widgets",
    "... and gw.load (nothing loaded yet)": "import gguf_widgets as gw; gw.load",
    "... and gw.ChatBox": "import gguf_widgets as gw; gw.ChatBox",
    "import ipywidgets": "import ipywidgets",
}
GOAL_S = 0.3


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    return time.perf_counter() - start


def main() -> int:
    chosen = read_options(options(__doc__, rounds=15))
    results, rounds = Results("import", chosen), chosen.rounds
    if chosen.tiny:
        del PROGRAMS["... and gw.load (nothing loaded yet)"], PROGRAMS["... and gw.ChatBox"]

    for code in PROGRAMS.values():  # once unmeasured, so that files are in memory and compiled
        seconds(code)
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(rounds):
        for name, code in PROGRAMS.items():
            times[name].append(seconds(code))

    medians = {name: statistics.median(values) for name, values in times.items()}
    bare = medians["bare Python"]
    print(f"{'':38} {'process':>9} {'of it import':>13}   (medians of {rounds})")
    for name, median in medians.items():
        print(f"{name:38} {median * 1000:6.0f} ms {(median - bare) * 1000:10.1f} ms")

    ours = max(medians["import gguf_widgets"] - bare, 0.0001)
    peer = medians["import ipywidgets"] - bare
    results.add(
        Finding(
            what="`import gguf_widgets`, beyond Python's own start",
            ours=f"{ours * 1000:.0f} ms",
            peer=f"`import ipywidgets` {peer * 1000:.0f} ms",
            reading=f"the peer takes {peer / ours:.0f} times as long",
            ratio=ours * 1000,
            goal=GOAL_S * 1000,
            less_is_better=True,
        )
    )
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
