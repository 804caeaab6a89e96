"""What a person may write to name a model, and what its file is called here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gguf_widgets.core.download.names import (
    HubName,
    UrlName,
    clean_file_name,
    host_is_loopback,
    is_download_name,
    local_path,
    parse_name,
    repo_name,
)
from gguf_widgets.core.errors import InvalidValueError

NASTY = ["../../x.gguf", "..\\..\\x.gguf", "CON", "con.gguf", "nul.tar.gguf", "x" * 300 + ".gguf"]
NASTY += ["a\u202egguf.exe", ".gguf", "...", "", " . ", "a\0b", "x.gguf.", "COM¹.gguf", "C:x.gguf"]
NASTY += ["é" * 150 + "-00001-of-00002.gguf", "/etc/passwd", "~/x", "-rf", "\ud800.gguf", "a\nb"]
DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:owner/repo", HubName("owner/repo")),
        ("HF://owner/repo", HubName("owner/repo")),
        (" hf:owner/repo:q4_k_m\n", HubName("owner/repo", "q4_k_m")),
        ("hf:a.b_c/d-e.1:UD-IQ2_XXS", HubName("a.b_c/d-e.1", "UD-IQ2_XXS")),
        ("hf:owner/repo/sub/x-Q8_0.GGUF", HubName("owner/repo", None, "sub/x-Q8_0.GGUF")),
        ("https://example.org/x.gguf", UrlName("https://example.org/x.gguf")),
        ("HTTPS://example.org/x?a=b#part", UrlName("https://example.org/x?a=b")),
        ("http://127.0.0.1:8000/x.gguf", UrlName("http://127.0.0.1:8000/x.gguf")),
        ("http://[::1]/x.gguf", UrlName("http://[::1]/x.gguf")),
    ],
)
def test_a_well_written_name_is_taken_apart(text: str, expected: HubName | UrlName) -> None:
    assert parse_name(text) == expected
    assert is_download_name(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hf:", "no repository"),
        ("hf:repo", "no repository"),
        ("hf:owner/repo:", "no quantisation"),
        ("hf:owner/repo:Q4 K M", "a space"),
        ("hf:owner/repo:Q4/K", "no quantisation"),
        ("hf:owner/repo/x.bin", "no .gguf file"),
        ("hf:owner/repo/x.gguf:Q4_K_M", "both a file and a quantisation"),
        ("hf:owner/repo/../../x.gguf", "not the name of a file inside"),
        ("hf:owner/repo//x.gguf", "not the name of a file inside"),
        ("hf:../repo", "no repository"),
        ("hf:own--er/repo", "no repository"),
        ("hf:owner/repo.git", "no repository"),
        ("hf:owner/" + "r" * 100, "no repository"),
        ("http://example.org/x.gguf", "can be changed on its way"),
        ("http://localhost.example.org/x.gguf", "can be changed on its way"),
        ("http://127.0.0.1.example.org/x.gguf", "can be changed on its way"),
        ("https://", "no web address"),
        ("https:///x.gguf", "no web address"),
        ("https://example.org:99999/x.gguf", "no web address"),
        ("https://example.org/a b.gguf", "a space"),
        ("https://example.org\\@evil.org/x.gguf", "backslash"),
        ("https://example.org/\u202ex.gguf", "cannot be seen"),
        ("ftp://example.org/x.gguf", "no such name"),
        ("file:///etc/passwd", "no such name"),
        ("https://example.org/" + "x" * 5000, "characters"),
    ],
)
def test_any_other_name_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidValueError, match=re.escape(reason)):
        parse_name(text)


@pytest.mark.parametrize("secret", ["emma:pass%40word@", "emma@", ":pass@"])
def test_a_password_in_an_address_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(InvalidValueError, match="password") as caught:
        parse_name(f"https://{secret}example.org/x.gguf")
    assert secret not in caught.value.message + str(caught.value.details)


def test_the_query_of_an_address_is_not_shown() -> None:
    assert str(parse_name("https://example.org/x.gguf?token=abc")) == "https://example.org/x.gguf"


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.3.2.1", "::1", "LOCALHOST."])
def test_this_machine_is_known_by_its_names(host: str) -> None:
    assert host_is_loopback(host)
    assert not host_is_loopback(host.strip(".") + ".example.org")


@given(st.text())
@example("hf:owner/repo:Q4_K_M")
def test_whatever_is_written_gives_a_name_or_one_of_our_errors(text: str) -> None:
    for written in (text, f"hf:{text}", f"https://{text}", f"hf:owner/repo/{text}.gguf"):
        try:
            parsed = parse_name(written)
        except InvalidValueError:
            continue
        if isinstance(parsed, HubName):
            assert parse_name(str(parsed)) == parsed
        else:
            assert "@" not in parsed.url.partition("//")[2].partition("/")[0]


@given(st.text(max_size=400))
@example("hf:a/b")
def test_a_repositorys_name_has_two_plain_parts_or_is_refused(text: str) -> None:
    try:
        repo = repo_name(text)
    except InvalidValueError:
        return
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII)
    assert ".." not in repo


@given(st.one_of(st.text(max_size=500), st.sampled_from(NASTY)))
def test_a_cleaned_name_stays_in_its_folder_on_every_system(name: str) -> None:
    clean = clean_file_name(name)
    folder = Path("/models")
    assert (folder / clean).parent == folder
    assert not set(clean) & set('<>:"/\\|?*')
    assert clean.isprintable()
    assert clean.endswith(".gguf")
    assert not clean.startswith((".", " "))
    assert not DEVICE.fullmatch(clean)
    assert len(clean.encode()) < 240  # with room for ".part" and ".json"
    assert clean_file_name(clean) == clean


def test_a_good_name_is_kept_as_it_is() -> None:
    for name in ("tiny-Q4_K_M.gguf", "Mistral 7B (v0.3).gguf", "模型-Q8_0.gguf"):
        assert clean_file_name(name) == name
    long = clean_file_name("é" * 300 + "-00002-of-00003.gguf")
    assert long.endswith("-00002-of-00003.gguf")


@given(st.lists(st.text(max_size=40), min_size=1, max_size=10))
@example(["..", "x.gguf"])
@example(["a", "b.gguf"])
@example(["a\\..\\..", "x.gguf"])
def test_a_repositorys_path_stays_below_its_folder_or_is_refused(parts: list[str]) -> None:
    folder = Path("/models/owner/repo")
    try:
        path = local_path(folder, "/".join(parts))
    except InvalidValueError:
        return
    assert folder in path.parents
    assert ".." not in path.parts
    assert all(part.isprintable() and ":" not in part for part in path.parts)
