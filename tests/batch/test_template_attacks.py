"""Templates that mean harm: none reaches anything of Python, runs for long or takes much memory.

Whatever slipped through would hang the process: the time limit of each test is what catches that.
"""

# ruff: noqa: E501, SIM905 - long templates, long lists of short words
from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_widgets.batch import template_jinja_budget
from gguf_widgets.batch.template import Template
from gguf_widgets.batch.template_jinja import JinjaText
from gguf_widgets.core.errors import InvalidValueError, RowError

pytestmark = pytest.mark.timeout(60)

BIG = "ab " * 3_500_000  # a cell of ten megabytes
ROW = {
    "s": "abc",
    "n": 3,
    "d": {"a": [1, {"b": 2}]},
    "big": BIG,
    "colliding": [number * (2**61 - 1) for number in range(50_000)],
    "deep": [[[[[1]]]]],
}
MEBIBYTE = 2**20


def fails(source, row=ROW):
    """Read and render a template that must be refused; return the error."""
    with pytest.raises((InvalidValueError, RowError)) as caught:
        rendered(source, row)
    return caught.value


def rendered(source, row=ROW):
    template = JinjaText(source)
    used = row if template.whole_row else {name: row.get(name, 0) for name in template.columns}
    return template.render(used, {})


def doubled(start, step, use):
    return (
        f"{{% set ns = namespace(a={start}, b={start}) %}}"
        f"{{% for i in range(200) %}}{{% set ns.a = {step} %}}"
        f"{{% set ns.b = {step.replace('ns.a', 'ns.b')} %}}{{% endfor %}}{use}"
    )


LISTS = [
    *(
        "{{ ns.a }}",
        "{{ ns.a == ns.b }}",
        "{{ ns.a|tojson }}",
        "{{ ns.a ~ '' }}",
        "{{ ns.a|sort }}",
    ),
    *("{{ ns.a in [ns.b] }}", "{{ [ns.a, ns.b]|max }}", "{{ [ns.a, ns.b]|unique }}"),
    *("{{ ns.a|join }}", "{{ '%s' % [ns.a] }}", "{{ ns.a is eq ns.b }}", "{{ ns.a|string }}"),
    *("{{ [ns.a].index(ns.b) }}", "{{ [ns.b].count(ns.a) }}", "{{ d.get(ns.a) }}", "{{ d[ns.a] }}"),
    *(
        "{{ {ns.a: 1} }}",
        "{{ ns.a in d }}",
        "{% for x in [1] %}{{ loop.changed(ns.a) }}{% endfor %}",
    ),
    "{% for x in [1, 2] %}{{ loop.changed(ns.a if x == 1 else ns.b) }}{% endfor %}",
]

