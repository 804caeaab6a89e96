"""Focus, keys and long lists: the widgets' own page code, with no Python behind it.

The test says what Python would say, so these take a second each and depend on no server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from gguf_widgets.dashboard.dashboard import Dashboard
from gguf_widgets.widgets.chat_box import ChatBox
from gguf_widgets.widgets.model_picker import ModelPicker

# Draws widgets on an empty page: `says.<name>(content)` is a message from Python, `sent` what the
# page sent.
DRAW = """
async (modules) => {
  window.sent = [];
  window.says = {};
  const load = (text) => import(URL.createObjectURL(new Blob([text], {type: "text/javascript"})));
  const model = (name) => ({
    get: (key) => (key === "chat" || key === "picker" ? key : ""),
    on: (_event, callback) => { says[name] = callback; },
    off: () => {},
    send: (content) => {
      sent.push({to: name, ...content});
      // What the chat's parts ask before a message goes out: Python has nothing against it.
      const answer = {kind: "answer", mid: content.mid, plan: null};
      if (name === "chat") queueMicrotask(() => says.chat(answer));
    },
  });
  const draw = async (name, el) => {
    (await load(modules[name])).default.render({model: model(name), el, host});
  };
  const host = {getWidget: async (name) => ({render: ({el}) => draw(name, el)})};
  await draw(modules.dashboard ? "dashboard" : Object.keys(modules)[0], document.body);
}
"""
WIDGETS: dict[str, Any] = {"dashboard": Dashboard, "chat": ChatBox, "picker": ModelPicker}


class View:
    """Widgets on a page of their own."""

    def __init__(self, page: Page, names: tuple[str, ...]) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.set_content("<!DOCTYPE html><body data-voila='voila'></body>")
        page.add_style_tag(content="\n".join(WIDGETS[name]._css for name in names))
        page.evaluate(DRAW, {name: WIDGETS[name]._esm for name in names})
        page.wait_for_function("(names) => names.every((name) => says[name])", arg=list(names))

    def says(self, widget: str, **content: Any) -> None:
        if widget == "chat" and content["kind"] == "snapshot":
            content.setdefault("parts", {})
        self.page.evaluate("([widget, content]) => says[widget](content)", [widget, content])

    def sent(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.page.evaluate(
            "(kind) => sent.filter((content) => content.kind === kind)", kind
        )
        return found

    def wait_until_sent(self, text: str) -> None:
        """Wait for the one message to the model: the parts of the chat are asked before."""
        self.page.wait_for_function(
            "(text) => sent.some((one) => one.kind === 'send' && one.text === text)",
            arg=text,
        )
        assert [content["text"] for content in self.sent("send")] == [text]

    def gw(self, hook: str) -> Any:
        return self.page.locator(f'[data-gw="{hook}"]')


Show = Callable[..., View]


@pytest.fixture
def show(browser: Browser) -> Any:
    views: list[View] = []
    page = browser.new_page(viewport={"width": 1280, "height": 800})

    def show_one(*names: str, width: int = 1280) -> View:
        page.set_viewport_size({"width": width, "height": 800})
        views.append(View(page, names))
        return views[-1]

    yield show_one
    page.close()
    assert [fault for view in views for fault in view.faults] == []


def chat_state(**more: Any) -> dict[str, Any]:
    state = {
        "model": {"name": "demo", "detail": "/m/demo.gguf"},
        "headline": "",
        "reason": "",
        "busy": False,
        "working": "",
        "canUndo": False,
        "figures": [],
        "context": None,
        "notice": "",
        "hint": "",
        "examples": [{"label": "Say hello", "text": "Hello!"}],
        "chooser": True,
    }
    return {**state, **more}


def talk(status: str = "complete", answer: str = "a1") -> list[dict[str, Any]]:
    plain = {"text": "", "blocks": [], "note": "", "error": None, "status": "complete"}
    code = '<div class="gw-code" data-lang="python"><pre><code>x = 1</code></pre></div>'
    return [
        {**plain, "id": "q", "role": "user", "text": "Hello"},
        {**plain, "id": answer, "role": "assistant", "blocks": [code], "status": status},
    ]


def snapshot(view: View, seq: int, messages: list[dict[str, Any]], **state: Any) -> None:
    view.says("chat", kind="snapshot", seq=seq, messages=messages, state=chat_state(**state))


def row(name: str = "demo", **more: Any) -> dict[str, Any]:
    state = {
        "path": f"/m/{name}.gguf",
        "name": name,
        "lines": [],
        "notes": [],
        "title": "",
        "usable": True,
        "status": "idle",
        "chosen": True,
        "demo": False,
        "error": None,
        "offers": [],
        "fit": None,
        "words": name.lower(),
        "can": [],
        "sources": ["models folder"],
        "size": 0,
        "parameters": 0,
        "used": 0,
    }
    return {**state, **more}


def point(n_ctx: int, *, fits: bool = True) -> dict[str, Any]:
    return {
        "nCtx": n_ctx,
        "label": f"{n_ctx:,} tokens of context",
        "sizes": [4_000, n_ctx, 1_000],
        "texts": ["4.0 KB", f"{n_ctx} bytes", "1.0 KB"],
        "fits": fits,
        "says": "Needs some." if fits else "Needs more and does not fit.",
    }


def details(**more: Any) -> dict[str, Any]:
    found = {
        "path": "/m/demo.gguf",
        "facts": [["Author", "<b>Emma</b>"], ["Address", "https://example.org/a"]],
        "kinds": ["Q8_0: 12 tensors, 4.0 KB"],
        "template": "{{ messages }}<script>",
        "templateNote": "",
        "parts": [{"label": label, "title": ""} for label in ("Model", "Context", "Working")],
        "points": [point(512), point(1024), point(2048), point(9000, fits=False)],
        "chosen": 1,
        "freeBytes": 10_000,
        "free": "10 KB of memory is free",
    }
    return {**found, **more}


def names_shown(view: View) -> list[str]:
    rows = view.page.locator('[data-gw="picker-row"]:visible .gw-row-name')
    shown: list[str] = rows.all_inner_texts()
    return shown


def show_rows(view: View, *rows: dict[str, Any], **more: Any) -> None:
    state = {
        "rows": list(rows),
        "progress": None,
        "folder": "/home/emma/models",
        "none": False,
        "fields": [],
        "loadedWith": "",
        "notice": "",
    }
    view.says("picker", kind="state", state={**state, **more})


def test_send_and_stop_hand_the_focus_to_the_place_to_type(show: Show) -> None:
    view = show("chat")
    snapshot(view, 1, [])
    box = view.gw("chat-input")
    box.fill("Hello")
    view.gw("chat-send").click()
    view.wait_until_sent("Hello")
    snapshot(view, 2, talk("streaming"), busy=True)
    expect(box).to_be_focused()
    view.gw("chat-stop").focus()
    view.page.keyboard.press("Enter")
    assert len(view.sent("stop")) == 1
    snapshot(view, 3, talk("aborted"))
    expect(box).to_be_focused()


def test_a_message_that_changes_keeps_the_focus_and_one_that_goes_hands_it_on(show: Show) -> None:
    view = show("chat")
    snapshot(view, 1, talk("streaming"), busy=True)
    copy = view.page.get_by_role("button", name="Copy this code")
    copy.focus()
    ended = {"messages": talk()[1:], "state": chat_state()}
    view.says("chat", kind="update", seq=2, **ended)
    expect(copy).to_be_focused()
    snapshot(view, 2, talk())
    expect(copy).to_be_focused()
    view.page.get_by_role("button", name="Answer again").press("Enter")
    assert len(view.sent("again")) == 1
    snapshot(view, 3, talk("streaming", answer="a2"), busy=True)
    expect(view.gw("chat-input")).to_be_focused()


def test_the_keys_of_an_input_method_neither_send_nor_stop(show: Show) -> None:
    view = show("chat")
    snapshot(view, 1, talk("streaming"), busy=True)
    box = view.gw("chat-input")
    box.fill("にほ")
    press = """(box, [key, how]) => box.dispatchEvent(new KeyboardEvent("keydown",
        {key, bubbles: true, cancelable: true, ...how}))"""
    for how in ({"isComposing": True}, {"keyCode": 229}):  # Safari's way is the second
        box.evaluate(press, ["Escape", how])
    assert view.sent("stop") == []
    snapshot(view, 2, talk())
    for how in ({"isComposing": True}, {"keyCode": 229}):
        box.evaluate(press, ["Enter", how])
    assert view.sent("send") == []
    box.press("Enter")
    view.wait_until_sent("にほ")


def test_escape_stops_wherever_the_focus_is_but_closes_an_open_panel_first(show: Show) -> None:
    view = show("dashboard", "chat", "picker", width=800)
    show_rows(view, row())
    snapshot(view, 1, talk("streaming"), busy=True)
    view.gw("panel-toggle").click()
    expect(view.gw("picker-load")).to_be_focused()
    view.page.keyboard.press("Escape")
    expect(view.gw("picker-load")).to_be_hidden()
    assert view.sent("stop") == []
    view.page.evaluate("document.activeElement.blur()")
    view.page.keyboard.press("Escape")
    assert len(view.sent("stop")) == 1


def test_choose_a_model_shows_where_also_after_a_click_with_the_mouse(show: Show) -> None:
    view = show("dashboard", "chat", "picker")
    show_rows(view, row())
    snapshot(view, 1, [], model=None, headline="Choose a model first", reason="Choose one")
    view.page.get_by_role("button", name="Choose a model").click()
    load = view.gw("picker-load")
    expect(load).to_be_focused()
    expect(load).to_have_css("outline-style", "solid")


def test_a_way_out_of_too_little_memory_keeps_the_focus_until_it_is_taken(show: Show) -> None:
    view = show("picker")
    error = {"title": "Not enough memory", "text": "It needs 9.2 GB."}
    offers = [{"label": "Load anyway", "settings": {}, "force": True}]
    show_rows(view, row(error=error, offers=offers))
    offer = view.page.get_by_role("button", name="Load anyway")
    offer.focus()
    show_rows(view, row(error=error, offers=offers), row("another"))  # a file has come
    expect(offer).to_be_focused()
    offer.press("Enter")
    assert view.sent("load")[0]["force"] is True
    show_rows(view, row(status="loading"))
    expect(view.gw("picker-cancel")).to_be_focused()
    expect(offer).to_have_count(0)


def test_the_folder_is_broken_between_its_parts_and_copied_as_it_is(show: Show) -> None:
    view = show("picker")
    show_rows(view, row())
    folder = view.page.locator(".gw-copyable code")
    assert folder.text_content() == "/home/emma/models"
    assert folder.locator("wbr").count() == 4


def test_many_models_keep_the_settings_in_sight_and_are_found_by_name(show: Show) -> None:
    view = show("dashboard", "chat", "picker")
    rows = [row(f"Llama-3.2-3B-Instruct-uncensored-Q{number}_K_M") for number in range(30)]
    rows[25]["status"] = "loaded"
    show_rows(view, *rows)
    settings = view.page.get_by_text("Settings", exact=True)
    expect(settings).to_be_in_viewport(ratio=1)
    # The loaded one is scrolled to, and names that differ at their end can be told apart.
    expect(view.gw("picker-unload")).to_be_in_viewport(ratio=1)
    name = view.page.locator(".gw-row-name").first
    assert name.evaluate("e => e.scrollHeight <= e.clientHeight")
    # It stays there when the panel of a narrow page is opened.
    view.page.set_viewport_size({"width": 800, "height": 800})
    view.gw("panel-toggle").click()
    expect(view.gw("panel-close")).to_be_focused()
    expect(view.gw("picker-unload")).to_be_in_viewport(ratio=1)
    settings.click()
    expect(settings).to_be_in_viewport(ratio=1)
    expect(view.page.get_by_text("They count from the next load.")).to_be_in_viewport(ratio=1)
    find = view.gw("picker-find")
    find.fill("q7")
    expect(view.page.locator('[data-gw="picker-row"]:visible')).to_have_count(1)
    find.fill("uncensored")
    expect(view.page.locator('[data-gw="picker-row"]').first).to_be_in_viewport(ratio=1)
    find.fill("mistral")
    expect(view.page.get_by_text("No model has this word.")).to_be_visible()
    show_rows(view, *rows[:3])
    expect(find).to_be_hidden()
    expect(view.page.locator('[data-gw="picker-row"]:visible')).to_have_count(3)


def test_models_are_found_by_words_by_what_they_can_and_put_in_order(show: Show) -> None:
    view = show("picker", width=400)
    rows = [
        row("Qwen3-4B-Q4_K_M", size=3, used=5, can=["tools"], words="qwen3-4b-q4_k_m qwen3 4.0b"),
        row("Qwen3-14B-Q4_K_M", size=9, fit={"verdict": "no", "text": "Too large", "title": ""},
            words="qwen3-14b-q4_k_m qwen3 14b"),
        row("gemma-3-4b", size=4, used=9, can=["vision"], sources=["Ollama"], words="gemma-3-4b"),
        row("broken", usable=False, error={"title": "", "text": "It ends too early."}),
        row("phi", size=2, fit={"verdict": "yes", "text": "Fits", "title": ""}),
        row("tiny", size=1),
    ]  # fmt: skip
    show_rows(view, *rows)
    find, order, kind = view.gw("picker-find"), view.gw("picker-order"), view.gw("picker-show")
    usable = ["Qwen3-4B-Q4_K_M", "Qwen3-14B-Q4_K_M", "gemma-3-4b", "phi", "tiny"]
    assert names_shown(view) == [*usable, "broken"]
    find.fill("4b  Q4")  # "4b" is not in "14b"
    assert names_shown(view) == ["Qwen3-4B-Q4_K_M"]
    find.fill("")
    order.select_option("Smallest first")
    assert names_shown(view) == ["tiny", "phi", usable[0], "gemma-3-4b", usable[1], "broken"]
    order.select_option("Last used first")
    assert names_shown(view)[:2] == ["gemma-3-4b", "Qwen3-4B-Q4_K_M"]
    # Only what there is any of can be chosen.
    expect(kind.locator("option")).to_have_text(
        ["All", "Fits this computer", "Sees images", "Uses tools", "Cannot be used",
         "In models folder", "In Ollama"]
    )  # fmt: skip
    kind.select_option("Fits this computer")
    assert names_shown(view) == ["phi"]
    kind.select_option("In Ollama")
    assert names_shown(view) == ["gemma-3-4b"]
    find.fill("qwen")
    expect(view.page.get_by_text("No model under “In Ollama” has this word.")).to_be_visible()
    show_rows(view, *rows)  # news do not change what was chosen
    assert names_shown(view) == []
    view.page.get_by_role("button", name="Show all").click()
    expect(find).to_be_focused()
    assert len(names_shown(view)) == 6


def test_what_is_known_of_a_model_opens_under_it_and_moves_with_the_context(show: Show) -> None:
    view = show("picker", width=400)
    show_rows(view, row(), row("other"))
    info = view.gw("picker-info").first
    info.click()
    assert view.sent("details") == [view.sent("details")[0]]
    assert view.sent("details")[0]["path"] == "/m/demo.gguf"
    view.says("picker", kind="details", details=details())
    panel = view.gw("picker-details")
    expect(panel.locator("output")).to_have_text("1,024 tokens of context")
    expect(panel.locator("dd").first).to_have_text("<b>Emma</b>")  # as text
    assert panel.locator("a, script, b").count() == 0
    widths = "() => [...document.querySelectorAll('.gw-memory-part')].map((e) => e.offsetWidth)"
    before = view.page.evaluate(widths)
    slider, load = view.gw("picker-context"), view.gw("picker-load-context")
    slider.focus()
    view.page.keyboard.press("ArrowRight")
    expect(load).to_have_text("Load with 2,048 tokens")
    view.page.wait_for_function(f"(before) => ({widths})()[1] > before + 10", arg=before[1])
    assert view.page.evaluate(widths)[0] == before[0]  # the model is as large as it was
    show_rows(view, row(), row("other"))  # news
    view.says("picker", kind="details", details=details(freeBytes=12_000))
    expect(panel.locator("output")).to_have_text("2,048 tokens of context")
    load.click()
    assert view.sent("load")[-1]["settings"] == {"n_ctx": 2048}
    slider.focus()
    view.page.keyboard.press("ArrowRight")
    expect(load).to_be_disabled()
    expect(panel).to_contain_text("Needs more and does not fit. 10 KB of memory is free.")
    info.click()
    expect(panel).to_be_hidden()
    info.click()
    view.says("picker", kind="details", details={"path": "/m/demo.gguf", "error": "It is gone."})
    expect(panel.get_by_text("It is gone.")).to_be_visible()
    expect(panel.locator("output")).to_be_hidden()


def test_an_answer_that_ended_before_its_first_word_can_be_asked_for_again(show: Show) -> None:
    view = show("chat")
    question, answer = talk("aborted")
    snapshot(view, 1, [question, {**answer, "blocks": [], "note": "Stopped."}])
    expect(view.page.get_by_role("button", name="Copy this answer")).to_have_count(0)
    view.page.get_by_role("button", name="Answer again").click()
    assert view.sent("again")[0]["message"] == "a1"


def test_a_wide_table_keeps_its_words_whole_and_scrolls(show: Show) -> None:
    view = show("chat", width=400)
    cells = "".join(f"<td>{word}</td>" for word in ("Parameters", "131,072", "x" * 300, "Notes"))
    table = f'<div class="gw-table"><table><tr>{cells}</tr></table></div>'
    snapshot(view, 1, [{**talk()[1], "blocks": [table]}])
    box = view.page.locator(".gw-table")
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")
    heights = view.page.locator("td").evaluate_all("all => all.map((td) => td.scrollWidth)")
    assert heights[0] > 70  # "Parameters" in one line
    assert heights[2] <= 420  # and no cell is endless
    assert view.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
