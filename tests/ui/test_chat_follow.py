"""What stays where it is while a person edits, scrolls and attaches, and what goes when it is over.

In Voila, with the demo model. About 15 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, expect
from support.browser import Chat, Watched
from support.servers import Home, Server, voila

OpenPage = Callable[..., Watched]

BOX = """
import gguf_widgets as gw
gw.ChatBox(gw.load("demo"), temperature=0, height=600)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = Home(tmp_path_factory.mktemp("follow"))
    path = home.folder / "follow.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(BOX)]), path)
    with voila(home, path) as server:
        yield server
    home.close()


@pytest.fixture
def watched(site: Server, open_page: OpenPage) -> Watched:
    watched = open_page(site.url)
    chat = Chat(watched)
    chat.wait_until_shown()
    for name in ("Emma", "Ben", "Tom", "Mia"):
        chat.wait_for_status(chat.ask(f"Tell me a story about {name}."), "complete")
    return watched


def part(message: Locator, hook: str) -> Locator:
    return message.locator(f'[data-gw="{hook}"]')


def left_below(watched: Watched) -> float:
    """Return how many pixels of the conversation are below what is seen."""
    return float(
        watched.page.locator(".gw-scroll").evaluate(
            "(s) => s.scrollHeight - s.scrollTop - s.clientHeight"
        )
    )


def test_a_form_far_from_the_end_stays_in_view_and_its_answer_comes_into_it(
    watched: Watched,
) -> None:
    page, chat = watched.page, Chat(watched)
    # The first question that is seen while the list is at its end: a form there is higher than it.
    seen = page.evaluate(
        """() => {
          const { top } = document.querySelector(".gw-scroll").getBoundingClientRect();
          const all = [...document.querySelectorAll('[data-gw="chat-message"][data-role="user"]')];
          return all.findIndex((one) => one.getBoundingClientRect().top > top);
        }"""
    )
    own = watched.gw("chat-message", role="user").nth(seen)
    part(own, "chat-edit").click()
    field = part(own, "chat-edit-field")
    expect(field).to_be_focused()
    page.evaluate("() => new Promise((done) => setTimeout(done, 100))")  # a frame or two
    expect(part(own, "chat-edit-form")).to_be_in_viewport(ratio=1)

    field.fill("Tell me a story about Leo.")
    page.keyboard.press("Enter")
    expect(chat.answers()).to_have_count(seen + 1)
    chat.wait_for_status(chat.answers().last, "complete")
    expect(chat.answers().last).to_contain_text("Leo")
    assert left_below(watched) < 2


def test_undo_is_offered_for_the_same_again_though_a_message_was_sent_before(
    watched: Watched,
) -> None:
    answer = Chat(watched).answers().last
    part(answer, "inside-look").click()
    part(answer, "inside-repeat").click()
    expect(watched.gw("inside-result").last).to_contain_text("The same answer")
    expect(watched.gw("chat-undo")).to_have_text("Undo answering again")


def test_the_list_follows_its_end_until_the_person_goes_up(watched: Watched) -> None:
    page = watched.page
    scroller = page.locator(".gw-scroll")
    # The browser tells of its own move to the end only when less room is left already.
    page.evaluate(
        """() => {
          const more = document.createElement("div");
          more.style.height = "120px";
          document.querySelector(".gw-foot").append(more);
          document.querySelector(".gw-scroll").dispatchEvent(new Event("scroll"));
        }"""
    )
    page.wait_for_function(
        "() => { const s = document.querySelector('.gw-scroll');"
        " return s.scrollHeight - s.scrollTop - s.clientHeight < 2; }"
    )
    expect(page.locator(".gw-jump")).to_be_hidden()

    # One small step up, less than what counts as near the end, and then text comes.
    scroller.hover()
    page.mouse.wheel(0, -30)
    expect(page.locator(".gw-jump")).to_be_visible()
    top = scroller.evaluate("(s) => s.scrollTop")
    page.evaluate("() => { document.querySelector('.gw-list').style.paddingBottom = '200px'; }")
    page.evaluate("() => new Promise((done) => setTimeout(done, 100))")
    assert scroller.evaluate("(s) => s.scrollTop") == top
    page.locator(".gw-jump").click()
    expect(page.locator(".gw-jump")).to_be_hidden()
    assert left_below(watched) < 2


