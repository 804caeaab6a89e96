"""Each figure has one definition, and the figures are what it says (1 s)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.monitor import definitions, values
from gguf_widgets.core.monitor.request_book import metrics_of
from gguf_widgets.core.monitor.timeline import Timeline
from gguf_widgets.core.request_events import RequestEnded
from gguf_widgets.core.types import FinishReason, Priority, Reply, SamplingSettings, Timings, Usage

OF = {
    values.RequestMetrics: definitions.REQUESTS,
    values.Point: definitions.POINTS,
    values.ProcessSample: definitions.PROCESSES,
    values.EngineSample: definitions.ENGINES,
    values.GpuSample: definitions.GPUS,
    values.RunMetrics: definitions.RUNS,
    values.Session: definitions.SESSIONS,
    values.LiveRequest: definitions.LIVE,
}


@pytest.mark.parametrize("kind", OF, ids=lambda kind: kind.__name__)
def test_each_field_is_defined_and_nothing_else_and_help_shows_it(kind: Any) -> None:
    names = [found.name for found in OF[kind]]
    assert names == list(kind.__struct_fields__)
    words = " ".join(kind.__doc__.split())
    for found in OF[kind]:
        assert found.formula
        named = f"{found.name} : {found.unit}" if found.unit else found.name
        assert f" {named} {found.formula[0].upper()}{found.formula[1:]}." in words


def test_a_figures_name_carries_its_unit() -> None:
    endings = {"s": "_s", "bytes": "_bytes", "tokens/s": "tok_per_s", "%": "_percent"}
    for known in definitions.SUBJECTS.values():
        for found in known:
            ending = endings.get(found.unit, "")
            assert found.name.endswith(ending), found.name


def test_the_tables_for_the_readme_hold_every_figure() -> None:
    text = definitions.as_markdown()
    num = sum(len(known) for known in definitions.SUBJECTS.values())
    assert sum(line.startswith("| `") for line in text.splitlines()) == num
    assert all(line.count(" | ") == 3 for line in text.splitlines() if line.startswith("| `"))


def test_the_readme_shows_them_as_they_are() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
    missing = [part for part in definitions.as_markdown().split("\n\n") if part not in readme]
    assert not missing, "put definitions.as_markdown() into the README, What each figure means"


def ended(reply: Reply | None, error: Any = None, **changes: Any) -> RequestEnded:
    model: Any = SimpleNamespace(name="m", settings=SimpleNamespace(n_ctx=4096))
    prompt: Any = None
    told = RequestEnded(
        "7/c1-1", model, prompt, SamplingSettings(), Priority.BATCH, "run", reply, error,
        0.0, 20.0, 10.0, 0.5, 12.0,
    )  # fmt: skip
    return told._replace(**changes)


seconds = st.floats(1e-6, 1e4)


@given(
    num_prompt=st.integers(0, 10**6), share=st.floats(0, 1), num_new=st.integers(0, 10**6),
    queue_s=seconds, prefill_s=seconds, decode_s=seconds,
)  # fmt: skip
def test_what_a_request_took_follows_the_formulas(
    num_prompt: int, share: float, num_new: int, queue_s: float, prefill_s: float, decode_s: float
) -> None:
    cached = int(num_prompt * share)
    ttft_s = queue_s + prefill_s if num_new else None
    timings = Timings(
        queue_s=queue_s, prefill_s=prefill_s, decode_s=decode_s, ttft_s=ttft_s,
        total_s=queue_s + prefill_s + decode_s, itl_p50_s=0.1, itl_p95_s=0.2, itl_p99_s=0.3,
        prefill_tok_per_s=5.0, decode_tok_per_s=6.0,
    )  # fmt: skip
    usage = Usage(
        num_prompt_tokens=num_prompt, num_cached_tokens=cached, num_completion_tokens=num_new
    )
    reply = Reply(
        text="secret", finish_reason=FinishReason.STOP, usage=usage, timings=timings, seed=1
    )
    timeline = Timeline(wall=lambda: 1000.0, clock=lambda: 10.0)
    found = metrics_of(ended(reply), timeline)
    assert found.ended_at == 1010.0
    assert (found.wall_s, found.first_text_s, found.load_s) == (10.0, 2.0, 0.5)
    assert found.num_computed_tokens == num_prompt - cached
    assert found.num_context_tokens == num_prompt + num_new
    if num_new > 1:
        assert found.tpot_s is not None
        assert found.tpot_s * (num_new - 1) == pytest.approx(timings.total_s - (ttft_s or 0))
    else:
        assert found.tpot_s is None
    for name in ("queue_s", "prefill_s", "decode_s", "ttft_s", "total_s", "itl_p50_s", "itl_p95_s",
                 "itl_p99_s", "prefill_tok_per_s", "decode_tok_per_s"):  # fmt: skip
        assert getattr(found, name) == getattr(timings, name), name
    assert (found.model, found.n_ctx, found.run_id, found.priority) == ("m", 4096, "run", "batch")
    assert "secret" not in repr(found)


def test_a_request_that_failed_has_the_errors_kind_and_no_figures_it_cannot_have() -> None:
    error = {"kind": "DecodeError", "message": "of a secret prompt", "details": {}}
    found = metrics_of(ended(None, error, first_text_clock=None), Timeline())
    assert (found.finish_reason, found.error) == ("error", "DecodeError")
    assert found.ttft_s is found.first_text_s is found.num_prompt_tokens is None
    assert "secret" not in repr(found)
