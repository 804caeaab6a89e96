"""The settings panel of the chat in a real browser, in Voila, with the real demo model. About 40 s.

One dashboard for all; what was sent is read where it is recorded, in the store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect
from support.browser import LONG_MS, Chat, Watched
from support.screen_check import faults_of
from support.servers import Home, Server, dashboard

from gguf_widgets.core.chat.types import ChatMessage
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store

OpenPage = Callable[..., Watched]

PANEL = '[data-gw="settings"]'
TUTOR = {"title": "My tutor", "system": "Answer kindly.", "sampling": {"temperature": 0.3}}


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("person"))
    yield home
    home.close()


@pytest.fixture(scope="module")
def site(person: Home) -> Iterator[Server]:
    with dashboard(person) as server:
        yield server


class Panel:
    """The panel as a person uses it."""

    def __init__(self, watched: Watched, person: Home) -> None:
        self.watched, self.page = watched, watched.page
        self.gw = watched.gw
        self.chat = Chat(watched)
        self.home = person

    def open(self) -> None:
        self.gw("chat-settings").click()
        self.field("temperature").locator('[data-gw="settings-number"]').wait_for(timeout=LONG_MS)

    def field(self, name: str) -> Locator:
        return self.gw("settings-field", name=name)

    def number(self, name: str) -> Locator:
        return self.field(name).locator('[data-gw="settings-number"]')

    def type(self, name: str, text: str) -> None:
        self.number(name).fill(text)

    def ask(self, text: str) -> ChatMessage:
        """Send a message and return its answer as the store has it."""
        answer = self.chat.ask(text)
        assert self.chat.wait_for_status(answer, "complete", "failed") == "complete"
        return self.last_answer()

    def last_answer(self) -> ChatMessage:
        with Store(self.home.data / "store.sqlite3") as store:
            conversations = Conversations(store)
            latest = conversations.latest()
            assert latest is not None
            return conversations.path(latest.id)[-1]


@pytest.fixture
def panel(site: Server, person: Home, open_page: OpenPage) -> Panel:
    """A page with the demo model, a new conversation and the panel open."""
    watched = open_page(site.url)
    panel = Panel(watched, person)
    panel.chat.wait_until_shown()
    loaded = watched.gw("picker-unload")
    if not loaded.is_visible():
        load = watched.gw("picker-row", name="demo").locator('[data-gw="picker-load"]')
        load.or_(loaded).first.wait_for(timeout=LONG_MS)
        if load.is_visible():
            load.click()
    loaded.wait_for(timeout=LONG_MS)
    clear = watched.gw("chat-clear")
    if clear.is_enabled():
        clear.click()
        watched.gw("chat-empty").wait_for()
    panel.open()
    return panel


def assert_it_can_be_read_in_every_width(panel: Panel) -> None:
    """Look at the panel, all of it unfolded, in light and dark, wide and narrow."""
    page = panel.page
    panel.gw("settings-expert").click()
    found = []
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for width in (1280, 800, 400):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(200)  # the last movement takes at most 150 ms
            found += [f"{theme}, {width}: {fault}" for fault in faults_of(page, PANEL)]
    assert found == []


def test_what_stands_there_is_what_the_next_message_is_sent_with(panel: Panel) -> None:
    page, gw = panel.page, panel.gw
    expect(gw("settings-preset")).to_be_focused()
    expect(gw("settings-balanced")).to_be_checked()
    panel.type("temperature", "0,7")
    expect(gw("settings-balanced")).not_to_be_checked()
    expect(panel.field("temperature")).to_have_attribute("data-changed", "")
    expect(gw("chat-settings")).to_have_attribute("aria-label", "Chat settings (changed)")
    expect(panel.number("temperature")).to_have_value("0,7")  # as it was typed, while it is
    # By the keyboard: the next one, then the slider's own keys
    panel.number("top_k").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    expect(panel.number("top_k")).to_have_value("39")
    panel.field("seed").locator('[data-gw="settings-none"]').uncheck()
    panel.type("seed", "5")

    stop = panel.field("stop")
    stop.locator('[data-gw="settings-word"]').fill("zebra\\n")
    page.keyboard.press("Enter")
    expect(stop.locator('[data-gw="settings-chip"]')).to_have_text("zebra\\n")
    gw("settings-expert").click()
    gw("settings-bias-word").fill("Hello there, this is several")
    gw("settings-bias-add").click()
    biases = panel.field("logit_bias")
    expect(biases.locator('[data-gw="settings-fault"]')).to_contain_text("but several")
    gw("settings-bias-word").fill("Hello")
    gw("settings-bias-never").check()
    gw("settings-bias-add").click()
    expect(biases.locator('[data-gw="settings-chip"]').first).to_contain_text("forbidden")
    # Typed and sent at once, without a pause in which it could have gone by itself
    panel.type("min_p", "0.12")
    stop.locator('[data-gw="settings-word"]').fill("giraffe")  # and not added
    answer = panel.ask("Hello")
    assert answer.sampling is not None
    told = answer.sampling
    assert (told.temperature, told.top_k, told.min_p) == (0.7, 39, 0.12)
    assert (told.seed, told.stop) == (5, ("zebra\n", "giraffe"))
    expect(panel.chat.input).to_be_focused()
    assert answer.seed == 5
    assert set(told.logit_bias.values()) == {float("-inf")}
    assert "Hello" not in answer.content

    # A wrong value is told at once; nothing is sent with another one than stands there.
    panel.type("temperature", "9")
    fault = panel.field("temperature").locator('[data-gw="settings-fault"]')
    expect(fault).to_have_text("It can be from 0 to 5.")
    expect(panel.number("temperature")).to_have_attribute("aria-invalid", "true")
    panel.chat.input.fill("Again")
    panel.chat.input.press("Enter")
    expect(panel.number("temperature")).to_be_focused()
    assert panel.chat.questions() == ["Hello"]
    assert panel.chat.input.input_value() == "Again"
    panel.type("temperature", "warm")
    expect(fault).to_contain_text('"warm" is no number')
    panel.type("temperature", "0")
    expect(fault).to_be_hidden()
    remark = panel.field("top_p").locator('[data-gw="settings-remark"]')
    expect(remark).to_contain_text("the likeliest word is always taken")
    told = panel.ask("Again").sampling  # type: ignore[assignment]
    assert (told.temperature, told.min_p) == (0, 0.12)

    # One back, then all, then undone; the panel closes by Esc and gives the focus back.
    panel.field("min_p").locator('[data-gw="settings-reset-one"]').click()
    expect(panel.number("min_p")).to_have_value("0.05")
    expect(panel.number("min_p")).to_be_focused()
    gw("settings-reset-all").click()
    expect(panel.number("top_k")).to_have_value("40")
    expect(gw("settings-reset-all")).to_be_hidden()
    gw("settings-undo").click()
    expect(panel.number("top_k")).to_have_value("39")
    gw("settings-creative").check(force=True)
    expect(panel.number("temperature")).to_have_value("1.2")
    panel.type("top_p", "5")
    page.keyboard.press("Escape")
    expect(page.locator(PANEL)).to_be_hidden()
    expect(gw("chat-settings")).to_be_focused()
    told = panel.ask("Once more").sampling  # type: ignore[assignment]
    assert (told.temperature, told.top_p, told.top_k) == (1.2, 1.0, 39)  # what was wrong went
    panel.watched.assert_clean()


def test_the_answer_keeps_to_its_form(panel: Panel) -> None:
    gw, page = panel.gw, panel.page
    panel.type("temperature", "0")
    gw("settings-form-form").check(force=True)
    expect(gw("settings-form-state")).to_contain_text("Name the parts")
    gw("settings-form-name").fill("label")
    gw("settings-form-kind").select_option("choice")
    gw("settings-form-choices").fill("positive\nnegative")
    expect(gw("settings-form-state")).to_have_text("The model can keep to this.")
    gw("settings-form-add").click()
    expect(gw("settings-form-name").last).to_be_focused()
    page.keyboard.type("sure")
    gw("settings-form-kind").last.select_option("yesno")
    answer = panel.ask('Is this positive or negative? "The soup was cold."')
    found = json.loads(answer.content)
    assert list(found) == ["label", "sure"]
    shown = panel.chat.answers().last.locator(".gw-written.gw-mono")
    expect(shown).to_have_text(answer.content)  # as it is written: JSON is no Markdown
    assert found["label"] in ("positive", "negative")
    assert answer.sampling is not None
    assert answer.sampling.schema == {
        "type": "object",
        "properties": {
            "label": {"enum": ["positive", "negative"]},
            "sure": {"type": "boolean"},
        },
        "required": ["label", "sure"],
        "additionalProperties": False,
    }

    # What the engine cannot follow is refused in its words; what was in force stays.
    gw("settings-form-schema").check(force=True)
    expect(gw("settings-form-text")).to_have_value(json.dumps(answer.sampling.schema, indent=2))
    gw("settings-form-text").fill('{"type": "string", "pattern": "(a)\\\\1"}')
    expect(gw("settings-form-fault")).to_contain_text("pattern")
    panel.chat.input.fill("Hello")
    panel.chat.input.press("Enter")
    expect(gw("settings-form-text")).to_be_focused()
    gw("settings-form-text").fill("{")
    expect(gw("settings-form-fault")).to_contain_text("line 1, column 2")
    gw("settings-form-json").check(force=True)
    expect(gw("settings-form-state")).to_have_text("The model can keep to this.")
    gw("settings-form-grammar").check(force=True)
    gw("settings-form-gbnf").fill('root ::= "yes" | "no"')
    expect(gw("settings-form-state")).to_have_text("The model can keep to this.")
    assert panel.ask("Well?").content in ("yes", "no")
    gw("settings-form-off").check(force=True)
    expect(panel.field("answer")).not_to_have_attribute("data-changed", "")
    gw("settings-preset").select_option("multimodal")
    expect(gw("settings-undo")).to_be_visible()
    assert_it_can_be_read_in_every_width(panel)
    panel.watched.assert_clean()


def test_a_preset_of_ones_own_is_kept_shared_deleted_and_undone(
    panel: Panel, tmp_path: Path
) -> None:
    gw, page = panel.gw, panel.page
    gw("settings-preset").select_option("text")
    panel.type("temperature", "0.3")
    gw("settings-system").fill("Answer kindly.")
    expect(panel.field("temperature")).to_have_attribute("data-changed", "")
    expect(panel.number("temperature")).to_have_value("0.3")
    gw("settings-style").select_option("plain")
    gw("settings-advise").click()
    expect(gw("settings-system")).to_have_value(
        "Answer kindly.\nAnswer in plain text, without Markdown."
    )
    gw("settings-system").fill("Answer kindly.")
    gw("settings-style").select_option("markdown")
    gw("settings-save").click()
    expect(gw("settings-title")).to_be_focused()
    page.keyboard.type("Text")
    page.keyboard.press("Enter")
    expect(gw("settings-preset-fault")).to_contain_text("already")
    gw("settings-title").fill("My tutor")
    page.keyboard.press("Enter")
    expect(gw("settings-preset")).to_have_value("my-tutor")
    expect(gw("settings-reset-all")).to_be_hidden()
    expect(panel.number("temperature")).to_have_value("0.3")
    answer = panel.ask("Hello")
    assert answer.sampling is not None
    assert (answer.model_type, answer.system) == ("my-tutor", "Answer kindly.")
    assert answer.sampling.temperature == 0.3
    gw("settings-style").select_option("plain")
    expect(panel.chat.answers().last.locator(".gw-written")).to_have_text(answer.content)
    gw("settings-style").select_option("markdown")
    expect(panel.chat.answers().last.locator(".gw-written")).to_have_count(0)

    # A change on top stays with the conversation, also without another message.
    panel.type("top_k", "7")
    expect(panel.field("top_k")).to_have_attribute("data-changed", "")
    expect(gw("settings-update")).to_be_visible()
    page.reload(wait_until="commit")
    panel.chat.answers().first.wait_for(timeout=LONG_MS)
    panel.open()
    expect(gw("settings-preset")).to_have_value("my-tutor")
    expect(panel.number("top_k")).to_have_value("7")
    expect(gw("settings-system")).to_have_value("Answer kindly.")

    with page.expect_download() as waiting:
        gw("settings-share").click()
    assert waiting.value.suggested_filename == "My-tutor.preset.json"
    shared = json.loads(Path(waiting.value.path()).read_text("utf-8"))
    assert shared["presets"] == [{**TUTOR, "style": "markdown"}]

    gw("settings-delete").click()
    expect(gw("settings-preset").locator("option:checked")).to_have_text("My tutor (deleted)")
    gw("settings-undo").click()
    expect(gw("settings-preset").locator("option:checked")).to_have_text("My tutor")
    gw("settings-rename").click()
    gw("settings-title").fill("Professor")
    page.keyboard.press("Enter")
    expect(gw("settings-preset").locator("option:checked")).to_have_text("Professor")
    gw("settings-rename").click()
    page.keyboard.press("Escape")  # closes the form, not the panel
    expect(gw("settings-rename")).to_be_focused()

    # A file from somebody: refused in words, or taken as the person says.
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps({**shared, "presets": [{**TUTOR, "telepathy": 1}]}))
    gw("settings-file").set_input_files(path)
    expect(gw("settings-preset-fault")).to_contain_text('"telepathy"')
    path.write_text(json.dumps({**shared, "presets": [{**TUTOR, "title": "Professor"}]}))
    gw("settings-file").set_input_files(path)
    expect(gw("settings-clash")).to_have_value("both")
    gw("settings-form-go").click()
    expect(gw("settings-preset-done")).to_contain_text("Added: Professor (2)")
    gw("settings-preset").select_option(label="Professor (2)")
    expect(gw("settings-undo")).to_be_visible()  # the change on top went with the preset before
    expect(panel.number("top_k")).to_have_value("40")
    panel.watched.assert_clean()


def test_what_was_chosen_last_stands_there_while_older_states_still_come(panel: Panel) -> None:
    gw, page = panel.gw, panel.page
    gw("settings-style").wait_for()
    # Each step comes before the page has been told of the one before; nothing is put back.
    lost = page.evaluate(
        """async () => {
          const at = (name) => document.querySelector(`[data-gw="settings-${name}"]`);
          const [system, style] = [at("system"), at("style")];
          const set = (element, value) => {
            element.value = value;
            element.dispatchEvent(new Event("input", { bubbles: true }));
            element.dispatchEvent(new Event("change", { bubbles: true }));
          };
          const lost = [];
          for (let round = 0; round < 60; round += 1) {
            const wanted = [`Round ${round}.`, round % 2 ? "plain" : "markdown"];
            set(system, wanted[0]);
            set(style, wanted[1]);
            for (let look = 0; look < 1 + (round % 5); look += 1) {
              await new Promise((next) => setTimeout(next, 12));
              if (system.value !== wanted[0] || style.value !== wanted[1])
                lost.push([round, look, system.value, style.value]);
            }
          }
          return lost;
        }"""
    )
    assert lost == []
    answer = panel.ask("Hello")
    assert answer.system == "Round 59."
    expect(gw("settings-system")).to_have_value("Round 59.")
    expect(gw("settings-style")).to_have_value("plain")
    expect(gw("settings-advise")).to_be_visible()
    panel.watched.assert_clean()


def test_a_preset_is_saved_with_what_was_just_typed_or_not_at_all(panel: Panel) -> None:
    gw, page = panel.gw, panel.page
    gw("settings-preset").select_option("text")
    gw("settings-save").click()
    gw("settings-title").fill("In a hurry")
    type_and_save = """(text) => {
      const number = document.querySelector('[data-name="top_k"] [data-gw="settings-number"]');
      number.value = text;
      number.dispatchEvent(new Event("input", { bubbles: true }));
      document.querySelector('[data-gw="settings-preset-form"]').requestSubmit();
    }"""
    page.evaluate(type_and_save, "many")
    expect(gw("settings-preset-fault")).to_contain_text("Correct it")
    page.evaluate(type_and_save, "13")
    expect(gw("settings-preset").locator("option:checked")).to_have_text("In a hurry")
    expect(panel.number("top_k")).to_have_value("13")
    answer = panel.ask("Hello")
    assert answer.sampling is not None
    assert answer.sampling.top_k == 13
    panel.watched.assert_clean()


def test_a_value_typed_right_after_another_preset_counts(panel: Panel) -> None:
    gw, page = panel.gw, panel.page
    gw("settings-preset").select_option("text")
    panel.type("temperature", "0.3")
    expect(panel.field("temperature")).to_have_attribute("data-changed", "")
    # The preset takes 0.3 away; before the page is told so, 0.3 is typed again.
    page.evaluate(
        """() => {
          const preset = document.querySelector('[data-gw="settings-preset"]');
          const field = document.querySelector('[data-name="temperature"]');
          const number = field.querySelector('[data-gw="settings-number"]');
          const tell = (element, kind) => element.dispatchEvent(new Event(kind, { bubbles: true }));
          preset.value = "code";
          tell(preset, "change");
          number.value = "0.3";
          tell(number, "input");
          tell(number, "change");
        }"""
    )
    expect(gw("settings-preset")).to_have_value("code")
    expect(panel.field("temperature")).to_have_attribute("data-changed", "")
    answer = panel.ask("Hello")
    assert answer.sampling is not None
    assert (answer.model_type, answer.sampling.temperature) == ("code", 0.3)
    panel.watched.assert_clean()


def test_what_was_marked_to_be_written_over_stays_marked(panel: Panel) -> None:
    gw, page = panel.gw, panel.page
    gw("settings-preset").select_option("text")
    panel.type("temperature", "0.3")
    expect(panel.field("temperature")).to_have_attribute("data-changed", "")
    panel.number("temperature").focus()
    page.keyboard.press("Control+a")
    gw("settings-preset").evaluate(
        """(preset) => {
          preset.value = "code";
          preset.dispatchEvent(new Event("change", { bubbles: true }));
        }"""
    )
    expect(panel.number("temperature")).not_to_have_value("0.3")
    page.keyboard.type("0.6")
    expect(panel.number("temperature")).to_have_value("0.6")
    panel.watched.assert_clean()
