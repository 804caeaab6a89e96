from __future__ import annotations

import os
import subprocess
import sys
import threading
from time import perf_counter

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_projector import picture

from gguf_widgets.core.engine import chat_template, template_renderer
from gguf_widgets.core.engine.chat_template import CHATML, ChatTemplate
from gguf_widgets.core.errors import ChatTemplateError, ImageError, InvalidValueError
from gguf_widgets.core.images import Image

CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|im_end|>!")
HELLO = [{"role": "user", "content": "Hello"}]
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  Hello <b>&</b>  "},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "日本"},
]
LOOP = (
    "{% for m in messages %}\n  {% if loop.first %}{% continue %}{% endif %}\n"
    "{{ m.role }}\n  {% if loop.index == 3 %}{% break %}{% endif %}\n{% endfor %}"
)
COUNT = (
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    "{{ ns.n }}"
)


@pytest.fixture
def template():
    opened = []

    def open_it(source, **more) -> ChatTemplate:
        opened.append(ChatTemplate(source, "<s>", "</s>", control_texts=CONTROL, **more))
        return opened[-1]

    yield open_it
    for one in opened:
        one.close()


def test_the_plain_template_writes_chatml_and_says_that_it_stands_in(template):
    plain = template(None)
    assert plain.render(TALK[:2]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n  Hello <b>&</b>  <|im_end|>\n<|im_start|>assistant\n"
    )
    assert plain.render(HELLO, add_generation_prompt=False).endswith("<|im_end|>\n")
    assert "no chat template" in plain.note
    assert plain.stop == ()  # this model has the marks as tokens
    chosen = ChatTemplate("chatml")
    assert (chosen.note, chosen.source) == (None, CHATML)
    assert "<|im_end|>" in chosen.stop  # this one would write them as text, without an end


@pytest.mark.parametrize(
    ("source", "text"),
    [
        # What templates on Hugging Face use.
        ("{{ bos_token }}{{ messages[0].content | trim }}{{ eos_token }}", "<s>Be brief.</s>"),
        ("{{ messages[1].content | trim | tojson }}", '"Hello <b>&</b>"'),
        ("{{ messages[3] | tojson }}", '{"role": "user", "content": "日本"}'),
        ("{{ {'b': 1, 'a': [2]} | tojson(indent=1) }}", '{\n "b": 1,\n "a": [\n  2\n ]\n}'),
        (LOOP, "user\nassistant\n"),
        ("{% generation %}a{{ 1 + 1 }}{% endgeneration %}b", "a2b"),
        (COUNT, "4"),
        ("{{ tools is none }}{{ undefined_name is defined }}", "TrueFalse"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{{ messages[0]['content'].split(' ')[-1].startswith('b') }}", "True"),
    ],
)
def test_templates_have_what_hugging_face_gives_them(template, source, text):
    assert template(source).render(TALK) == text


@pytest.mark.parametrize(
    ("source", "problem", "message"),
    [
        ("{% for m in messages %}\n\n{{ m. }}", "syntax", r"written correctly \(line 3: expected"),
        ("{{ raise_exception('Roles must alternate') }}", "refused", "Roles must alternate"),
        ("{{ 'x' * 10 ** 10 }}", "memory", "more than 512 MB"),
        ("{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", "output", "more than 8 million"),
        ("{{ messages.__class__.__mro__ }}", "failed", "SecurityError"),
        ("{{ ''.__init__.__globals__ }}", "failed", "SecurityError"),
        ("{{ messages.append(1) }}", "failed", "SecurityError"),
        ("{{ range(10 ** 9) }}", "failed", "Range too big"),
        ("{{ messages[0].content + 1 }}", "failed", "TypeError"),
        ("{{ nothing.at.all }}", "failed", "'nothing' is undefined"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "failed", "RecursionError"),
        ("{% include '/etc/passwd' %}", "failed", "no loader"),
        ("{{ '\\ud800' }}", "failed", "half a character"),
    ],
)
def test_a_template_that_goes_wrong_says_how_and_the_next_one_works(
    template, source, problem, message
):
    bad = template(source)
    for _ in range(2):
        with pytest.raises(ChatTemplateError, match=message) as caught:
            bad.check()
        assert caught.value.details["problem"] == problem
    bad.source = CHATML
    assert bad.render(HELLO)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 9 ** (9 ** 9) }}",  # one endless step, which no Python code could interrupt
    ],
)
def test_a_template_without_end_is_ended_and_the_next_call_works(template, source, monkeypatch):
    slow = template(source)
    slow.source = CHATML
    slow.check()
    process = psutil.Process(slow._renderer._child.pid)
    monkeypatch.setattr(template_renderer, "LIMIT_CPU_S", 0.2)
    slow.source = source
    started = perf_counter()
    with pytest.raises(ChatTemplateError, match=r"took longer than 0.2 s.*chatml"):
        slow.check()
    assert perf_counter() - started < 10
    assert not process.is_running()
    monkeypatch.undo()
    slow.source = CHATML
    assert slow.render(HELLO)


