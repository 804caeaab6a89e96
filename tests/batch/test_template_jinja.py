"""Prompts in Jinja: that they mean what they mean to Jinja, and what differs on purpose."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import jinja2
import pandas as pd
import pytest
from hypothesis import assume, example, given, reject
from hypothesis import strategies as st
from jinja2 import meta

from gguf_widgets.batch.template_jinja import JinjaText
from gguf_widgets.batch.template_jinja_names import free_names
from gguf_widgets.core.errors import InvalidValueError, RowError

JINJA = jinja2.Environment(  # noqa: S701 - a prompt is not HTML
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
    extensions=["jinja2.ext.loopcontrols"],
)
VALUES = {
    "s": "the quick  brown-fox (jumps) [over]\nthe lazy dog\n",
    "t": "a,b,,c",
    "n": 7,
    "x": 2.5,
    "words": ["pear", "Apple", "fig", "apple", "Pear"],
    "people": [
        {"name": "Emma", "age": 30, "home": {"city": "Oslo"}},
        {"name": "Ben", "age": 25, "home": {"city": "oslo"}},
        {"name": "Ada", "age": 30, "home": {"city": "Rome"}},
    ],
    "d": {"b": 1, "A": 3, "c": 2},
    "empty": [],
    "yes": True,
}

# What plain Jinja and this package must print alike, each line a template.
# ruff: noqa: E501
SAME = """
{{ s|upper }}{{ s|lower }}{{ s|title }}{{ s|capitalize }}{{ s|trim }}{{ s|trim('th') }}|
{{ s|center(60) }}|{{ 'ab'|center }}|{{ s|length }} {{ words|count }}
{{ s|indent }}|{{ s|indent(2, true) }}|{{ s|indent(width='> ', first=true, blank=true) }}|
{{ s|truncate(20) }}|{{ s|truncate(20, true) }}|{{ s|truncate(20, end='…', leeway=0) }}|
{{ s|replace('the', 'a') }}{{ s|replace('the', 'a', 1) }}{{ s|replace('', '-', 3) }}
{{ s|wordcount }} {{ '%s is %d and %.2f, %5s|%-5s|%x'|format(t, n, x, 'a', 'b', 255) }}
{{ '%(a)s %(b)03d'|format(a=t, b=n) }} {{ '%s-%s' % (n, t) }} {{ '%d%%' % n }}
{{ words|join(', ') }} {{ words|join }} {{ people|join('/', attribute='home.city') }}
{{ words|sort|join(' ') }} {{ words|sort(true)|join(' ') }} {{ words|sort(case_sensitive=true)|join(' ') }}
{{ people|sort(attribute='age,name')|map(attribute='name')|join(' ') }}
{{ people|sort(attribute='age', reverse=true)|map(attribute='name')|join(' ') }}
{{ words|unique|join(' ') }} {{ words|unique(true)|join(' ') }} {{ people|unique(attribute='age')|map(attribute='name')|join(' ') }}
{% for key, value in d|dictsort %}{{ key }}={{ value }} {% endfor %}
{% for key, value in d|dictsort(by='value', reverse=true) %}{{ key }}={{ value }} {% endfor %}
{% for key, value in d|dictsort(true) %}{{ key }}={{ value }} {% endfor %}
{% for city, members in people|groupby('home.city') %}{{ city }}: {{ members|map(attribute='name')|join(', ') }}; {% endfor %}
{% for group in people|groupby('age') %}{{ group.grouper }}: {{ group.list|length }}; {% endfor %}
{% for part in range(10)|batch(4, 'x') %}{{ part|join(' ') }}; {% endfor %}
{% for part in range(10)|slice(4, 'x') %}{{ part|join(' ') }}; {% endfor %}
{{ words|first }} {{ words|last }} {{ words|reverse|join(' ') }} {{ t|reverse }} {{ t|list|join('.') }}
{{ words|min }} {{ words|max }} {{ people|max(attribute='age') == people[0] }} {{ range(5)|sum }} {{ people|sum('age') }}
{{ '12'|int + 1 }} {{ 'zz'|int(5) }} {{ 'ff'|int(base=16) }} {{ '1.9'|int }} {{ '1.5'|float * 3 }} {{ 'q'|float(2.5) }}
{{ x|round(1, 'floor') }} {{ 2.345|round(2) }} {{ -n|abs }} {{ n|string ~ x }}
{{ words|map('upper')|join(' ') }} {{ words|map('replace', 'p', 'P')|join(' ') }} {{ people|map(attribute='fax', default='-')|join }}
{{ range(6)|select('odd')|join(' ') }} {{ range(6)|reject('divisibleby', 3)|join(' ') }} {{ ['', 'a']|select|join }}
{{ people|selectattr('age', 'gt', 26)|map(attribute='name')|join(' ') }} {{ people|rejectattr('age', 'eq', 30)|map(attribute='name')|join }}
{{ d.nope|default('-') }}{{ ''|default('-', true) }}{{ ''|d('-') }} {{ d|items|list|length }}
{{ s.split() | length }} {{ t.split(',')|join('|') }} {{ t.split(',', 1)|join('|') }} {{ t.rsplit(',', 1)[0] }}
{{ s.splitlines()|length }} {{ t.partition(',')|join('|') }} {{ t.rpartition(',')|join('|') }} {{ ','.join(words) }}
{{ t.startswith('a,') }} {{ t.endswith(('x', 'c')) }} {{ t.find(',') }} {{ t.rfind(',') }} {{ t.count(',') }} {{ t.index('b') }}
{{ '7'.zfill(3) }} {{ 'a'.ljust(3) }}| {{ 'a'.rjust(3, '.') }} {{ 'ab'.removeprefix('a') }} {{ ' a '.strip() }}| {{ 'xax'.lstrip('x') }} {{ 'Ab'.swapcase() }}
{{ t.isalpha() }} {{ '12'.isdigit() }} {{ 'aa'.replace('a', 'b', 1) }} {{ words.index('fig') }} {{ words.count('fig') }}
{{ d.get('b') }} {{ d.get('zz', 'none') }} {{ d.keys()|sort|join }} {{ d.values()|sum }} {% for k, v in d.items() %}{{ k }}{{ v }}{% endfor %}
{{ s[4:9] }} {{ t[::-1] }} {{ words[-2:]|join(' ') }} {{ words[0][0] }} {{ people[0].home.city }} {{ people[1]['name'] }}
{{ n + 1 }} {{ n - 1 }} {{ n * 2 }} {{ n / 2 }} {{ n // 2 }} {{ n % 4 }} {{ n ** 2 }} {{ -n }} {{ +n }} {{ 'ab' * 3 }} {{ 'a' + 'b' }} {{ ([1] + [2] * 2)|join(' ') }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ n == 7.0 }} {{ n != 7 }} {{ 'fig' in words }} {{ 'zz' not in words }} {{ 'b' in d }} {{ 'qui' in s }} {{ not yes }} {{ yes and n > 3 or false }}
{{ 'a' if n > 3 else 'b' }}{{ 'a' if n > 30 }}|
{{ n is odd }} {{ n is even }} {{ n is divisibleby(7) }} {{ n is number }} {{ s is string }} {{ d is mapping }} {{ words is sequence }} {{ none is none }} {{ n is defined }} {{ d.nope is undefined }} {{ yes is true }} {{ yes is boolean }} {{ x is float }} {{ n is integer }} {{ n is eq 7 }} {{ n is in [7] }} {{ n is not gt 8 }} {{ t is lower }} {{ words is iterable }}
{% for w in words %}{{ loop.index }}/{{ loop.length }} {{ loop.first }} {{ loop.last }} {{ loop.revindex }} {{ loop.cycle('x', 'y') }} {{ loop.changed(w|lower) }} {{ loop.previtem|default('-') }} {{ loop.nextitem|default('-') }};{% endfor %}
{% for w in words if w != 'fig' %}{{ loop.index }}{{ w }}{% if loop.index == 3 %}{% break %}{% endif %}{% endfor %}
{% for w in words %}{% if w == 'fig' %}{% continue %}{% endif %}{{ w }} {% else %}none{% endfor %}{% for w in empty %}x{% else %}nothing{% endfor %}
{% for a in range(3) %}{% for b in range(a) %}{{ a }}{{ b }}{{ loop.depth }} {% endfor %}{% endfor %}{% for c in 'abc' %}{{ c }}-{% endfor %}
{% set total = namespace(n=0) %}{% for p in people %}{% set total.n = total.n + p.age %}{% endfor %}{{ total.n }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set note %}N{{ n }}{% endset %}{{ note }}{% with q = n + 1 %}{{ q }}{% endwith %}
{% macro item(word, mark='*') %}{{ mark }} {{ word }}{{ varargs|join }}{{ kwargs|join }}{% endmacro %}{{ item('a') }}{{ item('b', mark='-') }}{{ item('c', '+', 'd', z=1) }}
{% macro box(title) %}[{{ title }}: {{ caller('in') }}]{% endmacro %}{% call(word) box('T') %}{{ word }}{{ n }}{% endcall %}
{% macro count(n) %}{{ n }}{% if n > 0 %}{{ count(n - 1) }}{% endif %}{% endmacro %}{{ count(5) }}
{% filter upper %}abc {{ t }}{% endfilter %}{# a comment #}{% raw %}{{ raw }}{% endraw %} {"a": 1} {{ '{{' }}
{% if n > 10 %}big{% elif n > 5 %}middle{% else %}small{% endif %}{{ dict(a=1).a }} {{ {'k': 'v'}.k }} {{ (1, 2)|join }}
{{- n -}} x {%- if yes %} y {%- endif %}
"""


@pytest.mark.parametrize("source", [line for line in SAME.splitlines() if line])
def test_a_template_prints_what_jinja_prints(source):
    template = JinjaText(source)
    theirs = JINJA.from_string(source).render(VALUES)
    assert template.render({name: VALUES[name] for name in template.columns}, {}) == theirs


@given(st.text(), st.integers(-3, 60), st.text(max_size=3))
def test_text_filters_are_jinjas_on_any_text(text, number, part):
    for source in (
        "{{ s|title }}|{{ s|wordcount }}|{{ s|trim(p) }}|{{ s|replace(p, '.') }}|{{ s|upper }}",
        "{{ s|indent(n) }}|{{ s|indent(p, true, true) }}|{{ s|center(n) }}|{{ s|truncate(20, n > 5) }}",
        "{{ s[n:] }}|{{ s[:n] }}|{{ s.find(p) }}|{{ s.count(p) }}|{{ s|reverse }}|{{ s.strip(p) }}",
    ):
        values = {"s": text, "n": number, "p": part}
        mine = JinjaText(source).render(values, {})
        assert mine == JINJA.from_string(source).render(values)


def test_values_print_as_they_do_in_a_format():
    source = (
        "{{ x }} {{ day }} {{ items }} {{ yes }} {{ [x, none]|tojson }} {{ {'a': '<é>'}|tojson }}"
    )
    values = {"x": 3.0, "day": pd.Timestamp("2026-03-01"), "items": ["a", 2.0], "yes": True}
    assert JinjaText(source).render(values, {}) == (
        '3 2026-03-01 ["a", 2] True [3, null] {"a": "<é>"}'
    )


def test_what_is_missing_prints_as_nothing_and_is_false():
    source = (
        "{{ note }}|{% if note %}x{% else %}y{% endif %}|{{ note or 'no note' }}|{{ note is none }}"
    )
    assert JinjaText(source).render({"note": None}, {"note": None}) == "|y|no note|True"
    assert JinjaText(source).render({"note": None}, {"note": "?"}) == "?|x|?|False"


def test_dates_have_their_parts_and_nothing_else():
    source = "{{ d.year }} {{ d.month }} {{ d.weekday() }} {{ d.strftime('%d.%m.%y') }} {{ (d - e).days }}"
    values = {"d": dt.date(2026, 3, 1), "e": dt.date(2026, 2, 1)}
    assert JinjaText(source).render(values, {}) == "2026 3 6 01.03.26 28"
    with pytest.raises(RowError, match='asks for "resolution", which a date lacks'):
        JinjaText("{{ d.resolution }}").render(values, {})


def test_lines_that_hold_only_a_tag_leave_no_empty_line():
    source = "Items:\n{% for i in items %}\n  - {{ i }}\n{% endfor %}\nDone\n"
    assert JinjaText(source).render({"items": [1, 2]}, {}) == "Items:\n  - 1\n  - 2\nDone\n"


# Columns.


@pytest.mark.parametrize(
    ("source", "columns", "whole_row"),
    [
        ("{{ b }}{{ a }}{{ b }}", ["b", "a"], False),
        ("{{ row['customer name'] }}{{ row.note }}{{ row.get('x', 1) }}", None, False),
        ("{% for name, value in row.items() %}{{ name }}{% endfor %}", [], True),
        ("{{ row[key] }}", ["key"], True),
        ("{{ row|tojson }}", [], True),
        ("{{ row.note }}{{ row|length }}", ["note"], True),
        ("{% for a in b %}{{ a }}{{ loop.index }}{% endfor %}{{ a }}", ["b", "a"], False),
        ("{% if a %}{% set b = 1 %}{% else %}{% set b = 2 %}{% endif %}{{ b }}", ["a"], False),
        ("{% if a %}{% set b = 1 %}{% endif %}{{ b }}", ["a", "b"], False),
        (
            "{% macro m(a) %}{{ a }}{{ later }}{{ c }}{% endmacro %}{% set later = 1 %}",
            ["c"],
            False,
        ),
        ("{{ range(3) }}{{ namespace }}{{ dict }}{{ true }}{{ none }}", [], False),
        ("{% set ns = namespace(a=b) %}{% set ns.a = c %}{{ ns.a }}", ["b", "c"], False),
        ("{% raw %}{{ a }}{% endraw %}{# {{ b }} #}", [], False),
        ("{{ x|map('upper') }}{{ y is string }}{{ f(z=w) }}", ["x", "y", "f", "w"], False),
    ],
)
def test_the_columns_that_a_template_uses(source, columns, whole_row):
    template = JinjaText(source)
    if columns is None:
        assert set(template.columns) == {"customer name", "note", "x"}
    else:
        assert list(template.columns) == columns
    assert template.whole_row is whole_row


def test_any_column_can_be_had_by_its_name_in_the_row():
    values = {"customer name": "Emma", "range": 3, "_id": 7, "items": 2}
    source = "{{ row['customer name'] }} {{ row['range'] }} {{ row['_id'] }} {{ row['items'] }}"
    assert JinjaText(source).render(values, {}) == "Emma 3 7 2"


NAMES = st.sampled_from("abcd")
EXPRESSIONS = NAMES.map(lambda name: f"{{{{ {name} }}}}")
SETS = st.builds(lambda a, b: f"{{% set {a} = {b} ~ '.' %}}", NAMES, NAMES)


def blocks(inner):
    body = st.lists(inner, max_size=4).map("".join)
    return st.one_of(
        body,
        st.builds(
            lambda a, x, y: f"{{% if {a} != '2' %}}{x}{{% else %}}{y}{{% endif %}}",
            NAMES,
            body,
            body,
        ),
        st.builds(lambda a, x: f"{{% if {a} == '1' %}}{x}{{% endif %}}", NAMES, body),
        st.builds(
            lambda a, b, x: f"{{% for {a} in [{b}, 'i'] %}}{x}{{% endfor %}}", NAMES, NAMES, body
        ),
        st.builds(lambda a, b, x: f"{{% with {a} = {b} %}}{x}{{% endwith %}}", NAMES, NAMES, body),
        st.builds(lambda a, x: f"{{% set {a} %}}{x}{{% endset %}}", NAMES, body),
        st.builds(lambda x: f"{{% filter upper %}}{x}{{% endfilter %}}", body),
    )


EVERYTHING = {name: str(number) for number, name in enumerate("abcd")}


def jinjas_text(source, values):
    try:
        return JINJA.from_string(source).render(values)
    except jinja2.UndefinedError:
        return None  # a name is used before it is set; some of these only a row can show


@given(st.recursive(EXPRESSIONS | SETS, blocks, max_leaves=25))
@example("{% set a %}{{ a }}{% endset %}")
@example("{% if a == '1' %}{% set b = 'x' %}{% else %}{% set b = 'y' %}{% endif %}{{ b }}")
def test_a_name_that_is_not_a_column_never_matters(source):
    tree = JINJA.parse(source)
    free, _ = free_names(tree)
    text = jinjas_text(source, EVERYTHING)
    if not set(free) <= meta.find_undeclared_variables(tree):
        with pytest.raises(InvalidValueError, match="before it sets it"):
            JinjaText(source)
        return
    assume(text is not None)
    only_free = {name: EVERYTHING[name] for name in free}
    # Jinja's own word for it: with or without the names that are not free, the text is the same.
    assert jinjas_text(source, only_free) == text
    template = JinjaText(source)
    assert set(template.columns) == set(free)
    assert template.render(only_free, {}) == text


# What all rows share.


@pytest.mark.parametrize(
    ("source", "shared"),
    [
        ("Label: {{ s }} x", "Label: "),
        (
            "{% set labels = ['a', 'b'] %}Choose {{ labels|join(' or ') }}: {{ s }}",
            "Choose a or b: ",
        ),
        ("A {% if s is defined %}B{% endif %} {{ s }}", "A B "),
        ("A {% if s %}B{% endif %}", "A "),
        ("{% for i in range(3) %}{{ i }}{% endfor %}{{ s|upper }}", "012"),
        ("{% for i in s %}{{ i }}{% endfor %}", ""),
        ("A{% for i in range(3) %}{{ i }}{{ s }}{% endfor %}", "A0"),
        ("A{{ row['s'] }}", "A"),
        ("A{% for k in row %}{% endfor %}", "A"),
        ("A{{ [s]|length }}{{ s ~ 'x' }}", "A1"),
        ("A{{ 1 == s }}", "A"),
        ("A{{ {'a': s} }}", "A"),
        ("A{{ 'x'.center(s) }}", "A"),
        ("A{{ range(s) }}", "A"),
        ("A{{ -s }}", "A"),
        ("A{{ s() }}", "A"),
        ("A{{ 'abc'[s] }}{{ 'abc'[s:] }}", "A"),
        ("A{{ loop.cycle }}", "A"),
    ],
)
def test_what_is_shared_ends_where_the_row_begins(source, shared):
    assert JinjaText(source).shared_beginning() == (shared, False)


def test_a_template_without_columns_is_shared_in_whole():
    assert JinjaText("{% for i in range(2) %}{{ i }}{% endfor %}.").shared_beginning() == (
        "01.",
        True,
    )


@given(st.recursive(EXPRESSIONS | SETS | st.text("xy"), blocks, max_leaves=15))
def test_every_row_begins_with_what_is_shared(source):
    assume(jinjas_text(source, EVERYTHING) is not None)
    try:
        template = JinjaText(source)
    except InvalidValueError:  # the test above says when
        reject()
    shared, is_all = template.shared_beginning()
    for values in (EVERYTHING, dict.fromkeys("abcd", "1"), dict.fromkeys("abcd", 5)):
        text = template.render({name: values[name] for name in template.columns}, {})
        assert text.startswith(shared)
        assert text == shared or not is_all


# What is refused, and where it is said to be.


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("a\n{{ foo( }}", 2, r"line 2\): unexpected '}', expected '\)'\. The line reads: \{\{ foo"),
        ("a\n\n{% if x %}", 3, "Unexpected end of template.*'endif'"),
        ("{% foo %}", 1, "unknown tag 'foo'"),
        ("{{ a b }}", 1, "expected token 'end of print statement'"),
        ("x\n{% include 'a' %}", 2, "include.* not possible"),
        ("{% import 'a' as b %}", 1, "import.* not possible"),
        ("{% from 'a' import b %}", 1, "from.* not possible"),
        ("{% extends 'a' %}", 1, "extends.* not possible"),
        ("{% block a %}{% endblock %}", 1, "block.* means nothing"),
        ("{% autoescape true %}{% endautoescape %}", 1, "not HTML"),
        ("{% for a in b recursive %}{{ loop(a) }}{% endfor %}", 1, "calls itself"),
        ("{{ a|upcase }}", 1, 'no filter called "upcase".*filters are: abs, '),
        ("{{ a|tojsn }}", 1, 'did you mean "tojson"'),
        ("{{ a|random }}", 1, "no filter"),
        ("{% if x %}{{ a is foo }}{% endif %}", 1, 'no test called "foo".*tests are: '),
        ("{{ f(*a) }}", 1, r"\* or \*\*"),
        ("{{ f(a=1, a=2) }}", 1, "given twice"),
        ("{{ f(_loop_vars=1) }}", 1, "begins with _"),
        ("{{ '{}'.format(a) }}", 1, r"no \.format\(\)"),
        ("{% for row in rows %}{% endfor %}", 1, '"row" stands for the whole row'),
        ("{% set row = 1 %}", 1, '"row" stands for'),
        ("{% macro row() %}{% endmacro %}", 1, '"row" stands for'),
        ("{{ self }}", 1, r'row\["self"\]'),
        ("{{ ﬁ }}", 1, "second form"),
        ("{{ 1e999 }}", 1, "too large"),
        ("\n{% for i in range(1000000000) %}{% endfor %}", 2, "range of more than 100,000"),
        ("{{ range(5) }}{{ range(5, 1000000, 2) }}", 1, "range of more than"),
    ],
)
def test_what_is_not_possible_is_refused_by_its_line(source, line, words):
    with pytest.raises(InvalidValueError, match=words) as caught:
        JinjaText(source)
    assert caught.value.details["line"] == line


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("n / 0", "Line 2 of the template divides by zero"),
        ("s > n", r'cannot compare the text "abc" with the number 7.*score\|float'),
        ("n > nothing", "cannot compare the number 7 with a missing value.*is not none"),
        (
            "s + n",
            'cannot work out the text "abc" \\+ the number 7. To put texts together, write ~',
        ),
        ("s.colour", 'asks for "colour", which the text "abc" lacks'),
        ("d.colour", 'asks for "colour", which a dict lacks'),
        ("d.items", 'function "items".*write \\["items"\\]'),
        ("s.upper", 'function "upper"'),
        ("s()", 'calls the text "abc", which is no function'),
        ("words[7]", 'asks for "7", which a list lacks'),
        ("words['a']", 'asks for "a"'),
        ("words|sort|first + 1", "cannot be compared|cannot work out"),
        ("nothing|first", "has no length"),
        ("s|abs", r"needs a number and got the text \"abc\". Write \|float"),
        ("n|items", "needs a dict"),
        ("words|map('nope')", "a filter that there is not"),
        ("words|select('nope')", "a test that there is not"),
        ("words|map", "neither a filter nor an attribute"),
        ("[]|max", "of nothing"),
        ("'%d'|format(s)", "fails on this row: %d format"),
        ("loop.index", "is undefined|asks for"),
        ("namespace(a=1)", "uses namespace as if it were a value"),
        ("[namespace(a=1)]", "uses namespace as if it were a value"),
        ("5[0]", 'asks for "0", which the number 5 lacks'),
        ("n is odd(1)", '"odd" other arguments than it takes'),
        ("s|upper(1)", '"upper" other arguments than it takes'),
        ("range()", "fails on this row: range expected"),
        ("d.get()", '"get" other arguments than it takes'),
        ("namespace(1)", '"namespace" other arguments than it takes'),
        ("{words: 1}", "has a list as a key"),
        ("d[words]", "by a key that is no text"),
    ],
)
def test_what_fails_in_a_row_is_told_by_its_line(expression, words):
    values = {"n": 7, "s": "abc", "d": {"a": 1}, "words": ["b", 2], "nothing": None, "loop": {}}
    template = JinjaText("first line\n{{ " + expression + " }}")
    with pytest.raises(RowError, match=words) as caught:
        template.render(values, {"nothing": None})
    assert caught.value.details["line"] == 2


def test_a_loop_over_what_is_missing_says_what_to_write():
    with pytest.raises(RowError, match=r"in parts or \[\]"):
        JinjaText("{% for part in parts %}{% endfor %}").render({"parts": None}, {"parts": None})


def test_the_same_template_renders_in_many_threads():
    template = JinjaText("{% for i in range(50) %}{{ s }}{{ loop.index }}{% endfor %}")

    def text(number):
        return template.render({"s": str(number)}, {})

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(text, range(200)))
    assert texts == ["".join(f"{n}{i + 1}" for i in range(50)) for n in range(200)]
