from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.histories import ask, expected_text, make, run

from gguf_widgets.core.engine.lookup import DraftPolicy, N, NgramIndex


@given(tokens=st.lists(st.integers(0, 2), min_size=1, max_size=60), most=st.integers(1, 9))
def test_a_guess_is_what_followed_the_latest_earlier_place(tokens, most):
    index = NgramIndex()
    for length in range(1, len(tokens) + 1):
        now = tokens[:length]
        places = [end for end in range(N, length) if now[end - N : end] == now[-N:]]
        expected = now[places[-1] : places[-1] + most] if places and length >= N else []
        assert index.guess(now, most) == expected


def taught(cost, share_right, most=8) -> DraftPolicy:
    policy = DraftPolicy(most)
    for number in range(200):
        rows = 1 + number % 9
        policy.observe_step(rows, cost(rows))
        policy.observe_guess(8, 8 if share_right == 1 else 0 if share_right == 0 else number % 2)
    return policy


def test_guesses_are_made_where_a_batch_costs_little_more_than_a_row_and_they_are_right():
    flat, steep = (lambda rows: 0.020 + 0.0001 * rows), (lambda rows: 0.010 * rows)
    assert taught(flat, 1).length(1) == 8
    assert taught(flat, 0).length(1) == 0
    assert taught(steep, 1).length(1) == 0
    assert 1 <= taught(flat, 0.5).length(1) < 8  # long guesses are seldom right to their end


def test_things_are_tried_now_and_then_so_that_a_change_is_noticed():
    policy = taught(lambda rows: 0.010 * rows, 1)
    lengths = [policy.length(1) for _ in range(64)]
    assert sum(length > 0 for length in lengths) == 2
    assert not any(policy.length(8) for _ in range(64))  # but not where many would pay for it


def test_a_reply_is_the_same_with_guesses_and_takes_fewer_steps():
    def round_and_round(tokens, _):
        return 97 + len(tokens) % 7 + (len(tokens) % 50 == 0)  # and a slip now and then

    steps = {}
    for n_draft in (0, 8):
        engine = make(n_ctx=2048, script=round_and_round, n_draft=n_draft)
        engine._drafts.length = lambda _, n_draft=n_draft: n_draft
        ask(engine, "x", [1, 2, 3], max_tokens=400)
        reply = run(engine)["x"][-1].reply
        assert reply.text == expected_text([1, 2, 3], 400, 2048, round_and_round)
        steps[n_draft] = engine._num_steps
    assert steps == {0: 400, 8: steps[8]}
    assert steps[8] < 120


class Rows:
    """Counts the rows of each batch, of several sequences that repeat themselves."""

    def __init__(self, num_sequences, max_tokens, reproducible=False, **more) -> None:
        self.sizes: list[int] = []
        engine = make(n_ctx=1024, n_batch=256, n_draft=3, fault=self.see, script=in_a_ring, **more)
        engine._drafts.length = lambda _: 3
        for number in range(num_sequences):
            ask(
                engine,
                str(number),
                [97, 98, 99, 100, 101, 102, 103] * 2,
                max_tokens=max_tokens,
                reproducible=reproducible,
            )
        self.replies = [events[-1].reply for events in run(engine).values()]

    def see(self, rows) -> None:
        self.sizes.append(len(rows))


def in_a_ring(tokens, _) -> int:
    return 97 + (tokens[-1] - 96) % 7


def test_guesses_of_many_ask_for_no_more_logits_than_there_is_room_for():
    rows = Rows(4, 40)  # the backend has room for 4 + 3
    assert [reply.text for reply in rows.replies] == ["abcdefg" * 5 + "abcde"] * 4
    assert max(rows.sizes[2:]) == 7


def test_nothing_is_guessed_behind_the_longest_reply_there_may_be():
    assert Rows(1, 2).sizes == [14, 1]
    assert Rows(1, 4).sizes == [14, 3]


def test_nothing_is_guessed_where_it_could_not_be_taken_back_or_would_change_the_last_digits():
    assert Rows(1, 10, reproducible=True).sizes == [14] + [1] * 9
    assert Rows(1, 10, can_cut=False).sizes == [14] + [1] * 9
