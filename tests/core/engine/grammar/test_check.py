"""Grammars that people write: what passes is read as llama.cpp reads it, and llama.cpp takes it."""

from __future__ import annotations

import random
import re

import pytest

from gguf_widgets.core.engine import grammar
from gguf_widgets.core.engine.grammar import gbnf, readings
from gguf_widgets.core.engine.grammar.limits import MAX_GRAMMAR_BYTES
from gguf_widgets.core.errors import GrammarError, from_wire, to_wire

NUM_GRAMMARS = 500


def random_grammar(rng: random.Random) -> str:
    names = ["root", "a", "b-1", "c"][: rng.randrange(1, 5)]

    def item(name: str, depth: int) -> str:
        # Mostly rules that come later, so that not every grammar goes round in circles.
        later = names[names.index(name) + 1 :] if rng.random() < 0.9 else names
        kind = rng.randrange(10 if depth else 7)
        if kind < 3:
            return '"' + "".join(rng.choices(["x", "y", "\\n", '\\"', "\\x7A", "z"], k=2)) + '"'
        if kind < 5:
            return rng.choice(["[xy]", "[^xyz]", "[a-z]", "[x-z\\-]", "[y-]", "[\\]x]", "."])
        if kind < 7:
            return rng.choice(later or ['"y"'])
        return "(" + rng.choice(["", " ", "\n"]) + ways(name, depth - 1) + ")"

    def repeated(name: str, depth: int) -> str:
        times = ("", "", "", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "{ 1 , 3 }")
        return item(name, depth) + rng.choice(times)

    def ways(name: str, depth: int) -> str:
        lengths = [rng.randrange(1, 4) for _ in range(rng.randrange(1, 4))]
        return rng.choice([" | ", "|", " |\n  "]).join(
            " ".join(repeated(name, depth) for _ in range(length)) for length in lengths
        )

    rules = [f"{name} ::= {ways(name, 2)}" for name in names]
    text = rng.choice(["\n", " # a remark\n", "\n\n", "\r\n"]).join(rules) + "\n"
    if rng.random() < 0.3:  # a slip of the pen
        place = rng.randrange(len(text))
        text = text[:place] + rng.choice(["", "(", "|", "\\", "{", '"', "]"]) + text[place + 1 :]
    return text


def reads(text: str, candidate: str) -> bool:
    """Say whether a text is in the language of a grammar, as `gbnf` has read it."""
    machine = readings.Machine(gbnf.parse(text))
    found = machine.begin(machine.grammar.root)
    for char in candidate:
        found = machine.after(found, ord(char))
    return 0 in found


def passes(text: str) -> bool:
    try:
        grammar.check(text)
    except GrammarError as error:
        return error.details["line"] < 1  # it always has a place
    return True


