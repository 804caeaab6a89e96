"""The README's section "Speed", made from what the benchmarks have measured.

    python tests/bench/report.py [--write] [--results FOLDER]

Prints the section; with ``--write`` it takes the place of the one in the README. Promises: every
figure comes from a file that a benchmark wrote, with the machine it was measured on; a goal that
was missed is there like any other; where a benchmark is missing, or was not measured in full, or
the files come from different machines, it says so and writes nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.results import QUIET, RESULTS, Finding, Machine, Saved  # noqa: E402 - the path comes first

__all__ = ["section"]

# In this order: each file of results, and what its table is about.
TITLES = {
    "batch": "Rows of a table, beside llama.cpp's server and `llama_cpp.Llama`",
    "map": "A table through `model.map`, beside the bare engine and the peers",
    "table": "Looking through 100,000 rows in a page, beside 100 rows",
    "growth": "The same rows with more sequences side by side, and with a common beginning",
    "json": "Replies that follow a JSON schema",
    "stream": "One stream",
    "bench": "What `gguf_widgets.bench` measures, beside llama-bench's loop of bare `llama_decode`",
    "lookup": "One stream with prompt lookup",
    "strict": "Strict mode (`reproducible=True`)",
    "scores": "Scoring a text, and noting when tokens come",
    "attach": "One model for several notebooks",
    "monitor": "What recording speeds and use costs",
    "charts": "Charts of what happens, beside Plotly's `FigureWidget`",
    "header": "Finding models",
    "upload": "Bringing models over HTTP",
    "upload_page": "The same from a page in a browser, over HTTP and over comms",
    "page": "A page in a browser: ready, and the first words of an answer",
    "import": "Starting",
}

INTRO = """\
`make bench` measures all of this on your machine in 15 to 25 minutes. Each figure stands beside
a named peer's from the same run: they take turns with the same model, threads, prompts and number
of tokens, and a ratio compares what ran next to each other. The models are made by the benchmarks,
in the shape of SmolLM2-135M and of Qwen2.5-0.5B, with random weights: speed depends on the shape
and not on what a model says. One benchmark alone: `.venv/bin/python tests/bench/bench_batch.py`
(`--quick` for a rough look, `--help` for more). `.venv/bin/python tests/bench/report.py --write`
makes this section from what was measured last.
"""

NOTES = """\
All are set up as they do best on such a table; `tests/bench/contestants.py` says how. xllamacpp is
llama.cpp's own server in a wheel; it and our engine have a KV cache for each slot
(`kv_unified=False`), and one row tells what ours does with one cache for all, as it is loaded where
nobody asks for anything. `llama_cpp.Llama` runs one row after another.
"""

# Only where it is so; the figures are in the tables.
WHY_MISSED = """\
Why goals of the first table were missed: nearly all of the engine's time is inside `llama_decode`,
which is the peer's code as well. The peer's slots keep what their own last row began with, so each
computes a common beginning once, and not once for every row: there is less to gain than the goal
says. And each has llama.cpp as it comes, compiled here for this processor and there for many: which
of the two is quicker with a few tokens at once, and which with many, differs between processors.
"""


class ReportError(Exception):
    """The section cannot be made; the message says why."""


def section(files: dict[str, Saved]) -> str:
    """Return the README's section for these files of results.

    Parameters
    ----------
    files : dict of str to Saved
        By name, those of `TITLES`.

    Raises
    ------
    ReportError
        If one is missing or says nothing about speed, or they do not belong together.
    """
    missing = [name for name in TITLES if name not in files]
    if missing:
        names = ", ".join(f"bench_{name}.py" for name in missing)
        raise ReportError(f"There are no results of {names}. Run them, or `make bench`.")
    partly = [f"{name} ({files[name].mode})" for name in TITLES if files[name].mode != "full"]
    if partly:
        raise ReportError(f"Not measured in full: {', '.join(partly)}. Run `make bench`.")
    machines = {_place(files[name].machine) for name in TITLES}
    if len(machines) > 1:
        raise ReportError(f"These come from different machines: {'; '.join(sorted(machines))}.")
    parts = ["## Speed", INTRO + "\n" + _machine(files)]
    for name, title in TITLES.items():
        saved = files[name]
        shown = [finding for finding in saved.findings if finding.in_readme]
        conditions = f" ({saved.conditions})" if saved.conditions else ""
        parts.append(f"**{title}**{conditions}\n\n{_table(shown)}")
    parts.append(NOTES)
    if any("MISSED" in finding.verdict for finding in files["batch"].findings):
        parts.append(WHY_MISSED)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _table(findings: list[Finding]) -> str:
    lines = ["| | ours | beside | | goal |", "|---|---|---|---|---|"]
    for one in findings:
        reading = "" if one.reading == one.ours else one.reading
        goal = one.verdict.removeprefix("goal ").replace("MISSED", "**missed**")
        cells = (one.what, one.ours, one.peer, reading, goal)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _machine(files: dict[str, Saved]) -> str:
    saved = files["batch"]
    machine = saved.machine
    versions = ", ".join(
        f"{name} {version}"
        for name, version in machine.versions.items()
        if name in ("llama-cpp-python", "xllamacpp")
    )
    text = f"Here, on {_place(machine)}, with {versions}, on {saved.when[:10]}"
    busiest = max(one.machine.busy_cores for one in files.values())
    if busiest > QUIET:
        text += f", while other programs kept up to {busiest:g} cores busy"
    return f"{text}:"


def _place(machine: Machine) -> str:
    return (
        f"{machine.processor}, {machine.num_cores} cores, {machine.memory_gb:.0f} GB,"
        f" {machine.system.split('-')[0]}, Python {machine.python}"
    )


def replaced(readme: str, text: str) -> str:
    """Return the README with its section "Speed" replaced."""
    pattern = re.compile(r"^## Speed\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
    written, count = pattern.subn(lambda _: text + "\n", readme)
    if count != 1:
        raise ReportError('The README has no section "## Speed", or several.')
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put it into the README")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    chosen = parser.parse_args()
    decode = msgspec.json.Decoder(Saved).decode
    try:
        files = {path.stem: decode(path.read_bytes()) for path in chosen.results.glob("*.json")}
        text = section(files)
        if chosen.write:
            readme = ROOT / "README.md"
            readme.write_text(replaced(readme.read_text("utf-8"), text), "utf-8")
    except ReportError as error:
        print(error, file=sys.stderr)
        return 1
    if not chosen.write:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
