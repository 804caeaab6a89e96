"""The figures for Prometheus: well formed, and served with care (4 s)."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gguf_widgets.core.errors import InvalidValueError, ServerStartError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.monitor import endpoint as endpoint_module
from gguf_widgets.core.monitor.endpoint import Endpoint
from gguf_widgets.core.monitor.exposition import Totals, exposition
from gguf_widgets.core.monitor.monitor import PerformanceMonitor
from gguf_widgets.core.monitor.values import (
    EngineSample,
    GpuSample,
    Point,
    ProcessSample,
    RequestMetrics,
)
from tests.core.conftest import our_threads, wait_for

Samples = dict[str, list[tuple[dict[str, str], float]]]


def read(text: str) -> Samples:
    """Read it as Prometheus's own library does."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def of(found: Samples, name: str, **labels: str) -> float:
    (value,) = [
        value for known, value in found[f"gguf_widgets_{name}"] if labels.items() <= known.items()
    ]
    return value


metrics = st.builds(
    RequestMetrics,
    request_id=st.just("r"),
    ended_at=st.just(1.0),
    model=st.text(max_size=12),
    finish_reason=st.sampled_from(["stop", "error"]),
    ttft_s=st.none() | st.floats(0, 1e5),
    total_s=st.none() | st.floats(0, 1e5),
    num_prompt_tokens=st.none() | st.integers(0, 10**9),
)


@given(st.lists(metrics, max_size=20), st.text(max_size=20))
def test_what_is_shown_is_what_was_counted_whatever_things_are_called(
    asked: list[RequestMetrics], name: str
) -> None:
    totals = Totals()
    for one in asked:
        totals.add(one)
    point = Point(
        at=1.0,
        decode_tok_per_s=12.5,
        engines=(EngineSample(worker="w", model=name, pid=3, state="ready", num_running=2),),
        processes=(ProcessSample(kind="model", pid=3, name=name, rss_bytes=2**40),),
        gpus=(GpuSample(name=name, power_w=70.5), GpuSample(name=name, power_w=71.0)),
    )
    found = read(exposition(totals, point, {"session": name}))
    requests = found.get("gguf_widgets_requests_total", [])
    assert sum(value for _, value in requests) == len(asked)
    assert len({tuple(labels.items()) for labels, _ in requests}) == len(requests)
    tokens = found.get("gguf_widgets_prompt_tokens_total", [])
    assert sum(value for _, value in tokens) == sum(one.num_prompt_tokens or 0 for one in asked)
    waits = [one.ttft_s for one in asked if one.ttft_s is not None]
    base = "gguf_widgets_time_to_first_token_seconds"
    assert sum(value for _, value in found.get(f"{base}_count", [])) == len(waits)
    assert sum(value for _, value in found.get(f"{base}_sum", [])) == pytest.approx(sum(waits))
    for bound in ("0.1", "+Inf"):
        buckets = [value for labels, value in found.get(f"{base}_bucket", [])
                   if labels["le"] == bound]  # fmt: skip
        assert sum(buckets) == sum(wait <= float(bound) for wait in waits)
    assert of(found, "decode_tokens_per_second") == 12.5
    assert of(found, "sequences_running", pid="3") == 2
    assert of(found, "process_resident_memory_bytes", kind="model") == 2**40
    assert of(found, "gpu_power_watts", gpu="1") == 71.0
    if name.isprintable():
        assert found["gguf_widgets_monitor_info"][0][0]["session"] == name


def test_models_without_end_do_not_make_figures_without_end() -> None:
    totals = Totals()
    for number in range(500):
        totals.add(RequestMetrics(request_id="r", ended_at=1.0, model=f"m{number}", ttft_s=1.0))
    found = read(exposition(totals, None, {}))
    requests = found["gguf_widgets_requests_total"]
    assert len(requests) == 101
    assert sum(value for _, value in requests) == 500
    assert of(found, "requests_total", model="other") == 400


