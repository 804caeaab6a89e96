from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sequences import sequence
from support.tiny_projector import picture

from gguf_widgets.core.engine import scheduler
from gguf_widgets.core.images import Image
from gguf_widgets.core.types import ImageSpan


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
        if "num_output" in state and draw(st.booleans()):
            state["draft"] = [7] * draw(st.integers(1, 9))
        state["batch"] = draw(st.booleans())
        result.append(sequence(order, client, num_tokens, chunk_limit=limit, **state))
    return result


@given(
    running=running_sequences(),
    n_batch=st.integers(1, 600),
    free_cells=st.integers(0, 600),
    limit=st.integers(1, 600),
    own_cells=st.booleans(),
)
def test_a_plan_keeps_to_every_limit(running, n_batch, free_cells, limit, own_cells):
    chunks = scheduler.plan_batch(
        running,
        n_batch=n_batch,
        free_cells=free_cells,
        prefill_limit=limit,
        own_cells=own_cells,
    )
    room = min(n_batch, free_cells)
    assert sum(chunk.num_rows for chunk in chunks) <= room
    assert len({id(chunk.sequence) for chunk in chunks}) == len(chunks)
    for chunk in chunks:
        assert chunk.start == chunk.sequence.num_computed
        assert 0 < chunk.num_tokens <= chunk.sequence.num_to_compute
        assert chunk.num_tokens <= chunk.sequence.chunk_limit
        assert list(chunk.draft) == chunk.sequence.draft[: len(chunk.draft)]
    assert bool(chunks) == (room > 0)
    decoding = [one for one in running if one.is_decoding]
    if own_cells and len(decoding) < len(running) and all(one.is_batch for one in decoding):
        assert not any(chunk.sequence.is_decoding for chunk in chunks)
        return
    # Decodes first, and all of them as far as they fit.
    planned = [chunk.sequence for chunk in chunks if chunk.sequence.is_decoding]
    assert planned == [chunk.sequence for chunk in chunks[: len(planned)]]
    if len(decoding) < room or len(decoding) == len(running):
        assert len(planned) == min(len(decoding), room)
    else:  # one prompt takes its turn with them
        assert min(len(decoding), room) - len(planned) in (0, 1)
        assert len(chunks) == room or not room
    prompts = [chunk for chunk in chunks if not chunk.sequence.is_decoding]
    if any(not one.is_batch for one in planned) and len(running) > 1:
        assert sum(chunk.num_tokens for chunk in prompts) <= limit
    if prompts and len(running) > 1:
        assert not any(chunk.draft for chunk in chunks)  # guesses only in what is left over


def test_prompts_share_a_batch_equally_between_clients_whatever_their_number():
    greedy = [sequence(order, "greedy", 400) for order in range(5)]
    modest = sequence(5, "modest", 400)
    small = sequence(6, "small", 10)
    chunks = scheduler.plan_batch(
        [*greedy, modest, small], n_batch=210, free_cells=10_000, prefill_limit=64
    )
    taken = {chunk.sequence.order: chunk.num_tokens for chunk in chunks}
    assert taken == {0: 100, 5: 100, 6: 10}


def test_where_prompts_are_alone_they_take_turns_with_the_decodes():
    running = [sequence(n, "a", 5, num_computed=4, num_output=1) for n in range(3)]
    running += [sequence(n, "b", 1_000) for n in (3, 4)]
    seen = []
    for step in range(12):
        chunks = scheduler.plan_batch(
            running, n_batch=64, free_cells=9_999, prefill_limit=64, prompts_alone=True
        )
        seen.append(tuple(chunk.sequence.order for chunk in chunks))
        for chunk in chunks:
            chunk.sequence.last_step = step
    assert seen == [(0, 1, 2), (3,), (4,)] * 4


def test_decodes_take_turns_when_a_batch_is_too_small_for_all():
    running = [sequence(n, "a", 5, num_computed=4, num_output=1) for n in range(5)]
    for step in range(100):
        for chunk in scheduler.plan_batch(running, n_batch=2, free_cells=99, prefill_limit=64):
            chunk.sequence.last_step = step
        # Five sequences, two at a time: nobody waits for more than three steps.
        assert all(step - one.last_step < 3 for one in running) or step < 2


@pytest.mark.parametrize("n_batch", [1, 2, 5])
def test_a_prompt_is_computed_though_streams_could_fill_every_batch(n_batch):
    running = [sequence(n, "a", 5, num_computed=4, num_output=1, batch=n > 2) for n in range(5)]
    running += [sequence(5, "b", 20, batch=True), sequence(6, "b", 20)]
    for step in range(200):
        for chunk in scheduler.plan_batch(running, n_batch=n_batch, free_cells=99, prefill_limit=9):
            chunk.sequence.last_step = step
            if not chunk.sequence.is_decoding:
                chunk.sequence.num_computed = min(19, chunk.start + chunk.num_tokens)
    # With one token a step, six share two hundred; and people do not wait for a table's prompt.
    assert [one.num_computed for one in running[5:]] == [19, 19]
    assert all(200 - one.last_step <= 7 for one in running)


def test_a_suspect_is_computed_alone():
    running = [sequence(n, "a", 5, num_computed=4, num_output=1) for n in range(4)]
    running[2].suspect = True
    chunks = scheduler.plan_batch(running, n_batch=64, free_cells=99, prefill_limit=64)
    assert [chunk.sequence.order for chunk in chunks] == [2]


