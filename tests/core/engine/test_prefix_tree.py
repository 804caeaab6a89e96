from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_widgets.core.engine.cells import Cells
from gguf_widgets.core.engine.prefix_tree import PrefixTree, common_length

texts = st.lists(st.integers(0, 2), max_size=12)
long_texts = st.builds(lambda a, n, b: a * n + b, texts, st.integers(0, 60), texts)


@given(ours=long_texts, theirs=long_texts)
def test_the_common_length_is_what_it_says(ours, theirs):
    length = common_length(ours, theirs)
    assert ours[:length] == theirs[:length]
    assert length == min(len(ours), len(theirs)) or ours[length] != theirs[length]


@given(
    moves=st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), long_texts)), max_size=40),
    asked=long_texts,
)
@settings(max_examples=300)
def test_a_tree_finds_what_comparing_everything_with_everything_finds(moves, asked):
    tree, paths = PrefixTree(), {}
    for slot, tokens in moves:
        if tokens is None:
            tree.remove(slot)
            paths.pop(slot, None)
        else:
            tree.insert(slot, tokens)
            paths[slot] = tokens
        assert dict(tree.matches(asked)) == {
            slot: common_length(path, asked)
            for slot, path in paths.items()
            if common_length(path, asked)
        }
        lengths = [length for _, length in tree.matches(asked)]
        assert lengths == sorted(lengths, reverse=True)
        for one, path in paths.items():
            others = [common_length(path, other) for slot, other in paths.items() if slot != one]
            assert tree.num_shared(one) == max(others, default=0)
    for slot in list(paths):
        tree.remove(slot)
    assert not tree._root.children  # nothing stays behind


class PlainCells:
    """The same account kept with sets: which slots hold which tokens' cells."""

    def __init__(self, n_slots):
        self.slots = [[] for _ in range(n_slots)]
        self.idle = set()
        self.next = 0

    def held(self):
        return {cell for cells in self.slots for cell in cells}

    def busy(self):
        return {c for n, cells in enumerate(self.slots) if n not in self.idle for c in cells}


@given(
    moves=st.lists(
        st.tuples(
            st.sampled_from("gscib"), st.integers(0, 3), st.integers(0, 3), st.integers(0, 9)
        ),
        max_size=60,
    )
)
@settings(max_examples=300)
def test_cells_are_counted_as_sets_count_them(moves):
    cells, plain = Cells(40, 4), PlainCells(4)
    for move, slot, other, count in moves:
        length = len(plain.slots[slot])
        if move == "g" and slot not in plain.idle and count <= cells.num_free:
            cells.grow(slot, count)
            plain.slots[slot] += range(plain.next, plain.next + count)
            plain.next += count
        elif move == "s" and slot not in plain.idle and slot != other:
            end = min(length + count, len(plain.slots[other]))
            cells.share(other, slot, end)
            plain.slots[slot] += plain.slots[other][length:end]
        elif move == "c":
            cells.cut(slot, min(count, length))
            del plain.slots[slot][count:]
        elif move in "ib":
            cells.set_idle(slot, move == "i")
            (plain.idle.add if move == "i" else plain.idle.discard)(slot)
        assert cells.num_free == 40 - len(plain.held())
        assert cells.num_idle == len(plain.held() - plain.busy())
        for n, end in ((slot, count), (other, 99)):
            assert cells.num_idle_of(n, end) == len(set(plain.slots[n][:end]) - plain.busy())
        assert [cells.num_held(n) for n in range(4)] == [len(one) for one in plain.slots]
