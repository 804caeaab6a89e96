"""Patterns mean what they mean to others: each automaton is held against Python's own `re`."""

from __future__ import annotations

import itertools
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_widgets.core.engine.grammar import charset, classes, pattern, pattern_language
from gguf_widgets.core.engine.grammar.automaton import Automaton, build, words
from gguf_widgets.core.engine.grammar.expression import Expressions

LETTERS = "ab0_ \n"
TEXTS = ["".join(text) for length in range(5) for text in itertools.product(LETTERS, repeat=length)]


def automaton(text: str, *, sure: bool = True) -> Automaton:
    make = Expressions()
    return build(make, pattern_language.matching(make, pattern.parse(text), sure=sure))


def in_python(text: str) -> re.Pattern[str]:
    # In Python, $ also matches in front of a last line break.
    return re.compile(re.sub(r"(?<!\\)\$", r"\\Z", text))


SINGLE = st.sampled_from(
    ["a", "b", "0", "_", " ", "[ab]", "[^a]", "[^\\s0]", "[a-b_]", ".", "\\d", "\\D", "\\w", "\\S"]
)  # fmt: skip
PLAIN = st.recursive(
    SINGLE,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda ways: f"(?:{'|'.join(ways)})"),
        st.tuples(
            inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,3}", "{2,}", "*?", "+?"])
        ).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=6,
)
PIECE = st.one_of(
    PLAIN,
    PLAIN,
    st.sampled_from(["^", "$"]),
    st.tuples(st.sampled_from(["(?=", "(?!"]), PLAIN, st.sampled_from(["", "$"])).map(
        lambda parts: f"{parts[0]}{parts[1]}{parts[2]})"
    ),
)
PATTERNS = st.lists(
    st.lists(PIECE, min_size=1, max_size=4).map("".join), min_size=1, max_size=2
).map("|".join)


@settings(max_examples=120)
@given(PATTERNS)
def test_random_patterns_find_what_python_finds(text: str) -> None:
    found, theirs = automaton(text), in_python(text)
    for candidate in TEXTS:
        assert found.accepts(candidate) == (theirs.search(candidate) is not None), candidate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "^$",
        "a|^b$|0$",
        "^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$",
        "(?=.*0)(?=.*b)^.{2,3}$",
        "a(^|b)0",
        "(^a|b$)?0",
        "^a*^b",
        "^(?:a|b)*?ab$",
        "^(?<name>a)(?:b)$",
        "^[\\]_^-]$",
        "^\\x61\\u0062\\u{30}$".replace("\\u{30}", "0"),
    ],
)
def test_awkward_patterns_too(text: str) -> None:
    theirs = in_python(text.replace("(?<name>", "(?P<name>"))
    found = automaton(text)
    for candidate in TEXTS:
        assert found.accepts(candidate) == (theirs.search(candidate) is not None), candidate


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("*a", "nothing for '*' to repeat"),
        ("a**", "cannot be repeated"),
        ("[b-a]", "wrong way round"),
        ("[a", "ends in the middle"),
        ("a{3,2}", "at least 3 and at most 2"),
        ("(a)\\1", "reference back"),
        ("(?<=a)b", "look-behind"),
        ("\\bword\\b", "\\b cannot be followed"),
        ("(?i)a", "kind of group"),
        ("^+a", "a position cannot be repeated"),
        ("(?:^a)*", "inside a repetition"),
        ("\\ud800", "half a character"),
        ("\\p{Klingon}", "general categories"),
        ("[[:alpha:]]", "read differently"),
        ("a" * 3000, "limit"),
        ("(" * 60 + ")" * 60, "nested deeper"),
    ],
)
def test_what_is_not_read_is_named(text: str, message: str) -> None:
    with pytest.raises(pattern.PatternError, match=re.escape(message)):
        automaton(text)


def test_a_class_is_sure_where_everybody_agrees_and_possible_where_anybody_does() -> None:
    checks = {r"\d": classes.digit(), r"\w": classes.word(), r"\s": classes.space()}
    for text, one in checks.items():
        others = classes.negated(one)
        unicode, narrow = re.compile(text), re.compile(text, re.ASCII)
        for code_point in itertools.chain(range(0xD800), range(0xE000, 0x20000)):
            char = chr(code_point)
            matches = {unicode.match(char) is not None, narrow.match(char) is not None}
            if charset.contains(one.sure, code_point):
                assert unicode.match(char), (text, char)
            if True in matches:
                assert charset.contains(one.possible, code_point), (text, char)
                assert not charset.contains(others.sure, code_point), (text, char)
            if charset.contains(others.sure, code_point) and text == r"\w":
                assert unicodedata.category(char)[0] not in "LMN", char


def test_categories_are_unicodes_own() -> None:
    letters = classes.category("L")
    assert letters is not None
    assert automaton(r"^\p{Lu}\p{Ll}+$").accepts("Éa")
    assert not automaton(r"^\p{Lu}\p{Ll}+$").accepts("éa")
    assert not automaton(r"^\P{L}$").accepts("é")
    assert classes.category("C") is None


@given(
    st.lists(st.text("ab", max_size=4), max_size=6),
    st.lists(st.text("ab", max_size=4), max_size=6),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_languages_are_cut_joined_and_subtracted_exactly(
    left: list[str], right: list[str], low: int, more: int
) -> None:
    make = Expressions()
    one, other = make.leaf(words(left)), make.leaf(words(right))
    every = make.everything
    for wanted, expected in (
        (make.both([one, other]), set(left) & set(right)),
        (make.either([one, other]), set(left) | set(right)),
        (make.both([one, make.no(other)]), set(left) - set(right)),
        (make.both([every, make.no(make.no(one))]), set(left)),
    ):
        found = build(make, wanted)
        cut = found.within(low, low + more)
        assert found.is_empty == (not expected)
        for text in ("".join(t) for n in range(5) for t in itertools.product("ab", repeat=n)):
            assert found.accepts(text) == (text in expected)
            assert cut.accepts(text) == (text in expected and low <= len(text) <= low + more)
    rest = build(make, make.no(one))
    assert all(rest.accepts(text) == (text not in left) for text in ("", "a", "ab", "c", "é", "bc"))
