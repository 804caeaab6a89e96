"""The list as a table, a frame, searched, sorted, filtered; copies; whether models fit."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from pathlib import Path
from typing import Any

import pytest
from support.gguf_writer import Typed
from support.library_homes import Ollama, model_file, part_file, projector_file, put

from gguf_widgets.core import config, errors, fit
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.library import (
    ModelEntry,
    ModelLibrary,
    ModelList,
    Place,
    add_folder,
    added_folders,
    model_list,
    models,
    note_use,
    query,
    remove_folder,
)
from gguf_widgets.core.library.facts import CAPABILITIES
from gguf_widgets.core.library.hashes import sha256_of
from gguf_widgets.core.types import LoadSettings, ModelInfo


@pytest.fixture
def folder() -> Path:
    return config.ensure(config.models_dir())


def entry(name: str, **info: Any) -> ModelEntry:
    """Return a line of a list that no file is behind."""
    known = {"path": f"/m/{name}.gguf", "name": name, "architecture": "llama", "size_bytes": 1}
    known |= {"num_parameters": 1, "quantization": "Q4_K_M", "n_ctx_train": 2048, "n_vocab": 4}
    known |= {"n_layer": 1, "n_head": 1, "n_head_kv": 1, "n_embd": 64}
    path = Path(f"/m/{name}.gguf")
    place = Place("own", "models folder", path)
    about = ModelInfo(**{**known, **info})
    return ModelEntry(name, path, about, None, "models folder", program="own", places=(place,))


NAMES = (
    "Qwen3-4B-Q4_K_M", "Qwen3-14B-Q4_K_M", "qwen2.5-coder-1.5b-instruct-q8_0", "Llama-3.2-1B-F16",
    "gemma-3-4b-it-IQ4_XS", "DeepSeek-R1-Distill-Qwen-7B-Q4_0",
)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("qwen 4b q4", ["Qwen3-4B-Q4_K_M"]),
        ("QWEN", [NAMES[0], NAMES[1], NAMES[2], NAMES[5]]),
        ("4b", [NAMES[0], NAMES[4]]),
        ("5b", []),
        ("1.5b", [NAMES[2]]),
        ("14b qwen", [NAMES[1]]),
        ("q4", [NAMES[0], NAMES[1], NAMES[4], NAMES[5]]),
        ("models folder", list(NAMES)),
        ("  ", list(NAMES)),
        ("nothing-like-it", []),
        (".*", []),
    ],
)
def test_search(words: str, expected: list[str]) -> None:
    listed = ModelList(entry(name, quantization="F32") for name in NAMES)
    found = listed.search(words)
    assert isinstance(found, ModelList)
    assert [one.name for one in found] == expected


def test_search_looks_at_architecture_quantisation_and_source_too() -> None:
    listed = ModelList([entry("a", architecture="qwen3moe", quantization="MXFP4"), entry("b")])
    for words in ("qwen3moe", "mxfp4", "mxfp4 qwen"):
        assert [one.name for one in listed.search(words)] == ["a"]
    with pytest.raises(errors.InvalidValueError, match="is a text"):
        listed.search(7)  # type: ignore[arg-type]


def test_sort_by_anything_with_the_unknown_last() -> None:
    broken = dataclasses.replace(entry("broken"), info=None, error=errors.NotGgufError("x"))
    listed = [
        entry(f"model {n}", size_bytes=size, n_ctx_train=size // 2)
        for n, size in ((2, 30), (10, 10), (1, 20))
    ]
    listed[1] = dataclasses.replace(listed[1], last_used=dt.datetime.now(dt.UTC))
    listed.reverse()
    whole = ModelList([broken, *listed])

    def order(*args: Any, **keywords: Any) -> list[str]:
        return [one.name.removeprefix("model ") for one in whole.sort(*args, **keywords)]

    assert order() == ["broken", "1", "2", "10"]
    assert order("size") == ["10", "1", "2", "broken"]
    assert order("size", descending=True) == ["2", "1", "10", "broken"]
    assert order("last_used", descending=True)[0] == "10"
    for key in query.SORT_KEYS:
        if key != "fits":
            assert len(order(key)) == 4
    assert whole[0].name == "broken", "the list itself stays as it is"
    with pytest.raises(errors.InvalidValueError, match=r"sorted by 'sise'. Did you mean 'size'"):
        whole.sort("sise")


def test_filter_and_what_it_refuses() -> None:
    listed = ModelList(
        dataclasses.replace(entry(name), capabilities=some)
        for name, some in (("a", ("chat", "vision")), ("b", ("chat",)), ("c", ("embeddings",)))
    )

    def names(**wanted: Any) -> str:
        found = listed.filter(**wanted)
        assert isinstance(found, ModelList)
        return "".join(one.name for one in found)

    assert names() == "abc"
    assert names(capability="chat") == "ab"
    assert names(capability=["chat", "vision"]) == names(capability=("vision",)) == "a"
    assert names(source="own", usable=True) == names(source="Models Folder") == "abc"
    assert names(source="ollama") == names(usable=False) == ""
    for wrong, message in (
        ({"capability": "vison"}, "Did you mean 'vision'"),
        ({"capability": 7}, "capability of 7"),
        ({"source": "olama"}, "Did you mean 'ollama'"),
        ({"source": None}, "source of None"),
        ({"fits": "maybe"}, "fits of 'maybe'"),
        ({"usable": "yes"}, "usable of 'yes'"),
        ({"sorce": "ollama"}, "filtered by 'sorce'. Did you mean 'source'"),
    ):
        with pytest.raises(errors.InvalidValueError, match=message):
            listed.filter(**wrong)
    for name in CAPABILITIES:
        listed.filter(capability=name)


def test_a_part_of_a_list_is_a_list() -> None:
    listed = ModelList([entry("a"), entry("b")])
    assert isinstance(listed[:1], ModelList)
    assert listed[-1].name == "b"


# --- whether it fits -----------------------------------------------------------------------------


def test_memory_is_asked_for_once_for_a_list_and_only_when_it_matters(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        put(folder / f"{number}.gguf", model_file(str(number)))
    asked: list[int] = []

    def free() -> int:
        asked.append(8_000_000_000)
        return asked[-1]

    monkeypatch.setattr(fit, "free_memory", free)
    listed = models()
    listed.search("0").sort("size").filter(usable=True)
    assert asked == []
    assert len(listed.filter(fits=True)) == 4
    listed.to_frame()
    repr(listed)
    assert len(asked) == 1
    models().filter(fits="yes")
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("share", "verdict"), [(2.0, "yes"), (1.0, "with these settings"), (0.01, "no")]
)
def test_the_three_answers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, share: float, verdict: str
) -> None:
    long = Typed("uint32", 131_072)
    changes = {"llama__context_length": long, "llama__attention__head_count_kv": Typed("uint32", 4)}
    path = put(folder / "m.gguf", model_file(width=8192, **changes))
    settings, _ = fit.choose_settings(read_header(path), free_bytes=1 << 60)
    # Just enough is too little for what is chosen by itself, which leaves some of it free.
    free_bytes = int(share * fit.estimate(read_header(path), settings).total_bytes)
    monkeypatch.setattr(fit, "free_memory", lambda: free_bytes)
    (found,) = models().search("m.gguf")
    answer = found.fit
    assert answer is not None
    assert (answer.verdict, answer.free_bytes) == (verdict, free_bytes)
    assert answer.fits == (verdict != "no")
    assert str(answer) in repr(models())
    if verdict == "with these settings":
        assert answer.settings
        wanted = LoadSettings(**answer.settings)
        settings, _ = fit.choose_settings(read_header(path), wanted, free_bytes=free_bytes)
        assert fit.check_fits(read_header(path), settings, free_bytes=free_bytes)
        assert str(answer).startswith("with ")
        assert "=" in str(answer)
    else:
        assert answer.settings == {}
    if verdict == "no":
        assert "This model needs" in answer.reason
        assert answer.needed_bytes is not None
        assert answer.needed_bytes > free_bytes
    kept = models().filter(fits=verdict)
    assert [one.name for one in kept.search("m.gguf")] == ["m"]


def test_a_long_table_judges_its_beginning_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        put(folder / f"{number}.gguf", model_file(str(number)))
    monkeypatch.setattr(model_list, "_FITS_SHOWN", 2)
    listed = models()
    text = repr(listed)
    assert text.endswith("filter(fits=True) and to_frame() judge all.")
    assert [listed[0].machine.judged(one.path) is not None for one in listed] == [True] * 2 + [
        False
    ] * 3
    assert "judge all" in listed._repr_html_()


def test_what_cannot_be_used_fits_nowhere(folder: Path) -> None:
    put(folder / "bad.gguf", b"bad")
    bad = models()[1]
    assert bad.fit is None
    assert models().filter(fits=False) == []
    assert models().sort("fits")[-1].name == "bad"


# --- copies --------------------------------------------------------------------------------------


def test_copies_are_found_by_header_and_made_sure_by_hash(folder: Path, person: Path) -> None:
    data = model_file("Twin")
    put(folder / "a.gguf", data)
    put(folder / "copy.gguf", data)
    put(folder / "other.gguf", data[:-1] + b"\1")  # the same header, other weights
    put(folder / "single.gguf", model_file("Single"))
    listed = models()
    found = {one.name: one for one in listed}
    assert found["a"].duplicates_of == ("copy", "other")
    assert found["single"].duplicates_of == ()
    assert "copy and 1 more" in repr(listed)
    assert "Same as" not in repr(listed.search("single"))
    told: list[tuple[int, int]] = []
    sure = listed.check_duplicates(progress=lambda done, total: told.append((done, total)))
    names = {one.name: one.duplicates_of for one in sure}
    assert names == {
        "demo": (), "a": ("copy",), "copy": ("a",), "other": (), "single": ()
    }  # fmt: skip
    assert told[-1] == (3 * len(data), 3 * len(data))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    # And it is remembered: in the next list nothing has to be read.
    again = {one.name: one for one in models()}
    assert again["other"].duplicates_of == ()
    assert again["a"].known_sha256 == hashlib.sha256(data).hexdigest()
    assert again["single"].known_sha256 is None


def test_a_copy_in_ollama_is_known_without_reading_that(folder: Path, person: Path) -> None:
    data = model_file("Twin")
    put(folder / "a.gguf", data)
    Ollama(person / ".ollama/models").add("twin:1", data)
    listed = models()
    read: list[int] = []
    listed.check_duplicates(progress=lambda done, total: read.append(total))
    assert set(read) == {len(data)}


def test_hashing_can_be_stopped_and_sees_a_change(folder: Path) -> None:
    path = put(folder / "m.gguf", model_file() + b"\0" * 9_000_000)
    one = models()[1]
    with pytest.raises(errors.FileChangeError, match="stopped") as caught:
        one.sha256(cancel=lambda: True)
    assert caught.value.details["problem"] == "cancelled"

    def grow(done: int, total: int) -> None:
        with path.open("ab") as file:
            file.write(b"x")

    with pytest.raises(errors.FileChangeError, match="changed") as caught:
        one.sha256(progress=grow)
    assert caught.value.details["problem"] == "changed"
    assert models()[1].known_sha256 is None
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert one.sha256() == sha256_of(path) == right
    path.write_bytes(model_file("Another"))
    assert models()[1].sha256() == hashlib.sha256(path.read_bytes()).hexdigest() != right


def test_a_split_model_has_one_hash_of_all_its_parts(folder: Path) -> None:
    parts = [put(folder / f"s/big-0000{n}-of-00002.gguf", part_file(n, 2)) for n in (1, 2)]
    for part in parts:
        put(folder / "t" / part.name, part.read_bytes())
    one, other = models()[1:]
    told: list[tuple[int, int]] = []
    assert one.sha256(progress=lambda *told_: told.append(told_)) == other.sha256()
    whole = sum(part.stat().st_size for part in parts)
    assert told[-1] == (whole, whole)
    put(folder / "t" / parts[1].name, parts[1].read_bytes()[:-1] + b"\1")
    assert models()[2].sha256() != models()[1].sha256()
    assert models()[1].duplicates_of == ()


# --- the rest of an entry ------------------------------------------------------------------------


def test_the_frame_has_all_of_it(folder: Path, person: Path) -> None:
    ollama = Ollama(person / ".ollama/models")
    ollama.add("g:1", model_file("G"), ollama.layer("projector", projector_file()))
    put(folder / "bad.gguf", b"bad")
    path = put(folder / "m.gguf", model_file("M"))
    note_use(path)
    frame = models().to_frame().set_index("name")
    row = frame.loc["g:1"]
    assert (row["program"], row["kind"], row["capabilities"]) == ("ollama", "model", "chat, vision")
    assert row["mmproj"] == str(ollama.path(projector_file()))
    assert row["places"] == [f"Ollama: {ollama.path(model_file('G'))}"]
    assert row["fits"] in ("yes", "with these settings", "no")
    assert len(row["sha256"]) == 64
    assert frame.loc["bad", "kind"] == "other"
    assert not isinstance(frame.loc["bad", "fits"], str)
    assert str(frame["last_used"].dtype).startswith("datetime64")
    assert frame["last_used"].notna().tolist() == [False, False, True, False]
    quick = models().to_frame(fits=False)
    assert quick["fits"].isna().all()
    assert list(quick.columns) == ["name", *frame.columns]
    assert list(ModelList([]).to_frame().columns) == list(quick.columns)


def test_the_last_use_is_remembered_and_what_is_no_time_is_not_shown(folder: Path) -> None:
    path = put(folder / "m.gguf", model_file())
    before = dt.datetime.now(dt.UTC)
    note_use(path)
    used = models()[1].last_used
    assert used is not None
    assert before <= used <= dt.datetime.now(dt.UTC)
    assert "Last used" in repr(models())
    put(config.data_dir() / "library/used.json", f'{{"version":1,"used":{{"{path}":1e300}}}}')
    assert models()[1].last_used is None
    assert "Last used" not in repr(models())


def test_folders_that_are_added_stay_until_they_are_removed(tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    put(extra / "m.gguf", model_file())
    assert add_folder(extra) == extra
    add_folder(str(extra))
    assert added_folders() == [extra]
    assert [one.name for one in models()] == ["demo", "m"]
    assert models()[1].source == str(extra)
    assert models().filter(source=str(extra)) == models().filter(source="folder")
    assert ModelLibrary().folders == [config.models_dir(), extra]
    assert remove_folder(extra)
    assert not remove_folder(extra)
    assert [one.name for one in models()] == ["demo"]
    with pytest.raises(errors.NotAFileError, match="is not a folder"):
        add_folder(tmp_path / "nowhere")


def test_a_list_of_folders_that_is_lost_is_said(tmp_path: Path) -> None:
    add_folder(tmp_path)
    kept = config.data_dir() / "library/folders.json"
    kept.write_text("{broken")
    said = models()[-1]
    assert said.error is not None
    assert "folders that you added" in said.error.message
    add_folder(tmp_path)
    assert added_folders() == [tmp_path]
