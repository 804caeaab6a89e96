from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.engine import scheduler
from gguf_widgets.core.engine.detokenizer import Detokenizer
from gguf_widgets.core.engine.sequence import Sequence
from gguf_widgets.core.types import GenerateRequest


def sequence(order, client, num_tokens, num_computed=0, num_output=0, **more) -> Sequence:
    tokens = [1] * num_tokens
    request = GenerateRequest(
        request_id=str(order), client_id=client, prompt_tokens=tokens[: num_tokens - num_output]
    )
    return Sequence(
        request=request,
        order=order,
        tokens=tokens,
        max_output=100,
        seed=0,
        detokenizer=Detokenizer(),
        arrived=0.0,
        chunk_limit=more.pop("chunk_limit", 512),
        num_computed=num_computed,
        num_output=num_output,
        slot=order,
        **more,
    )


@st.composite
def running_sequences(draw):
    result = []
    for order in range(draw(st.integers(1, 8))):
        num_tokens = draw(st.integers(2, 300))
        if draw(st.booleans()):
            state = {"num_computed": num_tokens - 1, "num_output": 1}
        else:
            state = {"num_computed": draw(st.integers(0, num_tokens - 1))}
        client = draw(st.sampled_from("abc"))
        limit = draw(st.sampled_from([1, 16, 512]))
        result.append(sequence(order, client, num_tokens, chunk_limit=limit, **state))
    return result


@given(
    running=running_sequences(),
    n_batch=st.integers(1, 600),
    free_cells=st.integers(0, 600),
    limit=st.integers(1, 600),
)
def test_a_plan_keeps_to_every_limit(running, n_batch, free_cells, limit):
    chunks = scheduler.plan_batch(
        running, n_batch=n_batch, free_cells=free_cells, prefill_limit=limit
    )
    room = min(n_batch, free_cells)
    assert sum(chunk.num_tokens for chunk in chunks) <= room
    assert len({id(chunk.sequence) for chunk in chunks}) == len(chunks)
    for chunk in chunks:
        assert chunk.start == chunk.sequence.num_computed
        assert 0 < chunk.num_tokens <= chunk.sequence.num_to_compute
        assert chunk.num_tokens <= chunk.sequence.chunk_limit
    assert bool(chunks) == (room > 0)
    # Decodes first, and all of them as far as they fit.
    decoding = [one for one in running if one.is_decoding]
    planned = [chunk.sequence for chunk in chunks if chunk.sequence.is_decoding]
    assert len(planned) == min(len(decoding), room)
    if decoding:
        prompts = sum(c.num_tokens for c in chunks if not c.sequence.is_decoding)
        assert prompts <= limit or len(running) == 1


def test_prompts_share_a_batch_equally_between_clients_whatever_their_number():
    greedy = [sequence(order, "greedy", 400) for order in range(5)]
    modest = sequence(5, "modest", 400)
    small = sequence(6, "small", 10)
    chunks = scheduler.plan_batch(
        [*greedy, modest, small], n_batch=210, free_cells=10_000, prefill_limit=64
    )
    taken = {chunk.sequence.order: chunk.num_tokens for chunk in chunks}
    assert taken == {0: 100, 5: 100, 6: 10}


def test_decodes_take_turns_when_a_batch_is_too_small_for_all():
    running = [sequence(n, "a", 5, num_computed=4, num_output=1) for n in range(5)]
    for step in range(100):
        for chunk in scheduler.plan_batch(running, n_batch=2, free_cells=99, prefill_limit=64):
            chunk.sequence.last_step = step
        # Five sequences, two at a time: nobody waits for more than three steps.
        assert all(step - one.last_step < 3 for one in running) or step < 2


def test_a_suspect_is_computed_alone():
    running = [sequence(n, "a", 5, num_computed=4, num_output=1) for n in range(4)]
    running[2].suspect = True
    chunks = scheduler.plan_batch(running, n_batch=64, free_cells=99, prefill_limit=64)
    assert [chunk.sequence.order for chunk in chunks] == [2]


def test_the_client_with_the_fewest_running_is_next_and_a_preempted_one_before_all():
    running = [sequence(0, "a", 5), sequence(1, "a", 5), sequence(2, "b", 5)]
    waiting = [sequence(3, "a", 5), sequence(4, "b", 5), sequence(5, "c", 5), sequence(6, "c", 5)]
    assert scheduler.next_to_admit(waiting, running).order == 5
    waiting[0].preempted = True
    assert scheduler.next_to_admit(waiting, running).order == 3


def test_admission_leaves_room_for_replies_to_grow_but_a_first_request_always_gets_in():
    one = sequence(0, "a", 100)
    assert scheduler.can_admit(one, [], n_cells=100)
    other = sequence(1, "a", 100)
    needed = 2 * (100 + scheduler.HEADROOM)
    assert scheduler.can_admit(other, [one], n_cells=needed)
    assert not scheduler.can_admit(other, [one], n_cells=needed - 1)


def test_the_youngest_gives_way_and_never_the_only_one():
    running = [sequence(3, "a", 5), sequence(7, "b", 5), sequence(5, "a", 5)]
    assert scheduler.choose_victim(running) is running[1]
    assert scheduler.choose_victim(running[:1]) is None


def test_chunks_follow_the_measured_pace():
    pace = scheduler.PrefillPace(512, step_s=0.1)
    pace.observe(500, 0.5)  # 1 ms a token: 100 of them in the time allowed
    assert pace.limit == 100
    for _ in range(50):
        pace.observe(100, 1.0)
    assert pace.limit == scheduler.PrefillPace.SMALLEST
    for _ in range(50):
        pace.observe(100, 1e-6)
    assert pace.limit == 512