def test_the_word_why_a_message_was_held_goes_with_its_reason(
    watched: Watched, tmp_path: Path
) -> None:
    path = tmp_path / "sound.bin"
    path.write_bytes(bytes(range(256)) * 20)
    chat, word = Chat(watched), watched.page.locator(".gw-writing-word")
    watched.gw("chat-file-input").set_input_files(path)
    expect(watched.gw("chat-file")).to_contain_text("Not attached")
    chat.input.fill("What is it?")
    chat.input.press("Enter")
    expect(word).to_have_text("“sound.bin” could not be attached. Remove it, then send.")
    watched.page.get_by_label("Remove sound.bin").click()
    expect(word).to_have_text("")
    expect(chat.input).to_have_value("What is it?")


def test_what_was_typed_into_an_edit_is_there_again_with_its_message(watched: Watched) -> None:
    page, chat = watched.page, Chat(watched)
    answer = chat.answers().last
    number = answer.get_attribute("data-id")
    part(answer, "chat-edit").click()
    part(answer, "chat-edit-field").fill("Words of mine")

    def field() -> Locator:
        return page.locator(f'[data-id="{number}"] [data-gw="chat-edit-field"]')

    # Another conversation, and back.
    watched.gw("chat-clear").click()
    expect(chat.answers()).to_have_count(0)
    watched.gw("chat-undo").click()
    expect(field()).to_have_value("Words of mine")
    expect(chat.input).to_be_focused()  # it takes nobody's place
    # The page loaded anew: here with a new Python, which opens the conversation again.
    page.reload(wait_until="commit")
    chat.wait_until_shown()
    watched.gw("library-button").click()
    watched.gw("library-row").first.locator('[data-gw="library-open"]').click()
    expect(field()).to_have_value("Words of mine")
    # Sent or cancelled, it is over.
    field().press("Escape")
    watched.gw("chat-clear").click()
    expect(chat.answers()).to_have_count(0)
    watched.gw("chat-undo").click()
    expect(chat.answers()).to_have_count(4)
    expect(field()).to_be_hidden()
    watched.assert_clean()


def test_in_a_low_chat_nothing_lies_over_the_messages_and_what_opens_is_seen_from_its_beginning(
    watched: Watched,
) -> None:
    page, chat = watched.page, Chat(watched)
    page.set_viewport_size({"width": 400, "height": 400})
    page.locator(".gw-chat").evaluate("(e) => e.style.setProperty('--gw-chat-height', '380px')")
    answer = chat.answers().last
    part(answer, "inside-look").click()
    expect(part(answer, "inside-list").locator(".gw-tok").first).to_be_in_viewport()
    page.evaluate("() => new Promise((done) => setTimeout(done, 200))")  # nothing moves it away
    expect(part(answer, "inside-list").locator(".gw-tok").first).to_be_in_viewport()

    page.locator(".gw-scroll").evaluate("(s) => { s.scrollTop = 0; }")
    expect(watched.gw("chat-latest")).to_be_visible()
    covered = page.evaluate(
        """() => {
          const box = document.querySelector(".gw-scroll").getBoundingClientRect();
          const found = [];
          for (let x = box.left + 4; x < box.right; x += 8) for (let y = box.top + 4; y < box.bottom; y += 8) {
            const seen = document.elementFromPoint(x, y);
            if (!seen.closest(".gw-scroll")) found.push([x, y, seen.className]);
          }
          return found;
        }"""  # noqa: E501
    )
    assert covered == []
    # In a high one it floats, but not over, or under, what is said of a token.
    page.set_viewport_size({"width": 800, "height": 800})
    page.locator(".gw-chat").evaluate("(e) => e.style.setProperty('--gw-chat-height', '620px')")
    expect(page.locator(".gw-jump")).to_be_visible()
    expect(watched.gw("chat-latest")).to_be_hidden()
    part(answer, "inside-list").locator(".gw-tok").first.click()
    expect(part(answer, "inside-panel")).to_be_visible()
    page.locator(".gw-scroll").evaluate("(s) => { s.scrollTop = 0; }")
    expect(watched.gw("chat-latest")).to_be_visible()
    expect(page.locator(".gw-jump")).to_be_hidden()
    watched.gw("chat-latest").press("Enter")
    expect(watched.gw("chat-latest")).to_be_hidden()
    assert left_below(watched) < 2


def test_what_is_wrong_with_a_schema_is_seen_where_it_is_typed(
    site: Server, open_page: OpenPage
) -> None:
    watched = open_page(site.url)
    Chat(watched).wait_until_shown()
    page = watched.page
    page.locator(".gw-chat").evaluate("(e) => e.style.setProperty('--gw-chat-height', '480px')")
    watched.gw("chat-settings").click()
    watched.gw("settings-form-schema").check()
    expect(watched.gw("settings-form-text")).to_be_in_viewport(ratio=1)
    watched.gw("settings-form-text").fill('{"type": "objekt"}')
    expect(watched.gw("settings-form-fault")).to_be_in_viewport(ratio=1)
