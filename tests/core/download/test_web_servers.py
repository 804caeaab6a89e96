"""What a server may say besides the file: its name, another address, a pause, who it is."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.hub_files import files_below, model_file
from support.hub_server import HubServer, http_date

from gguf_widgets.core import download
from gguf_widgets.core.download import Patience
from gguf_widgets.core.download.from_web import disposition_name
from gguf_widgets.core.download.http import Source, refuse_redirect, retry_after_s
from gguf_widgets.core.download.names import clean_file_name
from gguf_widgets.core.errors import DownloadError

DATA = model_file()


@pytest.fixture
def address(server: HubServer) -> str:
    return server.page("/files/tiny.gguf", DATA)


def test_a_file_may_be_named_by_its_server(server: HubServer, person: Any, models: Path) -> None:
    for header, expected in (
        ('attachment; filename="tiny chat.gguf"', "tiny chat.gguf"),
        ("attachment; filename*=UTF-8''%E6%A8%A1.gguf", "模.gguf"),
        ('attachment; filename="../../../etc/cron.d/x"', "x.gguf"),
        ("attachment; filename*=UTF-8''..%2F..%2Fy", "y.gguf"),
        ('attachment; filename="CON"', "_CON.gguf"),
        ("attachment; filename*=nonsense''%ff%fe", "ÿþ.gguf"),
        ("attachment", "download.gguf"),
    ):
        path = f"/get/{len(expected)}/download"
        address = server.page(path, DATA, Content_Disposition=header)
        fetched = person.get(f"{address}?id=7")
        assert fetched.path.parent == models
        assert fetched.path.name == expected
    assert len(files_below(models)) == 7


_PIECES = [
    "attachment",
    ";",
    " ",
    "filename",
    "filename*",
    "*0*",
    "*1*",
    "=",
    '"',
    "'",
    "''",
    "%ff",
]
_PIECES += ["UTF-8", "utf-7", "idna", "punycode", "rot13", "\n", "\0", "../", "..\\", "\ud800", "é"]


@given(st.lists(st.sampled_from(_PIECES), max_size=16).map("".join))
@example("attachment; filename*0*=*0idna=?utf-8?q?x?=' ''''; filename*")
@example("attachment; filename*=a;filename*1*=b''c")
def test_whatever_a_server_calls_its_file_gives_a_name_in_the_folder(header: str) -> None:
    for value in (header, f"attachment; filename={header}", f"attachment; filename*={header}"):
        name = clean_file_name(disposition_name(value))
        assert (Path("/models") / name).parent == Path("/models")
        assert name.isprintable()


def test_refusals_are_told_apart(server: HubServer, person: Any, models: Path) -> None:
    person.refused("not_found", f"{server.web_url}/nothing.gguf")
    address = server.page("/x.gguf", DATA)
    for status, problem in ((401, "not_allowed"), (403, "not_allowed"), (410, "not_found"),
                            (204, "server"), (400, "server"), (599, "server")):  # fmt: skip
        server.fault(where="web", status=status)
        person.refused(problem, address)
    server.page("/login.gguf", b"<html>Please log in</html>")
    assert "web page" in person.refused("not_gguf", f"{server.web_url}/login.gguf").message
    server.page("/empty.gguf", b"")
    person.refused("not_a_model", f"{server.web_url}/empty.gguf")
    packed = server.page("/packed.gguf", DATA, Content_Encoding="gzip")
    assert "compressed" in person.refused("server", packed).message
    assert files_below(models) == set()


def test_redirections_are_followed_to_a_safe_end_only(
    server: HubServer, person: Any, models: Path, address: str
) -> None:
    server.fault(where="web", match="/start", location=f"{server.cdn_url}/hop", times=2)
    server.fault(where="cdn", match="/hop", location=address, times=2)
    assert person.get(f"{server.web_url}/start").path.read_bytes() == DATA
    for location in ("http://example.org/x.gguf", "ftp://x/y", "javascript:alert(1)", "https://"):
        server.fault(where="web", match="/bad", location=location)
        person.refused("redirect", f"{server.web_url}/bad.gguf")
    server.fault(where="web", match="/loop", location="/loop.gguf", times=50)
    error = person.refused("redirect", f"{server.web_url}/loop.gguf")
    assert "more than 10 times" in error.message
    assert len(server.asked("web", "/loop")) == 11


@pytest.mark.parametrize(
    ("start", "target", "of_hub", "followed"),
    [
        ("https://a.org/x", "https://b.org/x", False, True),
        ("https://a.org/x", "http://a.org/x", False, False),
        ("https://a.org/x", "http://127.0.0.1/x", False, False),  # not into this machine
        ("https://a.org/x", "http://localhost:8888/x", True, False),
        ("http://127.0.0.1/x", "http://[::1]:80/x", False, True),
        ("http://127.0.0.1/x", "http://a.org/x", True, False),
        ("http://mirror.lan/x", "http://files.lan/x", True, True),  # HF_ENDPOINT is set so
        ("http://mirror.lan/x", "http://127.0.0.1/x", True, False),
    ],
)
def test_where_a_redirection_may_lead(
    start: str, target: str, of_hub: bool, followed: bool
) -> None:
    source = Source(start, session=lambda: None, shown="It", of_hub=of_hub)
    if followed:
        refuse_redirect(source, start, target)
        return
    with pytest.raises(DownloadError, match="not https"):
        refuse_redirect(source, start, target)


def test_when_to_come_back_is_read_in_each_form() -> None:
    assert retry_after_s({"retry-after": "7"}) == 7
    assert 50 < (retry_after_s({"retry-after": http_date(60)}) or 0) <= 60
    assert retry_after_s({"retry-after": http_date(-60)}) == 0
    assert retry_after_s({"ratelimit": '"api";r=0;t=55'}) == 55
    assert retry_after_s({"ratelimit": '"api";r=10;t=55'}) is None
    for nonsense in ("", "soon", "-5", "9" * 40, "Wed, 99 Foo 2026"):
        assert retry_after_s({"retry-after": nonsense}) is None


def test_a_server_that_says_nothing_is_left_after_a_time(
    server: HubServer, person: Any, models: Path, address: str
) -> None:
    patience = Patience(read_s=0.3, tries=2, first_wait_s=0.01)
    server.fault(where="web", cut_after=200_000, stall_s=3, times=1)
    assert person.get(address, patience=patience).path.read_bytes() == DATA
    server.fault(where="web", match="/slow", cut_after=0, stall_s=3, times=9)
    server.page("/slow.gguf", DATA)
    error = person.refused("unreachable", f"{server.web_url}/slow.gguf", patience=patience)
    assert "did not answer in time" in error.message


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_over_https_a_certificate_counts_and_a_stop_ends_a_read(
    server: HubServer, person: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    plain = server.page("/tiny.gguf", DATA)
    address = server.over_tls(certificate, key) + "/tiny.gguf"
    assert "cannot be trusted" in person.refused("unreachable", address).message
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    # Nothing leads from there to where it is not https.
    server.fault(where="web", location=plain)
    person.refused("redirect", address)
    server.fault(where="web", cut_after=1_000_000, stall_s=20)
    event = threading.Event()
    threading.Timer(1.0, event.set).start()
    begun = time.monotonic()
    patience = download.Patience(read_s=600)
    person.refused("cancelled", address, cancel=event, patience=patience)
    assert time.monotonic() - begun < 15
    assert person.get(address).path.read_bytes() == DATA
    assert server.asked("web")[-1].headers["range"] == "bytes=1000000-"