TOO_MUCH = {
    "a billion turns": "{% for i in range(1000000000) %}x{% endfor %}",
    "a billion turns, worked out": "{% for i in range(10 ** 9) %}x{% endfor %}",
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops that print nothing": (
        "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}"
    ),
    "loops in a capture": (
        "{% set x %}{% for i in range(99999) %}{% for j in range(99) %}0123456789{% endfor %}"
        "{% endfor %}{% endset %}"
    ),
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a macro that calls itself twice": (
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(29) }}"
    ),
    "a caller that calls its macro": (
        "{% macro m() %}{{ caller() }}{% endmacro %}"
        "{% macro n() %}{% call m() %}{{ n() }}{% endcall %}{% endmacro %}{{ n() }}"
    ),
    "a long text by *": "{{ 'x' * 1000000000 }}",
    "a long list by *": "{{ [1] * 1000000000 }}",
    "a long list by *, turned around": "{{ 1000000000 * [1] }}",
    "a great power": "{{ 2 ** 1000000000 }}",
    "powers of powers": "{{ 9 ** (9 ** (9 ** 9)) }}",
    "a great product": doubled("99999999999", "ns.a * ns.a", "{{ ns.a }}"),
    "a wide format": "{{ '%1000000000d'|format(1) }}",
    "a wide format by %": "{{ '%.1000000000f' % 1.5 }}",
    "a wide format by *": "{{ '%*d' % (1000000000, 1) }}",
    "many wide formats": "{{ ('%(a)999d' * 20000)|format(a=1) }}",
    "a long value many times": "{{ ('%(a)s' * 1000)|format(a=s * 100000) }}",
    "center": "{{ s|center(1000000000) }}",
    "ljust": "{{ s.ljust(1000000000) }}",
    "zfill": "{{ s.zfill(1000000000) }}",
    "indent": "{{ s|indent(1000000000, true) }}",
    "indent many lines": "{{ ('\n' * 100000)|indent(1000) }}",
    "indent by a long text": "{{ ('a\n' * 10000)|indent('x' * 10000) }}",
    "replace": "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}",
    "replace between": "{{ ('a' * 100000)|replace('', 'b' * 100000) }}",
    "replace as a method": "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "join": "{{ range(100000)|join('x' * 100000) }}",
    "join as a method": "{{ ('x' * 100000).join(range(100000)) }}",
    "join one text many times": "{{ (['x' * 100000] * 100000)|join }}",
    "~": doubled("'x'", "ns.a ~ ns.a", ""),
    "+": doubled("'x'", "ns.a + ns.a", ""),
    "+ of lists": doubled("[1]", "ns.a + ns.a", ""),
    "sum of lists": "{{ (['x' * 100] * 1000)|map('list')|sum(start=[]) }}",
    "json of one text many times": "{{ (['x' * 100000] * 1000)|tojson }}",
    "printing one text many times": "{{ ['x' * 100000] * 1000 }}",
    "batch": "{{ [1]|batch(1000000000, 0) }}",
    "slice": "{{ [1]|slice(1000000000) }}",
    "split": "{{ big.split('b')|length + ('a' * 9999999).split('a')|length }}",
    "words of a long cell": "{{ big.split() }}",
    "title of a long cell": "{{ big|title }}",
    "lines of a long cell": "{{ ('\n' * 9999999).splitlines() }}",
    "a long cell, many times": "{% for i in range(1000) %}{% set x = big|upper %}{% endfor %}",
    "a long cell, looked through": "{% for i in range(99999) %}{{ 'q' in big }}{% endfor %}",
    "a long cell, compared": "{% for i in range(99999) %}{{ big == big ~ '' }}{% endfor %}",
    "a long cell, cut": "{% for i in range(99999) %}{% set x = big[1:] %}{% endfor %}",
    "searching backwards": "{{ ('a' * 4000000).rfind('b' ~ 'a' * 2000000) }}",
    "splitting backwards": "{{ ('a' * 4000000).rsplit('b' ~ 'a' * 2000000) }}",
    "stripping": "{{ ('a' * 4000000).strip('b' * 2000000 ~ 'a') }}",
    "trimming": "{{ ('a' * 4000000)|trim('b' * 2000000 ~ 'a') }}",
    "rounding": "{{ 5|round(0 - 1000000000) }}",
    "rounding up": "{{ 5.5|round(1000000000, 'ceil') }}",
    "a wide date": "{{ '2026'|int|string }}{{ d.a.strftime('%1000000000Y') }}",
    "deep lists": (
        "{% set ns = namespace(a=[], b=[]) %}{% for i in range(99999) %}{% set ns.a = [ns.a] %}"
        "{% set ns.b = [ns.b] %}{% endfor %}{{ ns.a == ns.b }}"
    ),
    "deep tuples as a key": (
        "{% set ns = namespace(a=()) %}{% for i in range(99999) %}{% set ns.a = (ns.a,) %}"
        "{% endfor %}{{ {ns.a: 1} }}"
    ),
    "deep tuples looked up": (
        "{% set ns = namespace(a=()) %}{% for i in range(99999) %}{% set ns.a = (ns.a,) %}"
        "{% endfor %}{{ d[ns.a] }}{{ d.get(ns.a) }}"
    ),
    "doubling by a macro's arguments": (
        "{% set ns = namespace(a=1) %}{% macro m() %}{% set ns.a = varargs %}{% endmacro %}"
        "{% for i in range(200) %}{{ m(ns.a, ns.a) }}{% endfor %}{{ ns.a }}"
    ),
    "all letters, all rows": "{% for a in big %}{% for b in big %}{% endfor %}{% endfor %}",
    "a prompt too long": "{% for i in range(99999) %}" + "0123456789" * 30 + "{% endfor %}",
    "a cell too long": "{{ big }}",
    **{f"doubled lists, {use}": doubled("[1]", "[ns.a, ns.a]", use) for use in LISTS},
    **{f"doubled tuples, {use}": doubled("(1,)", "(ns.a, ns.a)", use) for use in LISTS},
    **{
        f"doubled dicts, {use}": doubled("{}", "{'a': ns.a, 'b': ns.a}", use)
        for use in LISTS
        if use != "{{ ns.a|join }}"  # joins two keys
    },
}


