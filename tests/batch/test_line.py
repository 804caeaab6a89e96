"""Where several places answer, the question that kills is found and the others go on."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import hypothesis.strategies as st
import pytest

from gguf_widgets.batch.line import Line
from gguf_widgets.batch.question import Answer, Question


def question(number: int) -> Question:
    return Question(number, f"{number:032x}", [], {}, lambda _reply: Answer({}))


def numbers(line: Line, place: str, flying: int, most: int = 100) -> Iterator[int]:
    for taken in range(most):
        item = line.next(place, flying + taken)
        if item is None:
            return
        assert isinstance(item, Question)
        yield item.number


def test_one_place_is_emptied_for_a_suspect_and_the_others_go_on() -> None:
    questions = [question(i) for i in range(20)]
    line = Line(questions, {})
    at_a = list(numbers(line, "a", 0, 3))
    for _ in range(2):
        assert not line.died([questions[i] for i in at_a], "a")
        if line.deaths(0) < 2:
            assert list(numbers(line, "a", 0, 3)) == at_a
    # Three suspects. "b" has something to do, so it is kept free from now on; "c" goes on.
    assert list(numbers(line, "b", 2)) == []
    assert list(numbers(line, "c", 1, 4)) == [3, 4, 5, 6]
    assert list(numbers(line, "b", 1)) == []
    assert list(numbers(line, "b", 0, 5)) == [0], "alone"
    assert list(numbers(line, "b", 1)) == []
    assert list(numbers(line, "c", 4, 1)) == [], "now this one is emptied for the next"
    line.keep_to(["b", "d"])  # "c" was lost: another takes its turn
    assert list(numbers(line, "d", 1)) == []
    assert list(numbers(line, "d", 0, 1)) == [1]
    assert line.died([questions[0]], "b") == []
    assert list(numbers(line, "b", 0, 1)) == [2]
    assert list(numbers(line, "d", 0, 1)) == [0]
    assert line.died([questions[0]], "d") == [questions[0]], "twice alone"


def test_a_suspect_that_is_given_back_stays_one() -> None:
    one, two = question(0), question(1)
    line = Line([one, two], {0: 2})
    assert list(numbers(line, "a", 0, 1)) == [0]
    line.put_back(one)
    assert list(numbers(line, "a", 1)) == [], "not beside another"
    assert list(numbers(line, "a", 0)) == [0]
    assert line.attempts(0) == 1


def test_thousands_of_suspects_of_an_earlier_session_wait_for_a_place_of_their_own() -> None:
    line = Line([question(i) for i in range(3001)], dict.fromkeys(range(3000), 2))
    assert list(numbers(line, "a", 3)) == [], "it is emptied"
    assert list(numbers(line, "b", 3, 1)) == [3000], "the only one that is none"
    assert list(numbers(line, "a", 0)) == [0]


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=200)
def test_whatever_dies_where_every_question_is_answered_or_out_and_only_poison_is_out(
    data: st.DataObject,
) -> None:
    num = data.draw(st.integers(1, 25))
    poison = data.draw(st.sets(st.integers(0, num - 1), max_size=3))
    questions = [question(i) for i in range(num)]
    line = Line(questions, {})
    flying: dict[str, list[Question]] = {"a": [], "b": [], "c": []}
    done: set[int] = set()
    out: set[int] = set()
    for _ in range(2000):
        place = data.draw(st.sampled_from(sorted(flying)))
        here = flying[place]
        if here and any(one.number in poison for one in here) and data.draw(st.booleans()):
            out |= {one.number for one in line.died(here, place)}
            flying[place] = []
        elif len(here) < 4 and (item := line.next(place, len(here))) is not None:
            assert isinstance(item, Question)
            here.append(item)
        elif here:
            at = next((i for i, one in enumerate(here) if one.number not in poison), None)
            if at is None:
                out |= {one.number for one in line.died(here, place)}
                flying[place] = []
            else:
                number = here.pop(at).number
                assert number not in done
                done.add(number)
        if line.done and not any(flying.values()):
            break
    else:
        pytest.fail("it has no end")
    assert out == poison
    assert done == set(range(num)) - poison
