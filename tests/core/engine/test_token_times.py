"""The times between tokens, from the clock to the reply. Under a second."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.engine import writer
from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.scripted import ScriptedBackend
from gguf_widgets.core.engine.token_times import QUANTILES, latencies
from gguf_widgets.core.types import Finished, GenerateRequest, LoadSettings, SamplingSettings


@given(st.lists(st.floats(0, 1e3), min_size=2, max_size=50))
def test_the_quantiles_are_those_of_numpy(gaps: list[float]) -> None:
    times = array("d", np.cumsum([0.0, *gaps]))
    found = latencies(times)
    expected = np.quantile(np.diff(times), QUANTILES)
    assert found == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-9)


def test_below_two_tokens_there_is_none() -> None:
    assert latencies(array("d")) == latencies(array("d", [1.0])) == (None, None, None)


@pytest.mark.parametrize("max_tokens", [1, 4])
def test_a_reply_tells_them(max_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The clock, as the writer reads it for each token: 0.1, 0.2 and 1.7 s between them.
    ticks = iter([10.0, 10.1, 10.3, 12.0])
    monkeypatch.setattr(writer, "perf_counter", lambda: next(ticks))
    engine = Engine(ScriptedBackend(LoadSettings(n_ctx=256, n_batch=32)))
    engine.add_request(
        GenerateRequest(
            request_id="r",
            client_id="c",
            prompt_tokens=list(b"hello"),
            sampling=SamplingSettings(max_tokens=max_tokens),
        )
    )
    events = []
    while engine.has_work:
        events += engine.step()
    engine.close()
    (end,) = [event for event in events if isinstance(event, Finished)]
    timings = end.reply.timings
    if max_tokens == 1:
        assert timings.itl_p50_s is None
        assert timings.itl_p99_s is None
        return
    assert timings.itl_p50_s == pytest.approx(0.2)
    assert timings.itl_p95_s == pytest.approx(0.2 + 0.9 * 1.5)
    assert timings.itl_p99_s == pytest.approx(0.2 + 0.98 * 1.5)
