"""What the monitor tells, as plain values.

Promises: immutable; what is not known is None, never 0; the same values go to those who listen, to
the store and into the tables. Leaves to others: what each field means (`definitions`, from which
the docstrings are made), measuring.
"""

from __future__ import annotations

import msgspec

from gguf_widgets.core.monitor import definitions
from gguf_widgets.core.monitor.definitions import documented

__all__ = [
    "EngineSample",
    "GpuSample",
    "LiveRequest",
    "Point",
    "Points",
    "ProcessSample",
    "RequestMetrics",
    "RunMetrics",
    "Session",
]


@documented(definitions.REQUESTS)
class RequestMetrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one request took; None where it has no meaning or was not told."""

    request_id: str
    ended_at: float
    model: str
    run_id: str | None = None
    priority: str = "interactive"
    finish_reason: str = "error"
    error: str | None = None
    load_s: float = 0.0
    queue_s: float | None = None
    prefill_s: float | None = None
    ttft_s: float | None = None
    first_text_s: float | None = None
    itl_p50_s: float | None = None
    itl_p95_s: float | None = None
    itl_p99_s: float | None = None
    decode_s: float | None = None
    total_s: float | None = None
    wall_s: float = 0.0
    prefill_tok_per_s: float | None = None
    decode_tok_per_s: float | None = None
    tpot_s: float | None = None
    num_prompt_tokens: int | None = None
    num_cached_tokens: int | None = None
    num_computed_tokens: int | None = None
    num_completion_tokens: int | None = None
    num_context_tokens: int | None = None
    n_ctx: int | None = None


@documented(definitions.PROCESSES)
class ProcessSample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One process at one moment."""

    kind: str
    pid: int
    name: str
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    pss_bytes: int | None = None


@documented(definitions.ENGINES)
class EngineSample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model's scheduler at one moment."""

    worker: str
    model: str
    pid: int
    state: str
    num_running: int | None = None
    num_waiting: int | None = None
    num_cells_used: int | None = None
    num_cells_kept: int | None = None
    num_cells: int | None = None
    num_preemptions: int | None = None
    decode_tok_per_s: float | None = None
    prefill_tok_per_s: float | None = None
    cached_tok_per_s: float | None = None


@documented(definitions.GPUS)
class GpuSample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One NVIDIA card at one moment."""

    name: str
    use_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_w: float | None = None


@documented(definitions.POINTS)
class Point(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The machine and the models at one moment; None where something is not known."""

    at: float
    interval_s: float | None = None
    decode_tok_per_s: float | None = None
    prefill_tok_per_s: float | None = None
    num_running: int | None = None
    num_waiting: int | None = None
    num_cells_used: int | None = None
    num_cells_kept: int | None = None
    num_cells: int | None = None
    rows_per_min: float | None = None
    cpu_percent: float | None = None
    cpu_total_percent: float | None = None
    rss_bytes: int | None = None
    pss_bytes: int | None = None
    free_memory_bytes: int | None = None
    disk_read_bytes_per_s: float | None = None
    disk_write_bytes_per_s: float | None = None
    processes: tuple[ProcessSample, ...] = ()
    engines: tuple[EngineSample, ...] = ()
    gpus: tuple[GpuSample, ...] = ()


@documented(definitions.RUNS)
class RunMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a batch run so far, whichever process is at it."""

    run_id: str
    title: str
    models: str
    status: str
    created_at: float
    ended_at: float | None
    num_rows: int
    num_done: int
    num_failed: int
    num_skipped: int
    busy_s: float
    rows_per_min: float | None
    tok_per_s: float | None
    error_rate: float | None
    num_prompt_tokens: int
    num_cached_tokens: int
    num_completion_tokens: int


@documented(definitions.SESSIONS)
class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time in which one program watched."""

    id: str
    program: str
    started_at: float
    ended_at: float | None = None
    last_at: float | None = None
    state: str = "running"
    num_requests: int = 0
    num_points: int = 0
    interval_s: float | None = None
    host: str = ""
    pid: int | None = None
    machine: str = ""
    versions: str = ""


@documented(definitions.LIVE)
class LiveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request of this process that is under way."""

    request_id: str
    model: str
    run_id: str | None
    priority: str
    started_at: float
    age_s: float
    prefill_fraction: float | None = None
    num_prompt_tokens: int | None = None
    num_completion_tokens: int | None = None
    tok_per_s: float | None = None


class Points(list[Point]):
    """Points in the order they were taken, perhaps fewer than there are.

    Attributes
    ----------
    num_each : int
        For how many points that were kept each of these stands; 1: they are all here.
    note : str
        What a person should know of that: a sentence, "" if they are all here.
    """

    def __init__(self, points: list[Point], *, num_each: int = 1, note: str = "") -> None:
        super().__init__(points)
        self.num_each = num_each
        self.note = note