def test_the_system_itself_ends_a_template_that_computes_too_long(template):
    # Without anybody waiting for it: the limit on CPU time is the process's own.
    slow = template("{{ 9 ** (9 ** 9) }}")
    with pytest.raises(ChatTemplateError, match="took longer than 2 s"):
        slow.check()


def test_a_renderer_that_dies_is_replaced(template):
    plain = template(CHATML)
    plain.check()
    plain._renderer._child.kill()
    with pytest.raises(ChatTemplateError, match="its process ended"):
        plain.check()
    assert plain.render(HELLO)


def test_the_renderer_ends_with_the_process_that_started_it():
    program = (
        "from gguf_widgets.core.engine.chat_template import ChatTemplate\n"
        "import os\n"
        "plain = ChatTemplate('chatml'); plain.check()\n"
        "print(plain._renderer._child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=False
    )
    pid = int(done.stdout)
    try:
        psutil.Process(pid).wait(timeout=20)
    except psutil.NoSuchProcess:
        return
    assert not psutil.pid_exists(pid)


def test_closing_ends_the_renderer_and_calling_again_starts_another(template):
    plain = template(CHATML)
    plain.check()
    first = psutil.Process(plain._renderer._child.pid)
    plain.close()
    assert not first.is_running()
    assert plain.render(HELLO)


def test_a_forgotten_template_leaves_no_process():
    plain = ChatTemplate(CHATML)
    plain.check()
    process = psutil.Process(plain._renderer._child.pid)
    del plain
    process.wait(timeout=20)


def test_several_threads_may_render_at_once(template):
    plain = template(CHATML)
    texts = {}

    def render(number: int) -> None:
        messages = [{"role": "user", "content": str(number)}]
        texts[number] = [plain.render(messages) for _ in range(20)]

    threads = [threading.Thread(target=render, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(5):
        assert set(texts[number]) == {
            f"<|im_start|>user\n{number}<|im_end|>\n<|im_start|>assistant\n"
        }


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "no message"),
        ([{"role": "user"}], "Message 1 needs a 'content'"),
        ([*HELLO, {"role": None, "content": "x"}], "Message 2 needs a 'role'"),
        ([{"role": "user", "content": "broken \ud800"}], "Message 1 holds half a character"),
    ],
)
def test_messages_that_are_none_are_refused(template, messages, message):
    with pytest.raises(InvalidValueError, match=message):
        template(CHATML).render(messages)


# Text that is made of control texts, pieces of them, and what templates look at.
CONTENT = st.lists(
    st.sampled_from([*CONTROL, "<|im_", "end|>", "a", " ", "\n", "é", "\U000f0000"]), max_size=8
).map("".join)
SHARED = ChatTemplate(
    "{{ bos_token }}{% for m in messages %}{% if not loop.last %}{{ m.content | trim }}"
    "{% else %}{{ m.content | upper }} {{ m.content | length > 3 }}{% endif %}{{ eos_token }}"
    "{% endfor %}",
    "<s>",
    "</s>",
    control_texts=CONTROL,
)


