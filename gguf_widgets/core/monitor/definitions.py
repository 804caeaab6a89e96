"""What each figure means: its name, its unit, its formula and where it comes from, in one place.

Promises: every field of what the monitor tells and every column of its tables has one entry here;
docstrings, the README's table and the help lines for Prometheus are made from these. Leaves to
others: measuring.

The names and formulas are the community's: TTFT is the time to first token, ITL the inter-token
latency (from one token of a reply to the next), TPOT the time per output token. Durations are
differences of `time.perf_counter`, which no change of the machine's clock touches.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeVar

import msgspec

__all__ = [
    "ENGINES",
    "GPUS",
    "LIVE",
    "POINTS",
    "PROCESSES",
    "REQUESTS",
    "RUNS",
    "SESSIONS",
    "SUBJECTS",
    "Definition",
    "as_markdown",
    "documented",
]

_Struct = TypeVar("_Struct", bound=type[msgspec.Struct])

_TIMES: Final = "seconds since 1970, UTC"


class Definition(NamedTuple):
    """A figure.

    Attributes
    ----------
    name : str
        As in Python, in the tables' columns and in files.
    unit : str
        "" for a name or a text.
    formula : str
        What it is, exactly.
    source : str
        Who measures it: "worker" (the process that runs the model, in its engine), "client" (this
        process), "system" (psutil), "NVML" (NVIDIA's driver), "store" (the batch runs in the
        store), or "monitor" (it keeps account itself).
    """

    name: str
    unit: str
    formula: str
    source: str


_D = Definition

REQUESTS: Final = (
    _D("request_id", "", "the number of the model's process / its name for the request; "
       "'unsent-...' if it was not sent", "client"),
    _D("ended_at", _TIMES, "when the request ended", "client"),
    _D("model", "", "what the library calls the model", "client"),
    _D("run_id", "", "the batch run that asked; None: none did", "client"),
    _D("priority", "", "'interactive' or 'batch' (lets the others go first)", "client"),
    _D("finish_reason", "", "'stop', 'length', 'aborted' or 'error'", "worker"),
    _D("error", "", "the kind of the error (a class of core.errors); None: none", "worker"),
    _D("load_s", "s", "from asking until the model's process, if it had to be started again for "
       "this request, was ready; close to 0 otherwise", "client"),
    _D("queue_s", "s", "from the request's arrival in the engine until its prompt is begun",
       "worker"),
    _D("prefill_s", "s", "from the beginning of the prompt until the first token is sampled",
       "worker"),
    _D("ttft_s", "s", "time to first token: queue_s + prefill_s", "worker"),
    _D("first_text_s", "s", "from asking until the first text arrived here: load_s, then ttft_s "
       "and the way; None where nobody reads meanwhile", "client"),
    _D("itl_p50_s", "s", "inter-token latency (from one token of the reply to the next, as they "
       "are sampled): its median", "worker"),
    _D("itl_p95_s", "s", "inter-token latency: its 95th percentile, interpolated linearly",
       "worker"),
    _D("itl_p99_s", "s", "inter-token latency: its 99th percentile, interpolated linearly",
       "worker"),
    _D("decode_s", "s", "from the first token until the end of the reply", "worker"),
    _D("total_s", "s", "end to end: from the request's arrival in the engine until its end",
       "worker"),
    _D("wall_s", "s", "from asking until the end arrived here: load_s, then total_s and the way",
       "client"),
    _D("prefill_tok_per_s", "tokens/s", "num_computed_tokens / prefill_s", "worker"),
    _D("decode_tok_per_s", "tokens/s", "(num_completion_tokens - 1) / decode_s", "worker"),
    _D("tpot_s", "s", "time per output token: (total_s - ttft_s) / (num_completion_tokens - 1)",
       "worker"),
    _D("num_prompt_tokens", "tokens", "the prompt, with what the reply was told to begin with",
       "worker"),
    _D("num_cached_tokens", "tokens", "the part of the prompt that was taken over from an earlier "
       "request instead of computed", "worker"),
    _D("num_computed_tokens", "tokens", "num_prompt_tokens - num_cached_tokens", "worker"),
    _D("num_completion_tokens", "tokens", "what was generated", "worker"),
    _D("num_context_tokens", "tokens", "the context used: num_prompt_tokens + "
       "num_completion_tokens", "worker"),
    _D("n_ctx", "tokens", "the context the model was loaded with", "client"),
)  # fmt: skip

_HELD = "as of the last look; looks are spaced so that they cost little"

POINTS: Final = (
    _D("at", _TIMES, "when the point was taken; within a session it never goes back", "monitor"),
    _D("interval_s", "s", "how long it stands for: since the point before", "monitor"),
    _D("decode_tok_per_s", "tokens/s", "tokens written by all models of yours on this machine "
       "since the look before / seconds since then", "worker"),
    _D("prefill_tok_per_s", "tokens/s", "prompt tokens computed (not those taken over) by all "
       "models since the look before / seconds since then", "worker"),
    _D("num_running", "sequences", "replies being computed, over all models", "worker"),
    _D("num_waiting", "sequences", "requests that wait for their turn, over all models", "worker"),
    _D("num_cells_used", "cells", "places in the KV caches that running sequences hold", "worker"),
    _D("num_cells_kept", "cells", "places that finished sequences left for whoever begins alike",
       "worker"),
    _D("num_cells", "cells", "all places in the KV caches", "worker"),
    _D("rows_per_min", "rows/min", "batch runs under way, of any process: 60 x their rows per "
       "second of the last half minute", "store"),
    _D("cpu_percent", "% of one core", "processor time of this process, the models' processes and "
       "those of batch runs since the point before / seconds x 100; 200: two cores busy",
       "system"),
    _D("cpu_total_percent", "% of the machine", "processor time of everything that runs on the "
       "machine / all there is, 0 to 100", "system"),
    _D("rss_bytes", "bytes", "resident memory of this process, the models' processes and those of "
       "batch runs, added up; what they share counts in each", "system"),
    _D("pss_bytes", "bytes", "their proportional share: what several processes map counts in equal "
       f"parts (Linux); {_HELD}", "system"),
    _D("free_memory_bytes", "bytes", "what a new process could use without pushing anything out, "
       "within this process's control group", "system"),
    _D("disk_read_bytes_per_s", "bytes/s", "read from all disks by everything that runs, since the "
       "point before / seconds", "system"),
    _D("disk_write_bytes_per_s", "bytes/s", "written to all disks by everything that runs, since "
       "the point before / seconds", "system"),
    _D("processes", "", "one entry for each process of ours", "system"),
    _D("engines", "", "one entry for each model of yours that runs on this machine", "worker"),
    _D("gpus", "", "one entry for each NVIDIA card; empty where that is not known", "NVML"),
)  # fmt: skip

PROCESSES: Final = (
    _D("kind", "", "'this' (the process that watches), 'model' or 'batch run'", "monitor"),
    _D("pid", "", "the process's number", "system"),
    _D("name", "", "the model, the run's title, or what this process calls itself", "monitor"),
    _D("cpu_percent", "% of one core", "its processor time since the point before / seconds x 100",
       "system"),
    _D("rss_bytes", "bytes", "its resident memory, mapped weights included", "system"),
    _D("pss_bytes", "bytes", f"its proportional share of that (Linux); {_HELD}", "system"),
)  # fmt: skip

ENGINES: Final = (
    _D("worker", "", "the process's name in the registry", "monitor"),
    _D("model", "", "the model", "monitor"),
    _D("pid", "", "its process's number", "system"),
    _D("state", "", "'loading', 'ready', 'leaving', 'stuck' (it did not answer), 'lost' or 'other "
       "version'", "worker"),
    _D("num_running", "sequences", "replies being computed", "worker"),
    _D("num_waiting", "sequences", "requests that wait for their turn", "worker"),
    _D("num_cells_used", "cells", "places in the KV cache that running sequences hold", "worker"),
    _D("num_cells_kept", "cells", "places that finished sequences left", "worker"),
    _D("num_cells", "cells", "all places in the KV cache", "worker"),
    _D("num_preemptions", "", "how often a sequence had to be put back, since the last look",
       "worker"),
    _D("decode_tok_per_s", "tokens/s", "tokens written since the look before / seconds", "worker"),
    _D("prefill_tok_per_s", "tokens/s", "prompt tokens computed since the look before / seconds",
       "worker"),
    _D("cached_tok_per_s", "tokens/s", "prompt tokens taken over since the look before / seconds",
       "worker"),
)  # fmt: skip

GPUS: Final = (
    _D("name", "", "what the driver calls the card", "NVML"),
    _D("use_percent", "%", "share of the driver's last sample period in which the card computed",
       "NVML"),
    _D("memory_used_bytes", "bytes", "memory of the card in use, by everything", "NVML"),
    _D("memory_total_bytes", "bytes", "memory of the card", "NVML"),
    _D("power_w", "W", "what the card draws", "NVML"),
)  # fmt: skip

RUNS: Final = (
    _D("run_id", "", "the run's id", "store"),
    _D("title", "", "the run's title", "store"),
    _D("models", "", "the models that it asks, joined with commas", "store"),
    _D("status", "", "'ready', 'running', 'paused', 'stopped', 'interrupted', 'finished' or "
       "'failed'", "store"),
    _D("created_at", _TIMES, "when the run was made", "store"),
    _D("ended_at", _TIMES, "when it ended; None: it has not", "store"),
    _D("num_rows", "rows", "rows to answer, of every prompt, model and sample", "store"),
    _D("num_done", "rows", "answered", "store"),
    _D("num_failed", "rows", "failed", "store"),
    _D("num_skipped", "rows", "left out on purpose: a value is missing", "store"),
    _D("busy_s", "s", "time in which the model was at one row at least: the union of the spans "
       "from each row's end less its total_s to its end", "store"),
    _D("rows_per_min", "rows/min", "60 x (num_done + num_failed) / busy_s", "store"),
    _D("tok_per_s", "tokens/s", "num_completion_tokens / busy_s", "store"),
    _D("error_rate", "", "num_failed / (num_done + num_failed), 0 to 1", "store"),
    _D("num_prompt_tokens", "tokens", "prompts of all rows that were asked (one that took over "
       "an equal row's answer was not)", "store"),
    _D("num_cached_tokens", "tokens", "the part of these that was taken over", "store"),
    _D("num_completion_tokens", "tokens", "what was generated, over all rows that were asked",
       "store"),
)  # fmt: skip

SESSIONS: Final = (
    _D("id", "", "the session's id", "monitor"),
    _D("program", "", "what watched: a notebook, the dashboard, a script", "monitor"),
    _D("started_at", _TIMES, "when it began", "monitor"),
    _D("ended_at", _TIMES, "when it ended; None: it has not, or its process was killed",
       "monitor"),
    _D("last_at", _TIMES, "the last figure that it kept", "monitor"),
    _D("state", "", "'running', 'ended' or 'cut off' (its process was killed)", "monitor"),
    _D("num_requests", "", "requests kept", "monitor"),
    _D("num_points", "", "points kept", "monitor"),
    _D("interval_s", "s", "how often the machine was looked at", "monitor"),
    _D("host", "", "the machine's name", "system"),
    _D("pid", "", "the process's number", "system"),
    _D("machine", "", "the processor, its cores and the memory, in words", "system"),
    _D("versions", "", "of gguf-widgets, Python and the system", "system"),
)  # fmt: skip

LIVE: Final = (
    _D("request_id", "", "as in what is told of the request when it has ended", "client"),
    _D("model", "", "what the library calls the model", "client"),
    _D("run_id", "", "the batch run that asked; None: none did", "client"),
    _D("priority", "", "'interactive' or 'batch'", "client"),
    _D("started_at", _TIMES, "when it was asked for", "client"),
    _D("age_s", "s", "how long ago that was", "client"),
    _D("prefill_fraction", "", "how much of the prompt is computed, 0 to 1; None: not told yet",
       "worker"),
    _D("num_prompt_tokens", "tokens", "of the prompt; None: not told yet", "worker"),
    _D("num_completion_tokens", "tokens", "written so far; a batch run's are not told on the way",
       "worker"),
    _D("tok_per_s", "tokens/s", "(num_completion_tokens - 1) / seconds since the first text",
       "client"),
)  # fmt: skip

SUBJECTS: Final = {
    "Each request: `monitor.requests()`": REQUESTS,
    "The machine and the models: `monitor.system()`": POINTS,
    "Each process: `monitor.processes()`": PROCESSES,
    "Each model's scheduler: `monitor.engines()`": ENGINES,
    "Each NVIDIA card: `monitor.gpus()`": GPUS,
    "Each batch run: `monitor.runs()`": RUNS,
    "Each session: `monitor.sessions()`": SESSIONS,
    "Requests under way: `monitor.live()`": LIVE,
}


def documented(definitions: Iterable[Definition]) -> Callable[[_Struct], _Struct]:
    """Have a struct's docstring list its fields with their units and formulas."""

    def add(struct: _Struct) -> _Struct:
        lines = [(struct.__doc__ or "").rstrip(), "", "Attributes", "----------"]
        for found in definitions:
            lines.append(f"{found.name} : {found.unit}" if found.unit else found.name)
            text = f"{found.formula[0].upper()}{found.formula[1:]}. From: {found.source}."
            lines += textwrap.wrap(text, 92, initial_indent="    ", subsequent_indent="    ")
        struct.__doc__ = "\n".join(lines) + "\n"
        return struct

    return add


def as_markdown() -> str:
    """Return all definitions as Markdown tables, for the README."""
    parts = []
    for title, definitions in SUBJECTS.items():
        rows = [
            f"| `{found.name}` | {found.unit or '-'} | {found.formula} | {found.source} |"
            for found in definitions
        ]
        head = ["| figure | unit | what it is | measured by |", "|---|---|---|---|"]
        parts.append("\n".join([f"**{title}**", "", *head, *rows]))
    return "\n\n".join(parts) + "\n"