def test_what_passes_is_taken_and_read_alike_by_llama_cpp(byte_walker) -> None:
    num_passed = num_in = num_out = 0
    for seed in range(NUM_GRAMMARS):
        rng = random.Random(seed)  # noqa: S311 - a grammar to repeat
        text = random_grammar(rng)
        if not passes(text):
            continue
        num_passed += 1
        # What does not pass is not shown to llama.cpp: it may not come back.
        assert byte_walker.loads(text), text
        candidates = ["".join(rng.choices("xyz\n-]a", k=rng.randrange(6))) for _ in range(6)]
        written = byte_walker.write(text, rng, 60)
        if written is not None:
            assert reads(text, written), (text, written)
            candidates.append(written[:-1])
        for candidate in candidates:
            if candidate.isascii():
                inside = byte_walker.accepts(text, candidate)
                assert inside == reads(text, candidate), (text, candidate)
                num_in += inside
                num_out += not inside
    assert num_passed > NUM_GRAMMARS // 6
    assert num_in > 20
    assert num_out > 200


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "no rule called 'root'"),
        ("root ::= thing", 1, 10, "no rule called 'thing'"),
        ('root = "a"', 1, 6, "'::=' is missing"),
        ('root ::= "a"\n\nroot ::= "b"', 3, 1, "defined twice"),
        ('root ::= "a"\n  | "b"', 2, 3, "at the end of the line before"),
        ('root ::= "a" b_c\nb ::= "x"', 1, 15, "'_' does not belong here"),
        ('root ::= ("a" | "b"', 1, 20, "')' is missing"),
        ('root ::= "a")', 1, 13, "')' does not belong here"),
        ('root ::= "a', 1, 12, "ends in the middle"),
        ('root ::= "\\d"', 1, 11, "'\\d' is no escape"),
        ('root ::= "\\x4"', 1, 11, "needs 2 hexadecimal digits"),
        ('root ::= "\\U00110000"', 1, 11, "no such character"),
        ('root ::= "\\ud800"', 1, 11, "no text can hold"),
        ("root ::= [b-a]", 1, 11, "wrong way round"),
        ("root ::= []", 1, 10, "a class of no characters"),
        ("root ::= * x", 1, 10, "nothing for '*' to repeat"),
        ('root ::= "a"{3,2}', 1, 13, "at least 3 and at most 2"),
        ('root ::= "a"{0,2001}', 1, 13, "2,001 repetitions; llama.cpp's limit is 2,000"),
        ('root ::= ("a"{0,50} b){0,50}\nb ::= "x"', 1, 23, "limit is 2,000"),
        ('root ::= "a"{x}', 1, 14, "a number is missing"),
        ("root ::= <[12a]>", 1, 10, "a token's number"),
        ("root ::= !x", 1, 11, "'<' is missing"),
        ('root ::= "a" \0', 1, 14, "cannot be in a grammar"),
        ('root ::= a "x"\na ::= root | "y"', 1, 1, "left recursion"),
        # llama.cpp does not see this one, and never comes back from it.
        ('root ::= e root "x" | "y"\ne ::= f\nf ::= "" | "z"', 1, 1, "left recursion"),
        ('root ::= ("a"? "b"*)+', 1, 21, "can be empty"),
        ('root ::= ("a"?){0,100}', 1, 16, "can be empty"),
        ('root ::= "(" root ")" | "(" root "]" | "x"', 1, 1, "too many ways at once"),
        ('root ::= "q" ("a" | "a" | [a-z])*', 1, 1, "too many ways at once"),
        ("root ::= " + "(" * 200 + '"a"' + ")" * 200, 1, 111, "nested deeper than 100"),
    ],
)
def test_what_does_not_pass_is_told_by_its_place(text, line, column, message) -> None:
    with pytest.raises(GrammarError, match=re.escape(message)) as caught:
        grammar.check(text)
    assert (caught.value.details["line"], caught.value.details["column"]) == (line, column)
    assert f"Line {line}, column {column}" in caught.value.message
    assert from_wire(to_wire(caught.value)).details == caught.value.details


def test_what_would_take_too_long_or_too_much_is_refused() -> None:
    doubling = "".join(f'r{n} ::= r{n + 1} "a" | r{n + 1} "b"\n' for n in range(40))
    long_chain = "".join(f"r{n} ::= r{n + 1}\n" for n in range(5_000))
    for text, message in (
        (f'root ::= r0\n{doubling}r40 ::= "x"', "ways to begin"),
        (f'root ::= r0\n{long_chain}r5000 ::= "x"', "deep"),
        ('root ::= "' + "a" * MAX_GRAMMAR_BYTES + '"', "bytes"),
        ('root ::= "' + "ab" * 500 + '"{2000}', "elements"),
    ):
        with pytest.raises(GrammarError, match=message):
            grammar.check(text)


def test_what_people_do_write_passes(byte_walker) -> None:
    lists = '# a list\nroot ::= line+\nline ::= "- " [^\\r\\n]+ "\\n"'
    sums = 'root ::= (s "=" t "\\n")+\ns ::= t ([-+*/] t)*\nt ::= n | "(" s ")"\nn ::= [0-9]+'
    data = 'root ::= o\nv ::= o | "[" (v ("," v)*)? "]" | [0-9]+\no ::= "{" (p ("," p)*)? "}"\n'
    for text, written in (
        ('root ::= "yes" | "no"', "no"),
        (lists, "- a\n- b\n"),
        (sums, "(1+2)*3=9\n"),
        (data + 'p ::= "\\"" [a-z]+ "\\":" v', '{"a":[1,{"b":2}],"c":{}}'),
        ("root ::= [\u3041-\u3096]+", "あい"),
        ("root ::= [^\\x00-\\x1F]{2,4}", "aé"),
    ):
        grammar.check(text)
        assert byte_walker.accepts(text, written), text
    grammar.check("root ::= <think> .* !<[7]> </think>")
