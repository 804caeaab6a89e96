"""What a benchmark found: said on the screen, judged against its goal, and kept for the README.

Promises: each finding is one line with our figure, the peer's and their ratio; a goal that was
missed, or could not be judged, makes the exit status 1; the figures, the machine and the versions
are in ``tests/bench/cache/results/NAME.json``, from which `report.py` makes the README's table.
Leaves to others: measuring.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

__all__ = ["QUIET", "RESULTS", "Finding", "Machine", "Results", "Saved", "this_machine"]

RESULTS = Path(__file__).with_name("cache") / "results"

# Cores that may be busy with other things before figures are called rough.
QUIET = 0.3

PACKAGES = ("llama-cpp-python", "xllamacpp", "ipywidgets", "gguf", "numpy")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured; `busy_cores` by other programs, just before it began."""

    processor: str
    num_cores: int
    memory_gb: float
    system: str
    python: str
    versions: dict[str, str]
    busy_cores: float


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a table.

    Attributes
    ----------
    what : str
    ours, peer : str
        The figures with their units; `peer` begins with who it is.
    reading : str
        What the ratio says ("1.44 times as fast").
    ratio, goal : float or None
        A goal without a ratio could not be judged.
    less_is_better : bool
    strict : bool
        The goal itself is not enough ("ahead").
    in_readme : bool
        Whether it belongs into the README's table.
    """

    what: str
    ours: str
    peer: str = ""
    reading: str = ""
    ratio: float | None = None
    goal: float | None = None
    less_is_better: bool = False
    strict: bool = False
    in_readme: bool = True

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None if there is none."""
        if self.goal is None:
            return None
        if self.ratio is None:
            return False
        if self.strict and self.ratio == self.goal:
            return False
        return self.ratio <= self.goal if self.less_is_better else self.ratio >= self.goal

    @property
    def verdict(self) -> str:
        """The goal in words, and whether it was reached; "" if there is none."""
        if self.goal is None:
            return ""
        if self.less_is_better:
            words = f"{'less than' if self.strict else 'at most'} {self.goal:g}"
        else:
            words = f"{'more than' if self.strict else 'at least'} {self.goal:g}"
        if self.ratio is None:
            return f"goal {words}: NOT MEASURED"
        return f"goal {words}: {'reached' if self.reached else 'MISSED'}"


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A file of results; `mode` is "full" or the option that made less of it."""

    name: str
    when: str
    machine: Machine
    mode: str
    conditions: str
    findings: list[Finding]


class Results:
    """The findings of one benchmark.

    Parameters
    ----------
    name : str
        Of the file.
    options : argparse.Namespace
        As `harness.options` reads them.
    conditions : str, default ""
        What was measured, in half a sentence.
    """

    def __init__(self, name: str, options: argparse.Namespace, conditions: str = "") -> None:
        self._name = name
        self._folder: Path = options.results
        modes = ("tiny", "busy", "quick")
        self._mode = next((mode for mode in modes if getattr(options, mode)), "full")
        self._judged = self._mode != "tiny"  # such a model says nothing about speed
        self._conditions = conditions
        self._machine = this_machine()
        self._findings: list[Finding] = []
        print(_describe(self._machine))
        if conditions:
            print(conditions)

    def add(self, finding: Finding) -> None:
        """Print a finding and keep it."""
        self._findings.append(finding)
        parts = [finding.reading, finding.verdict if self._judged else ""]
        print(f"  = {finding.what}: {'; '.join(filter(None, parts))}", flush=True)

    def finish(self) -> int:
        """Write the file; return the exit status."""
        self._folder.mkdir(parents=True, exist_ok=True)
        saved = Saved(
            name=self._name,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=self._machine,
            mode=self._mode,
            conditions=self._conditions,
            findings=self._findings,
        )
        (self._folder / f"{self._name}.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(saved), indent=1)
        )
        missed = [one for one in self._findings if one.reached is False]
        if not self._judged:
            print("a tiny model says nothing about speed: no goal was judged")
            return 0
        for one in missed:
            print(f"missed: {one.what}: {one.reading}")
        return 1 if missed else 0


def this_machine() -> Machine:
    """Describe the machine and what is installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        processor=_processor(),
        num_cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions=versions,
        busy_cores=round(psutil.cpu_percent(interval=0.5) * (os.cpu_count() or 1) / 100, 1),
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _describe(machine: Machine) -> str:
    text = (
        f"{machine.processor}, {machine.num_cores} cores, {machine.memory_gb:g} GB,"
        f" Python {machine.python}"
    )
    if machine.busy_cores > QUIET:
        text += (
            f"\nOther programs keep {machine.busy_cores:g} cores busy: the figures are too low and"
            " the ratios rough."
        )
    return text
