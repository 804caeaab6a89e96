"""What models write: formatted, and inert whatever it holds."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.html_checker import text_of

from gguf_widgets.widgets import _md_code
from gguf_widgets.widgets._md_clean import printable
from gguf_widgets.widgets.markdown import to_blocks, to_html

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
