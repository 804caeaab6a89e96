"""Looking before fetching: searching, a repository's models, and whether they fit this machine."""

from __future__ import annotations

import threading

import pytest
from support.gguf_writer import Typed
from support.hub_server import HubServer, model_file, projector_file, split_files

from gguf_widgets.core import download, fit
from gguf_widgets.core.config import data_dir
from gguf_widgets.core.download.remote import Fit
from gguf_widgets.core.errors import DownloadError, InvalidValueError

REPO = "owner/tiny-GGUF"
QUICK = download.Patience(tries=3, first_wait_s=0.01, longest_retry_after_s=2)


def test_a_search_finds_repositories_that_hold_gguf_files(hub: HubServer) -> None:
    hub.add("emma/tiny-GGUF", {"x-Q8_0.gguf": b"x"}, license="mit", gated="auto")
    hub.add("emma/tiny-plain", {"model.safetensors": b"x"})
    hub.add("emma/other-GGUF", {"x-Q8_0.gguf": b"x"})
    found = download.search("Tiny", patience=QUICK)
    assert [one.name for one in found] == ["emma/tiny-GGUF"]
    assert (found[0].license, found[0].gated, found[0].downloads) == ("mit", True, 1234)
    assert "hf:emma/tiny-GGUF" in repr(found)
    assert "<td>hf:emma/tiny-GGUF</td>" in found._repr_html_()
    assert len(download.search("", limit=1, patience=QUICK)) == 1
    assert repr(download.search("nothing like it", patience=QUICK)) == "Nothing was found."
    for limit in (0, 201):
        with pytest.raises(InvalidValueError, match="from 1 to 200"):
            download.search("tiny", limit=limit)


def test_names_from_the_hub_are_shown_as_text(hub: HubServer) -> None:
    hub.add("emma/<b>tiny</b>", {"x-Q8_0.gguf": b"x"}, license="<script>")
    page = download.search("tiny", patience=QUICK)._repr_html_()
    assert "<b>" not in page
    assert "<script>" not in page


def test_each_model_is_listed_with_all_that_it_takes(hub: HubServer) -> None:
    parts = split_files("big-F16", 3)
    repo = hub.add(
        REPO,
        {"tiny-Q4_K_M.gguf": model_file(), "mmproj-F16.gguf": projector_file()}
        | {f"F16/{name}": data for name, data in parts.items()},
    )
    listed = download.files(f"hf:{REPO}", patience=QUICK)
    assert (listed.name, listed.revision, listed.license) == (REPO, repo.commit, "apache-2.0")
    split, tiny = listed.models
    assert (split.quantization, tiny.quantization) == ("F16", "Q4_K_M")
    assert len(split.files) == 3
    assert split.size_bytes == sum(map(len, parts.values()))
    assert tiny.total_bytes == len(model_file()) + len(projector_file())
    assert [model.fit.judged_by for model in listed.models] == ["header", "header"]
    assert [model.fit.verdict for model in listed.models] == ["yes", "yes"]
    text = repr(listed)
    assert "F16/big-F16-00001-of-00003.gguf" in text
    assert not (data_dir() / "models").exists()


def test_the_fit_of_a_model_that_is_not_here_is_the_one_of_its_header(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two versions, one header read: the other's weights are scaled to its size.
    versions = {
        "m-Q4_K_M.gguf": model_file(60_000_000, eight_bits=True),
        "m-F32.gguf": model_file(60_000_000),
    }
    hub.add(REPO, versions)

    def fits(free_bytes: int) -> dict[str, Fit]:
        monkeypatch.setattr(fit, "free_memory", lambda: free_bytes)
        found = download.files(REPO, patience=QUICK).models
        return {model.quantization: model.fit for model in found}

    plenty = fits(1 << 36)
    assert {name: (one.verdict, one.judged_by) for name, one in plenty.items()} == {
        "Q4_K_M": ("yes", "header"),
        "F32": ("yes", "scaled"),
    }
    assert len(hub.asked("cdn")) == 1
    # What the scaling says is what its own header would have said, to within a percent.
    hub.add(REPO, {"m-F32.gguf": versions["m-F32.gguf"]})
    own = fits(1 << 36)["F32"]
    assert own.judged_by == "header"
    assert plenty["F32"].needed_bytes == pytest.approx(own.needed_bytes, rel=0.01)
    hub.add(REPO, versions)
    between = (plenty["Q4_K_M"].needed_bytes + plenty["F32"].needed_bytes) // 2
    tight = fits(between)
    assert tight["F32"].verdict == "no"
    assert tight["Q4_K_M"].verdict != "no"
    assert "free" in tight["F32"].sentence


def test_a_long_header_is_read_to_its_end_and_no_further(hub: HubServer) -> None:
    words = Typed("array", ("string", [f"token number {n}" for n in range(150_000)]))
    model = model_file(30_000_000, tokenizer__ggml__tokens=words)
    hub.add(REPO, {"m-Q8_0.gguf": model})
    (listed,) = download.files(REPO, patience=QUICK).models
    assert listed.fit.judged_by == "header"
    assert [one.headers["range"] for one in hub.asked("cdn")] == [
        "bytes=0-2097151",
        "bytes=0-8388607",
    ]


@pytest.mark.parametrize("damage", ["no model", "no gguf", "refused", "no ranges"])
def test_where_the_header_cannot_be_had_the_size_is_the_measure(
    hub: HubServer, damage: str
) -> None:
    data = model_file(5_000_000)
    if damage == "no model":
        data = model_file(5_000_000, general__type=Typed("string", "adapter"))
    if damage == "no gguf":
        data = b"<html>" + data
    hub.add(REPO, {"m-Q8_0.gguf": data}, gated="manual" if damage == "refused" else False)
    if damage == "no ranges":
        hub.fault(where="cdn", no_ranges=True)
    notes: list[str] = []
    listed = download.files(REPO, on_note=notes.append, patience=QUICK)
    (model,) = listed.models
    if damage == "no ranges":  # the beginning is taken, and the rest is not waited for
        assert model.fit.judged_by == "header"
        return
    assert model.fit.judged_by == "size"
    assert model.fit.needed_bytes > len(data)
    assert "by its size" in model.fit.sentence or "size" in repr(listed)
    assert len(notes) == 1


def test_looking_can_be_stopped(hub: HubServer) -> None:
    hub.add(REPO, {"m-Q8_0.gguf": model_file()})
    event = threading.Event()
    event.set()
    for look in (
        lambda: download.search("m", cancel=event),
        lambda: download.files(REPO, cancel=event),
    ):
        with pytest.raises(DownloadError) as caught:
            look()
        assert caught.value.details["problem"] == "cancelled"
