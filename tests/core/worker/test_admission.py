"""The bounded queue: whatever comes and goes the bounds hold, and a refusal says what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.peer import Peer

from gguf_widgets.core.errors import WorkerBusyError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.types import Failed, Finished
from gguf_widgets.core.worker import protocol
from gguf_widgets.core.worker.admission import Admission, Limits
from gguf_widgets.core.worker.protocol import Prompt
from tests.core.conftest import wait_for

SMALL = Limits(
    open_per_client=6, open_in_all=10, bytes_per_client=100, bytes_in_all=150, reserved=2
)


def _try(admission: Admission, client: str, size: int, light: bool) -> WorkerBusyError | None:
    try:
        admission.admit(client, size, light=light)
    except WorkerBusyError as error:
        return error
    return None


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 70), st.booleans(), st.booleans()), max_size=60
    )
)
def test_the_bounds_hold_and_everybody_gets_the_reserved_places(
    steps: list[tuple[int, int, bool, bool]],
) -> None:
    admission = Admission(SMALL)
    opened: list[tuple[str, int, bool]] = []
    for number, size, light, ends in steps:
        if ends and opened:
            client, gone, was_light = opened.pop(number % len(opened))
            admission.release(client, gone, light=was_light)
            continue
        client = f"c{number}"
        everybody = [one for one in opened if not one[2]]
        mine = [one for one in everybody if one[0] == client]
        error = _try(admission, client, size, light)
        if error is not None:
            assert mine
            assert not light
            details = error.details
            whose = mine if details["scope"] == "client" else everybody
            if details["unit"] == "requests":
                assert details["open"] == len(whose) >= details["limit"]
            else:
                assert details["open"] == sum(one[1] for one in whose)
                assert details["open"] + size > details["limit"]
            assert 0.1 <= details["retry_after_s"] <= 30
            continue
        opened.append((client, size, light))
        everybody = [one for one in opened if not one[2]]
        count = Counter(one[0] for one in everybody)
        # The reserved places, and the one message that nobody is refused, may come on top.
        assert all(number <= SMALL.open_per_client for number in count.values())
        assert len(everybody) <= SMALL.open_in_all + SMALL.reserved * len(count)
        assert sum(one[1] for one in everybody) <= SMALL.bytes_in_all + 70 * len(count)
    for client, size, light in opened:
        admission.release(client, size, light=light)
    for _ in range(SMALL.open_per_client):  # nothing is counted that has ended
        admission.admit("c9", SMALL.bytes_per_client // SMALL.open_per_client)


def test_when_to_try_again_follows_the_pace_at_which_requests_end() -> None:
    now = [100.0]
    admission = Admission(Limits(open_per_client=1), lambda: now[0])

    def hint() -> float:
        with pytest.raises(WorkerBusyError) as caught:
            admission.admit("c1", 1)
        assert "try again in about" in caught.value.message
        return float(caught.value.details["retry_after_s"])

    admission.admit("c1", 1)
    assert hint() == 1.0  # nothing is known yet
    for _ in range(20):
        now[0] += 4.0
        admission.release("c1", 1)
        admission.admit("c1", 1)
    assert hint() == 4.0
    now[0] += 11.0
    assert hint() == 11.0
    now[0] += 1000.0
    assert hint() == 30.0


def test_a_full_worker_says_so_answers_questions_and_lets_a_newcomer_in(
    manager: ModelManager, in_worker: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "20")
    in_worker("""
from gguf_widgets.core.worker import requests
from gguf_widgets.core.worker.admission import Admission, Limits
requests.Admission = lambda: Admission(Limits(open_in_all=12, bytes_in_all=100_000, reserved=2))
""")
    model = manager.load()
    with Peer() as greedy, Peer() as newcomer:
        greedy.hello()
        newcomer.hello()
        for number in range(20):
            greedy.generate(number)
        wait_for(lambda: model.stats().num_requests == 12, "the worker is full")
        refused = [greedy.until_terminal()[-1] for _ in range(8)]
        for failed in refused:
            assert isinstance(failed, Failed)
            assert failed.error["kind"] == "WorkerBusyError"
            assert (
                "12 requests of all who use this model are open already"
                in (failed.error["message"])
            )
            assert failed.error["details"] == {
                "scope": "worker",
                "unit": "requests",
                "open": 12,
                "limit": 12,
                "retry_after_s": 1.0,
            }
        mine = newcomer.generate(1)
        newcomer.generate(2, prompt=Prompt(text="x" * 100_000))
        answers = newcomer.until_terminal()
        assert "already; at most" in answers[-1].error["message"]
        assert answers[-1].error["details"]["unit"] == "bytes"
        newcomer.send(protocol.Abort(request_id=mine))
        assert isinstance(newcomer.until_terminal()[-1], Finished)
    wait_for(lambda: model.stats().num_requests == 0, "their requests have gone with them")
    assert model.chat("Hello", max_tokens=2).text  # there is room again