def test_prompts_somebody_waits_for_go_first_and_an_eighth_is_for_tables():
    running = [sequence(0, "a", 400, batch=True), sequence(1, "b", 400), sequence(2, "c", 400)]
    chunks = scheduler.plan_batch(running, n_batch=80, free_cells=10_000, prefill_limit=64)
    assert {c.sequence.order: c.num_tokens for c in chunks} == {1: 35, 2: 35, 0: 10}
    modest = [sequence(0, "a", 400, batch=True), sequence(1, "b", 20)]
    chunks = scheduler.plan_batch(modest, n_batch=80, free_cells=10_000, prefill_limit=64)
    assert {c.sequence.order: c.num_tokens for c in chunks} == {1: 20, 0: 60}


def test_chunks_are_kept_short_only_while_somebody_reads_along():
    for batch, expected in ((False, 64), (True, 199)):
        running = [
            sequence(0, "a", 5, num_computed=4, num_output=1, batch=batch),
            sequence(1, "b", 400, batch=True),
        ]
        chunks = scheduler.plan_batch(running, n_batch=200, free_cells=999, prefill_limit=64)
        assert chunks[1].num_tokens == expected


def test_with_own_cells_rows_wait_for_prompts_and_prompts_are_whole():
    rows = [sequence(n, "a", 5, num_computed=4, num_output=1, batch=True) for n in range(3)]
    prompts = [sequence(n, "a", 90, batch=True) for n in (3, 4, 5)]
    limits = {"n_batch": 200, "free_cells": 9_999, "prefill_limit": 64, "own_cells": True}

    def taken(running):
        plan = scheduler.plan_batch(running, **limits)
        return {chunk.sequence.order: chunk.num_tokens for chunk in plan}

    assert taken(rows + prompts) == {3: 90, 4: 90}  # of the third there would have been 20
    # One that fits into no batch is cut as ever; and between clients none is left out.
    assert taken([*prompts[:2], sequence(6, "a", 900, batch=True)]) == {3: 90, 4: 90, 6: 20}
    assert taken([*prompts[:2], sequence(6, "b", 190, batch=True)]) == {3: 90, 4: 10, 6: 100}
    assert taken(rows) == {0: 1, 1: 1, 2: 1}
    # Somebody who reads along does not wait.
    reader = sequence(7, "a", 5, num_computed=4, num_output=1)
    assert taken([*rows, reader, *prompts]) == {0: 1, 1: 1, 2: 1, 7: 1, 3: 64}


def test_the_youngest_gives_way_rows_of_tables_first_and_never_the_only_one():
    running = [sequence(3, "a", 5), sequence(7, "b", 5), sequence(5, "a", 5)]
    assert scheduler.choose_victim(running) is running[1]
    assert scheduler.choose_victim(running[:1]) is None
    running += [sequence(1, "c", 5, batch=True), sequence(2, "c", 5, batch=True)]
    assert scheduler.choose_victim(running) is running[4]
    running[3].num_preempted = running[4].num_preempted = scheduler.PATIENCE
    assert scheduler.choose_victim(running) is running[1]


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


# --- batches of images -------------------------------------------------------------------------


def at_image(order, num_tokens, **more):
    """Return a sequence whose prompt is one image and a token behind it."""
    one = sequence(order, "c", num_tokens + 1, **more)
    span = ImageSpan(
        start=0, num_tokens=num_tokens, num_positions=num_tokens, image=Image(picture(order))
    )
    one.request = one.request.replace(images=(span,))
    one.images_end = num_tokens
    return one


def test_text_and_images_never_share_a_chunk() -> None:
    one = sequence(0, "c", 30)
    spans = [
        ImageSpan(start=start, num_tokens=5, num_positions=5, image=Image(picture()))
        for start in (4, 9)
    ]
    one.request = one.request.replace(images=tuple(spans))
    one.images_end = 14
    pieces = []
    while one.num_computed < 30:
        pieces.append((one.is_at_image, one.num_allowed))
        one.num_computed += one.num_allowed
    assert pieces == [(False, 4), (True, 5), (True, 5), (False, 16)]


def test_whole_images_are_taken_as_they_fit_and_in_turn() -> None:
    ready = [at_image(0, 30, last_step=7), at_image(1, 20), at_image(2, 30), at_image(3, 60)]

    def orders(n_batch, free_cells, some=ready):
        chunks = scheduler.plan_whole_images(some, most=n_batch, free_cells=free_cells)
        assert all(chunk.num_tokens == chunk.sequence.images_end for chunk in chunks)
        return [chunk.sequence.order for chunk in chunks]

    assert orders(64, 1000) == [1, 2]  # the next one is too long: it comes first next time
    assert orders(256, 1000) == [1, 2, 3, 0]
    assert orders(256, 25) == [1]
    assert orders(256, 10) == []
    ready[2].suspect = True
    assert orders(256, 1000) == [2]


def test_beside_a_stream_a_batch_of_an_image_is_as_short_as_one_of_a_prompt() -> None:
    ready = [at_image(0, 400)]
    known = {"n_batch": 512, "free_cells": 1000, "prefill_limit": 64}
    assert [chunk.num_tokens for chunk in scheduler.plan_batch(ready, **known)] == [400]
    assert [chunk.num_tokens for chunk in scheduler.plan_batch(ready, **known, watched=True)] == [
        64
    ]