# -- over the wire ---------------------------------------------------------------------------------


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def make(text: Callable[[], str] = lambda: "x 1\n", port: int = 0) -> Endpoint:
        made.append(Endpoint(text, "127.0.0.1", port))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ask(
    address: str, method: str = "GET", path: str = "/metrics", **headers: str
) -> tuple[int, str]:
    where = urlsplit(address)
    with contextlib.closing(
        http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
    ) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_a_monitor_serves_its_figures_until_it_is_told_not_to(manager: ModelManager) -> None:
    with PerformanceMonitor(interval_s=0.1) as monitor:
        address = monitor.serve()
        assert address.startswith("http://127.0.0.1:")
        assert monitor.serve() == address, "one server"
        manager.load("demo").chat("Hello", max_tokens=3)
        wait_for(lambda: monitor.last and monitor.last.num_cells, "a point")
        with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 - our own
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            found = read(answer.read().decode())
        assert of(found, "requests_total", model="demo", finish_reason="length") == 1
        assert of(found, "completion_tokens_total") == 3
        assert of(found, "kv_cells", model="demo") > 0
        assert of(found, "process_resident_memory_bytes", kind="this") > 0
        monitor.stop_serving()
        monitor.stop_serving()
        with pytest.raises(OSError, match=r"refused|reset"):
            ask(address)
        again = monitor.serve(port=urlsplit(address).port or 0)
        assert again == address, "the port can be had again at once"
        with pytest.raises(ServerStartError, match="Choose another port") as taken:
            Endpoint(lambda: "", "127.0.0.1", urlsplit(address).port or 0)
        assert taken.value.details["port"] == urlsplit(address).port
    with pytest.raises(OSError, match=r"refused|reset"):
        ask(address)
    with pytest.raises(InvalidValueError, match="has ended"):
        monitor.serve()
    assert not [thread for thread in our_threads() if "endpoint" in thread.name]


def test_it_answers_reading_of_its_one_address_by_this_machines_names_only(
    serve: Callable[..., Endpoint],
) -> None:
    address = serve().address
    port = urlsplit(address).port
    assert ask(address) == (200, "x 1\n")
    assert ask(address, "HEAD") == (200, "")
    assert ask(address, path="/metrics?a=b")[0] == 200
    for path in ("/", "/metrics/..", "/metrics%00", "/etc/passwd", "/" + "a" * 5000):
        assert ask(address, path=path)[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(address, method)[0] == 501
    # A page of another site whose name was made to lead here.
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "[::1"):
        assert ask(address, Host=host)[0] == 403, host
    for host in (f"localhost:{port}", "127.0.0.1", f"[::1]:{port}"):
        assert ask(address, Host=host)[0] == 200, host


def test_readers_that_are_slow_many_or_gone_hold_up_neither_others_nor_the_end(
    serve: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module, "_LONGEST_S", 0.5)
    served = serve()
    where = urlsplit(served.address)
    target = (where.hostname or "", where.port or 0)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(target, 20)) for _ in range(8)]
        for one in slow:
            one.sendall(b"GET /metr")
        # All places are taken; a letter now and then does not keep them.
        wait_for(lambda: len(served._server._open) == 8, "all places to be taken")
        deadline = time.monotonic() + 20
        while served._server._open and time.monotonic() < deadline:
            for one in slow:
                with contextlib.suppress(OSError):
                    one.sendall(b"i")
            time.sleep(0.05)
        assert ask(served.address)[0] == 200
        monkeypatch.setattr(endpoint_module, "_LONGEST_S", 60.0)
        late = stack.enter_context(socket.create_connection(target, 20))
        late.sendall(b"GET /metrics HTTP/1.1\r\n")
        wait_for(lambda: served._server._open, "the late one")
        served.close()
        late.settimeout(20)
        with contextlib.suppress(ConnectionError):
            assert late.recv(10) == b""
    wait_for(lambda: not served._server._open, "the end of the last reader")
    assert not [one for one in threading.enumerate() if "process_request" in one.name]


def test_a_fault_while_the_text_is_made_is_one_readers_and_not_the_servers(
    serve: Callable[..., Endpoint],
) -> None:
    def text() -> str:
        raise RuntimeError("a fault of ours")

    served = serve(text)
    with pytest.raises((http.client.HTTPException, OSError)):
        ask(served.address)
    served._server.text = lambda: "x 2\n"
    assert ask(served.address) == (200, "x 2\n")


def test_addresses_that_are_none_are_refused_in_words() -> None:
    for port in (-1, 70_000, "80", 1.5):
        with pytest.raises(InvalidValueError, match="port is"):
            Endpoint(lambda: "", "127.0.0.1", port)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="host is"):
        Endpoint(lambda: "", "", 0)
    for host in ("192.0.2.7", "no such host", "a" * 300, "[::1]"):
        with pytest.raises(ServerStartError, match="cannot be served"):
            Endpoint(lambda: "", host, 0)
