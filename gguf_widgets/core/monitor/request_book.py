"""Account of the requests of this process: those under way, and what each one took.

Promises: what an event says becomes the figures of `definitions`, whichever thread tells it; a
request that began before anybody listened is counted with what its end says. Nothing of a prompt or
a reply is kept but counts and times. Leaves to others: keeping (`keeping`), adding up for
Prometheus (`exposition`).
"""

from __future__ import annotations

import threading
from typing import Final

from gguf_widgets.core.monitor.timeline import Timeline
from gguf_widgets.core.monitor.values import LiveRequest, RequestMetrics
from gguf_widgets.core.request_events import (
    Event,
    RequestEnded,
    RequestProgress,
    RequestStarted,
)

__all__ = ["RequestBook", "metrics_of"]

_LONGEST_NAME: Final = 200


class _Live:
    """A request under way."""

    def __init__(self, started: RequestStarted) -> None:
        self.started = started
        self.num_done: int | None = None
        self.num_total: int | None = None
        self.num_tokens: int | None = None
        self.first_clock: float | None = None
        self.first_num_tokens = 0
        self.last_clock = started.clock


class RequestBook:
    """Hears events and knows what is under way.

    Parameters
    ----------
    timeline : Timeline
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._lock = threading.Lock()
        self._live: dict[str, _Live] = {}

    def hear(self, event: Event) -> RequestMetrics | None:
        """Take an event; return what the request took if it has ended."""
        if isinstance(event, RequestProgress):
            with self._lock:
                live = self._live.get(event.request_id)
                if live is not None:
                    _note(live, event)
        elif isinstance(event, RequestStarted):
            with self._lock:
                self._live[event.request_id] = _Live(event)
        elif isinstance(event, RequestEnded):
            with self._lock:
                self._live.pop(event.request_id, None)
            return metrics_of(event, self._timeline)
        return None

    @property
    def num_live(self) -> int:
        """How many requests are under way."""
        return len(self._live)

    def live(self) -> list[LiveRequest]:
        """Return the requests under way, the oldest first."""
        clock = self._timeline.clock()
        with self._lock:
            return [self._shown(live, clock) for live in self._live.values()]

    def stop(self, request_id: str) -> bool:
        """Ask the model to stop a request; return whether it is under way here."""
        with self._lock:
            live = self._live.get(request_id)
        if live is None:
            return False
        live.started.stop()
        return True

    def forget_in_child(self) -> None:
        """In a forked child: what is under way is the parent's."""
        self._lock = threading.Lock()
        self._live = {}

    def _shown(self, live: _Live, clock: float) -> LiveRequest:
        started = live.started
        fraction = speed = None
        if live.num_total:
            fraction = min(1.0, (live.num_done or 0) / live.num_total)
        if live.num_tokens is not None:
            fraction = 1.0
        if live.num_tokens is not None and live.first_clock is not None:
            passed = live.last_clock - live.first_clock
            written = live.num_tokens - live.first_num_tokens
            speed = written / passed if passed > 0 and written > 0 else None
        return LiveRequest(
            request_id=started.request_id,
            model=started.model.name[:_LONGEST_NAME],
            run_id=started.run_id,
            priority=started.priority.value,
            started_at=self._timeline.at(started.clock),
            age_s=max(0.0, clock - started.clock),
            prefill_fraction=fraction,
            num_prompt_tokens=live.num_total,
            num_completion_tokens=live.num_tokens,
            tok_per_s=speed,
        )


def _note(live: _Live, event: RequestProgress) -> None:
    live.last_clock = event.clock
    if event.prefill is not None:
        live.num_done, live.num_total = event.prefill.num_done, event.prefill.num_total
    if event.num_completion_tokens is not None:
        live.num_tokens = event.num_completion_tokens
        if live.first_clock is None:
            live.first_clock, live.first_num_tokens = event.clock, event.num_completion_tokens


def metrics_of(ended: RequestEnded, timeline: Timeline) -> RequestMetrics:
    """Return what a request took."""
    model, reply, error = ended.model, ended.reply, ended.error
    first = ended.first_text_clock
    common = {
        "request_id": ended.request_id,
        "ended_at": timeline.at(ended.clock),
        "model": model.name[:_LONGEST_NAME],
        "run_id": ended.run_id,
        "priority": ended.priority.value,
        "load_s": ended.load_s,
        "first_text_s": None if first is None else first - ended.started_clock,
        "wall_s": ended.clock - ended.started_clock,
        "n_ctx": model.settings.n_ctx,
    }
    if reply is None:
        kind = error["kind"] if error is not None else "GgufWidgetsError"
        return RequestMetrics(**common, finish_reason="error", error=kind)  # type: ignore[arg-type]
    usage, timings = reply.usage, reply.timings
    tpot_s = None
    if timings.ttft_s is not None and usage.num_completion_tokens > 1:
        tpot_s = (timings.total_s - timings.ttft_s) / (usage.num_completion_tokens - 1)
    return RequestMetrics(
        **common,  # type: ignore[arg-type]
        finish_reason=reply.finish_reason.value,
        queue_s=timings.queue_s,
        prefill_s=timings.prefill_s,
        ttft_s=timings.ttft_s,
        itl_p50_s=timings.itl_p50_s,
        itl_p95_s=timings.itl_p95_s,
        itl_p99_s=timings.itl_p99_s,
        decode_s=timings.decode_s,
        total_s=timings.total_s,
        prefill_tok_per_s=timings.prefill_tok_per_s,
        decode_tok_per_s=timings.decode_tok_per_s,
        tpot_s=tpot_s,
        num_prompt_tokens=usage.num_prompt_tokens,
        num_cached_tokens=usage.num_cached_tokens,
        num_computed_tokens=usage.num_prompt_tokens - usage.num_cached_tokens,
        num_completion_tokens=usage.num_completion_tokens,
        num_context_tokens=usage.num_context_tokens,
    )