@pytest.mark.parametrize("source", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_template_that_does_too_much_is_stopped(source):
    error = fails(source)
    assert len(error.message) < 1000
    assert "MemoryError" not in error.message
    assert "recursion" not in error.message


@pytest.mark.parametrize(
    "name",
    [
        *("a long text by *", "~", "+ of lists", "many wide formats", "a long cell, many times"),
        *("json of one text many times", "printing one text many times", "join", "replace"),
        *("words of a long cell", "split", "loops in a capture", "sum of lists", "slice"),
        *("join one text many times", "lines of a long cell", "a long value many times"),
    ],
)
def test_what_is_stopped_took_little_memory_until_then(name):
    fails("{{ 1 / 0 }}")  # what is loaded once is not counted
    tracemalloc.start()
    try:
        fails(TOO_MUCH[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 * MEBIBYTE


def test_lists_are_refused_before_python_itself_would_go_too_deep():
    assert "lists in lists, more than 60 deep" in fails(TOO_MUCH["deep lists"]).message


def test_time_is_looked_at_in_case_that_steps_cost_more_than_they_should(monkeypatch):
    monkeypatch.setattr(template_jinja_budget, "_MAX_CPU_S", -1.0)
    error = fails("{% for i in range(99999) %}{{ i }}{% endfor %}")
    assert "s of computing for one row" in error.message


def test_numbers_that_collide_in_a_set_cost_no_more_than_others():
    source = "{{ colliding|unique|length }} {{ colliding|sort|length }}"
    assert JinjaText(source).render({"colliding": ROW["colliding"]}, {}) == "50000 50000"


@pytest.mark.parametrize(
    "use",
    [
        "{{ big|truncate(12) }}",
        "{{ big[:9] }}",
        "{{ big|length }}",
        "{{ 'ab' in big }}",
        "{{ big.startswith('ab') }}",
        "{{ (big|upper|trim)[:5] }}",
        "{{ big.split(' ', 3)[:3]|join('-') }}",
        "{{ big.find('q') }}",
    ],
)
def test_a_long_cell_can_be_used_where_little_of_it_is_printed(use):
    assert len(JinjaText(use).render({"big": BIG}, {})) < 20


def test_a_long_loop_is_allowed():
    source = "{% for i in range(100000) %}{% if i % 20000 == 0 %}{{ i }} {% endif %}{% endfor %}"
    assert JinjaText(source).render({}, {}) == "0 20000 40000 60000 80000 "


ESCAPES = [
    "s.__class__",
    "s['__class__']",
    "s['__cla' ~ 'ss__']",
    "s|attr('__class__')",
    "[s]|map(attribute='__class__')|first",
    "[s]|map(attribute='__cla' ~ 'ss__')|first",
    "[s]|sort(attribute='__class__')",
    "[s]|selectattr('__class__')|list",
    "[s]|groupby('__class__')",
    "[s]|join(attribute='__class__')",
    "[s]|sum(attribute='__class__')",
    "s.upper.__self__",
    "s.upper['run']",
    "s.upper.run",
    "s.upper.owner",
    "s.upper.call()",
    "range.__globals__",
    "range.run",
    "namespace.run.__globals__",
    "namespace(a=1).__init__",
    "namespace(a=1)['__init__']",
    "'{0.__class__}'.format(s)",
    "s.format_map({})",
    "('%s' ~ s).format",
    "s.encode()",
    "s.translate({})",
    "s.expandtabs(1000000000)",
    "s.maketrans('a', 'b')",
    "n.real",
    "n.to_bytes(1000000000)",
    "n.bit_length()",
    "d.pop('a')",
    "d.update(b=1)",
    "d.a.append(1)",
    "d.clear()",
    "d.fromkeys(range(9))",
    "cycler('a')",
    "joiner()",
    "lipsum.__globals__",
    "self._TemplateReference__context",
    "self.__init__",
    "caller.__class__",
    "config",
    "get_flashed_messages.__globals__",
    "environment.loader",
    "context.parent",
    "undefined",
    "loop.__class__",
    "loop._iterable",
    "loop['_iterable']",
    "m._func",
    "m._environment",
    "m.name",
    "m['_func']",
    "m|attr('_func')",
    "row.__class__",
    "row['__class__']",
    "row|map(attribute='__class__')|list",
    "().__class__.__bases__",
    "''.__class__.__mro__",
    "{}.__class__",
    "1.5.__class__",
    "none.__class__",
    "true.__class__",
    "(s is string).__class__",
    "(range(3)).__class__",
    "d.items.owner",
    "d.keys().mapping",
    "s|pprint",
    "s|xmlattr",
    "s is callable",
    "s is filter",
    "s|map('attr', '__class__')|list",
]


@pytest.mark.parametrize("expression", ESCAPES)
def test_nothing_but_values_can_be_reached(expression):
    source = (
        "{% macro m() %}x{% endmacro %}{% for i in [1] %}{{ " + expression + " }}{{ loop.index }}"
        "{% endfor %}"
    )
    with pytest.raises((InvalidValueError, RowError)):
        asked(source)
    assert ROW["d"] == {"a": [1, {"b": 2}]}


def asked(source):
    template = Template.parse(source, "jinja")
    template.check(ROW)
    return template.render(ROW)


def test_a_template_cannot_change_the_row():
    row = {"d": {"a": [1]}, "words": ["b", "a"]}
    source = (
        "{{ words|sort }}{{ words|reverse }}{{ words + [1] }}{{ d|items }}{{ words|batch(3, 0) }}"
    )
    JinjaText(source).render(row, {})
    assert row == {"d": {"a": [1]}, "words": ["b", "a"]}


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 100_000 + " }}",
        "{{ " + "[" * 200 + "]" * 200 + " }}",
        "{{ " + "not " * 100_000 + "1 }}",
        "{{ " + "-" * 100_000 + "1 }}",
        "{{ " + "+".join(["1"] * 9000) + " }}",
        "{{ a" + ".b" * 9000 + " }}",
        "{{ a" + "|upper" * 9000 + " }}",
        "{{ a" + "[0]" * 6000 + " }}",
        "{{ " + "1 if 1 else " * 5000 + "1 }}",
        "{{ " + "9" * 100_000 + " }}",
        "{{ 1 " * 10_000,
        "{% if 1 %}" * 150 + "{% endif %}" * 150,
        "{% for i in [1] %}" * 30 + "{% endfor %}" * 30,
        "{% macro m() %}" * 120 + "{% endmacro %}" * 120,
        "{% set x %}" * 3000 + "{% endset %}" * 3000,
        "{{ a }}" * 100_000,
        "{# " * 300_000,
        "{% raw %}" * 100_000,
        "{{ '" * 200_000,
        "{{" * 400_000,
        "{%" + " " * 900_000,
        "{{ f(" + ", ".join(f"a{number}=1" for number in range(9000)) + ") }}",
    ],
    ids=lambda source: source[:25] + f"... ({len(source)})",
)
def test_a_template_that_is_too_deep_or_too_long_is_refused_when_it_is_read(source):
    with pytest.raises(InvalidValueError):
        JinjaText(source)


def test_what_is_too_much_for_every_row_is_refused_before_the_run():
    source = "{{ s }}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    Template.parse(source).check(["s"])  # comes after the row: it can only be told in the row
    with pytest.raises(InvalidValueError, match="Line 2 of the template does too much: more than"):
        Template.parse("first\n" + source.removeprefix("{{ s }}") + "{{ s }}").check(["s"])


ATOMS = st.sampled_from(
    "s n d big deep 1 0 -3 1.5 99999 '%s%9d' '' 'ab' none [1,'a'] (1,2) {'k':1} range(9) "
    "range(99999) true loop m ns row".split()
)
FILTERS = st.sampled_from(
    "abs batch capitalize center count d default dictsort first float format groupby indent int "
    "items join last length list lower map max min reject rejectattr replace reverse round select "
    "selectattr slice sort string sum title tojson trim truncate unique upper wordcount".split()
)
METHODS = st.sampled_from(
    "upper title split rsplit splitlines replace join center zfill find rfind count index strip "
    "startswith partition items keys get cycle changed strftime name format".split()
)
TESTS = st.sampled_from("odd even divisibleby eq lt in string mapping none defined upper".split())
SIGNS = st.sampled_from("+ - * / // % ** ~ == != < >= in and or".split())


def grown(inner):
    args = st.lists(inner, max_size=3).map(", ".join)
    return st.one_of(
        st.builds("({} {} {})".format, inner, SIGNS, inner),
        st.builds("({}|{}({}))".format, inner, FILTERS, args),
        st.builds("{}.{}({})".format, inner, METHODS, args),
        st.builds("({} is {}({}))".format, inner, TESTS, inner),
        st.builds("{}[{}]".format, inner, inner),
        st.builds("{}[{}:{}]".format, inner, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("{{{}: {}}}".format, inner, inner),
        st.builds("{}({})".format, inner, args),
    )


@pytest.mark.timeout(180)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.recursive(ATOMS, grown, max_leaves=12))
def test_any_expression_ends_in_a_text_or_in_an_error_of_ours(expression):
    source = (
        "{% set ns = namespace(a=1) %}{% macro m(a) %}{{ a }}{% endmacro %}"
        "{% for i in range(3) %}{{ " + expression + " }}{% endfor %}"
    )
    with contextlib.suppress(InvalidValueError, RowError):
        assert isinstance(rendered(source, {**ROW, "colliding": []}), str)
