"""What came of one test with one model: a row of the table, and what is kept of it.

Promises: plain data, the same in Python, in JSON and in the store; the names carry their units.
Leaves to others: measuring (`work`), comparing (`compare`), tables (`table`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gguf_widgets.core.bench import statistics
from gguf_widgets.core.bench.machine import BUSY_SHARE, Engine, Machine, cores_words
from gguf_widgets.core.bench.plan import BenchTest

__all__ = ["SETTINGS", "SPREAD_LIMIT", "BenchFailure", "BenchModel", "BenchRow", "Change"]

SETTINGS: Final = (
    "n_threads",
    "n_batch",
    "n_ubatch",
    "n_gpu_layers",
    "type_k",
    "type_v",
    "flash_attn",
    "kv_unified",
    "n_draft",
)
"""The settings of loading that decide the speed."""

SPREAD_LIMIT: Final = 0.05
"""Above this share of the average the repetitions differ so much that it is said."""


class BenchModel(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured.

    `digest` tells the model's file from others, whatever it is called; `settings` are the effective
    ones of `SETTINGS`, and `lora` how many adapters were in use. `variant` says which settings were
    asked for where a model is measured with several: "n_threads=2".
    """

    name: str
    digest: str
    architecture: str
    quantization: str
    size_bytes: int
    num_parameters: int
    backend: str
    settings: dict[str, Any]
    lora: int = 0
    variant: str = ""

    @property
    def label(self) -> str:
        """The name, and the variant if there is one."""
        return f"{self.name} ({self.variant})" if self.variant else self.name


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """How a figure differs from an earlier one of this machine.

    Attributes
    ----------
    verdict : str
        "faster", "slower", "same", "unclear" (the spread is too large) or "none" (not compared).
    words : str
        A sentence without its full stop.
    ratio, low, high : float or None
        Tokens per second now over those then; the limits of the interval at 99%.
    at : float or None
        When the earlier one was measured, in seconds since 1970.
    """

    verdict: str
    words: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    at: float | None = None


class BenchRow(msgspec.Struct, frozen=True, kw_only=True):
    """One test with one model.

    Attributes
    ----------
    samples : list of float
        Tokens per second of each repetition, all sequences together.
    each_samples : list of float
        What one of the sequences had on average.
    seconds : list of float
        How long each repetition took, as the clock of the test counts it.
    repetitions : int
        How many were asked for; fewer samples mean that it was stopped.
    warmup : bool
    other_cores : float or None
        How many processors other programs kept busy meanwhile; None if that is not known.
    num_processors : int
        How many there are.
    at : float
        When it ended, in seconds since 1970.
    """

    bench_id: str
    at: float
    machine: Machine
    engine: Engine
    model: BenchModel
    test: BenchTest
    samples: list[float]
    each_samples: list[float]
    seconds: list[float]
    repetitions: int
    warmup: bool
    num_processors: int
    other_cores: float | None = None
    change: Change | None = None

    @property
    def label(self) -> str:
        """What it is called in sentences: "demo, tg128"."""
        return f"{self.model.label}, {self.test.name}"

    @property
    def avg_tok_per_s(self) -> float:
        """The mean of the repetitions: llama-bench's ``avg_ts``."""
        return statistics.average(self.samples)

    @property
    def stdev_tok_per_s(self) -> float | None:
        """Their standard deviation (n - 1): llama-bench's ``stddev_ts``; None of one."""
        return statistics.deviation(self.samples)

    @property
    def each_tok_per_s(self) -> float:
        """The mean of what one of the sequences had."""
        return statistics.average(self.each_samples)

    @property
    def is_whole(self) -> bool:
        """Whether all repetitions were made."""
        return len(self.samples) >= self.repetitions

    @property
    def was_busy(self) -> bool:
        """Whether others used so much of the machine that the figure says little."""
        return (self.other_cores or 0.0) > BUSY_SHARE * self.num_processors

    @property
    def notes(self) -> list[str]:
        """What is to be known of this figure: full sentences, often none."""
        notes = []
        if not self.is_whole:
            made = len(self.samples)
            notes.append(f"Stopped after {made} of {self.repetitions} repetitions.")
        if self.was_busy:
            cores = cores_words(self.other_cores or 0.0, self.num_processors)
            notes.append(
                f"Other programs kept {cores} busy meanwhile, so this is slower than it could be."
            )
        found = statistics.spread(self.samples)
        if found is not None and found > SPREAD_LIMIT:
            notes.append(
                f"The repetitions differ by {found:.0%} (standard deviation). Something may have "
                "disturbed them: measure again when the machine is quiet."
            )
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Return one flat row for tables: the columns of `BenchResult.to_frame`."""
        model, test, change = self.model, self.test, self.change
        return {
            "model": model.name,
            "test": test.name,
            "avg_tok_per_s": self.avg_tok_per_s,
            "stdev_tok_per_s": self.stdev_tok_per_s,
            "each_tok_per_s": self.each_tok_per_s,
            "n_prompt": test.n_prompt,
            "n_gen": test.n_gen,
            "n_depth": test.n_depth,
            "n_seq": test.n_seq,
            "repetitions": len(self.samples),
            "architecture": model.architecture,
            "quantization": model.quantization,
            "size_bytes": model.size_bytes,
            "num_parameters": model.num_parameters,
            "backend": model.backend,
            **{name: model.settings.get(name) for name in SETTINGS},
            "change": change.verdict if change else None,
            "change_ratio": change.ratio if change else None,
            "change_low": change.low if change else None,
            "change_high": change.high if change else None,
            "compared": change.words if change else None,
            "other_cores": self.other_cores,
            "notes": " ".join(self.notes),
            "samples_tok_per_s": list(self.samples),
            "samples_s": list(self.seconds),
            "warmup": self.warmup,
            "at": self.at,
            "machine": str(self.machine),
            "engine": str(self.engine),
            "bench_id": self.bench_id,
        }


class BenchFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A model, or one test with it, that could not be measured.

    `test` is "" if the model could not be loaded at all. `kind` is the name of the error's class.
    """

    model: str
    test: str
    kind: str
    message: str

    def __str__(self) -> str:
        what = f"{self.model}, {self.test}" if self.test else self.model
        return f"{what}: {self.message}"