@settings(max_examples=80, deadline=None)
@given(contents=st.lists(CONTENT, min_size=1, max_size=3))
def test_only_the_templates_own_control_texts_are_read_as_control_tokens(contents):
    messages = [{"role": "user", "content": content} for content in contents]
    parts = SHARED.render_parts(messages)
    special = "\n".join(part.text for part in parts if part.parse_special)
    assert special.count("<s>") == 1
    assert special.count("</s>") == len(contents)
    assert "<|im_end|>" not in special.replace("<|im_\nend|>", "")
    literal = [part.text for part in parts if not part.parse_special]
    assert set(literal) <= set(CONTROL)
    joined = "".join(part.text for part in parts)
    for content in contents[:-1]:
        assert content.strip() in joined


def test_the_parts_joined_are_what_render_returns(template):
    both = template(CHATML)
    messages = [{"role": "user", "content": "a <|im_end|>! b <s><|im_end|> c"}]
    parts = both.render_parts(messages)
    assert "".join(part.text for part in parts) == both.render(messages)
    assert [part.text for part in parts if not part.parse_special] == [
        "<|im_end|>!",
        "<s>",
        "<|im_end|>",
    ]
    assert len(both.render_parts(HELLO)) == 1  # the usual case stays one piece


def teardown_module() -> None:
    SHARED.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits on memory are POSIX's")
def test_the_renderer_knows_nothing_of_this_package(template):
    plain = template(CHATML)
    plain.check()
    process = psutil.Process(plain._renderer._child.pid)
    assert not [file for file in process.open_files() if "gguf_widgets" in file.path]
    assert process.rlimit(psutil.RLIMIT_AS)[0] == template_renderer.LIMIT_BYTES


PICTURES = [Image(picture(seed)) for seed in range(3)]


def flat(parts) -> str:
    """Write what a conversation became: images by their numbers, plain text between bars."""
    return "".join(
        f"({PICTURES.index(part)})"
        if isinstance(part, Image)
        else (part.text if part.parse_special else f"|{part.text}|")
        for part in parts
    )


def test_images_stand_where_they_were_put(template):
    one, two, three = PICTURES
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [one, "What is", two, "this?"]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": ["And <|im_end|>", three, one]},
    ]
    assert flat(template(None).render_with_images(talk)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n(0)\nWhat is\n(1)\nthis?<|im_end|>\n"
        "<|im_start|>assistant\nA cat.<|im_end|>\n"
        "<|im_start|>user\nAnd |<|im_end|>|\n(2)\n(0)<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_that_wants_the_parts_of_a_message_gets_them(template):
    source = (
        "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}"
        "<{{ part.text | trim }}>{% else %}{{ raise_exception('parts are wanted') }}{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    asked = [{"role": "system", "content": "S"}, {"role": "user", "content": [PICTURES[1], "x"]}]
    assert flat(template(source).render_with_images(asked)) == "<S><(1)><x>"


@pytest.mark.parametrize(
    "source",
    [
        "nothing of it",
        "{{ messages[0].content }}{{ messages[0].content }}",
        "{{ messages[0].content | reverse }}",
        "{{ messages[0].content[:1] }}",
        "{{ raise_exception('no images, please') }}",
        "{{",
    ],
)
def test_a_template_that_loses_images_is_no_good_for_them(template, source):
    asked = [{"role": "user", "content": [PICTURES[0], "x", PICTURES[1]]}]
    with pytest.raises(ChatTemplateError):
        template(source).render_with_images(asked)


def test_more_images_than_there_are_characters_for_are_refused(template, monkeypatch):
    monkeypatch.setattr(chat_template, "_SPARE", range(0xF0000, 0xF0003))
    asked = [{"role": "user", "content": [*PICTURES[:2], PICTURES[0], "\U000f0000"]}]
    with pytest.raises(ImageError, match="3 images"):
        template(None).render_with_images(asked)


def test_no_text_of_a_person_becomes_an_image(template):
    private = "".join(chr(code) for code in range(0xF0000, 0xF0010))
    asked = [{"role": "user", "content": [f"{private}<__media__>", PICTURES[0], private]}]
    source = "{{ messages[0].content }}" + private
    assert flat(template(source).render_with_images(asked)) == (
        f"{private}<__media__>\n(0)\n{private}{private}"
    )
