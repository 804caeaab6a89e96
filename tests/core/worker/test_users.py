"""Another user of the machine gets nothing: not the folder, not the socket, not the secret.

Each attempt is made by a process of another user, which only the superuser can start; run as
anybody else, the tests say that they were skipped. What the modes of the files are is tested for
everybody (`test_server`).
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gguf_widgets.core.errors import WorkerStartError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.worker import endpoint, framing, peek, protocol, registry
from gguf_widgets.core.worker.proof import proof_of

pytestmark = [
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
    ),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

NOBODY = 65534


@pytest.fixture
def model(open_folder: Path, monkeypatch: pytest.MonkeyPatch, scripted: None) -> Iterator[Model]:
    """A model whose data folder everybody may look into, were it not for what we do about that."""
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(open_folder))
    with ModelManager(keep_alive=0) as manager:
        model = manager.load()
        yield model
        assert model.stats().num_clients == 1
        assert model.unload() is True
    assert registry.list_processes() == []


def as_somebody_else(attempt: Callable[[], str]) -> str:
    """Have another user's process try something; return what came of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            try:
                answer = attempt()
            except OSError as error:
                answer = type(error).__name__
            except BaseException:  # noqa: BLE001 - shown by the parent
                answer = traceback.format_exc()
            os.write(writing, answer.encode()[:60_000])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer


def _hello(**fields: object) -> bytes:
    return framing.encode(
        protocol.Hello(protocol_version=protocol.PROTOCOL_VERSION, package_version="test", **fields)
    )


def _exchange(connection: socket.socket, hello: bytes) -> str:
    """Say something; return what comes until the end, or within a second."""
    connection.settimeout(1.0)
    data = b""
    with connection:
        connection.sendall(hello)
        while part := connection.recv(65536):
            data += part
    return data.decode("latin-1")


def test_the_folder_the_entry_and_the_log_are_closed_to_others(model: Model) -> None:
    (entry,) = registry.list_workers()
    path = registry.entry_path(entry.name)
    assert as_somebody_else(lambda: str([*path.parent.iterdir()])) == "PermissionError"
    for file in (path, Path(entry.log_path)):
        assert as_somebody_else(file.read_text) == "PermissionError"
    assert as_somebody_else(lambda: str(os.kill(entry.pid, 0))) == "PermissionError"


@pytest.mark.parametrize("looks_only", [False, True])
def test_the_socket_is_closed_to_others_even_if_its_folder_were_open(
    model: Model, looks_only: bool
) -> None:
    (entry,) = registry.list_workers()
    assert entry.address.path is not None

    def talk() -> str:
        return _exchange(endpoint.connect(entry.address, 5), _hello(peek=looks_only))

    assert as_somebody_else(talk) == "PermissionError"
    folder = Path(entry.address.path).parent
    folder.chmod(0o777)
    Path(entry.address.path).chmod(0o666)
    try:
        # The system itself says who it is, not the files.
        assert as_somebody_else(talk) in ("", "ConnectionResetError", "BrokenPipeError")
        assert "Welcome" in _exchange_as_us(entry.address)
    finally:
        folder.chmod(0o700)


def _exchange_as_us(address: endpoint.Address) -> str:
    with endpoint.connect(address, 40) as connection:
        connection.sendall(_hello(peek=True))
        return connection.recv(65536).decode("latin-1")


@pytest.mark.parametrize("looks_only", [False, True])
def test_a_port_answers_others_with_a_refusal_and_its_secret_is_closed_to_them(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, looks_only: bool
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_TRANSPORT", "tcp")
    request.getfixturevalue("model")
    (entry,) = registry.list_workers()
    secret = endpoint.read_secret(entry.address)
    assert as_somebody_else(lambda: endpoint.read_secret(entry.address)) == "PermissionError"
    guess = proof_of("a guess", "client", "1")

    def talk() -> str:
        hello = _hello(nonce="1", proof=guess, peek=looks_only)
        return _exchange(endpoint.connect(entry.address, 5), hello)

    answer = as_somebody_else(talk)
    assert "Refused" in answer
    assert "belongs to this user" in answer
    assert secret not in answer
    assert entry.model_path not in answer
    assert peek.look(entry, 40).state == "ready"


def test_whoever_shares_the_data_folder_of_another_user_starts_no_worker_in_it(
    model: Model,
) -> None:
    def try_to_use_it() -> str:
        assert registry.list_workers() == []
        try:
            endpoint.private_folder()
        except WorkerStartError as error:
            return error.message
        return "used"

    assert "is not a folder of yours" in as_somebody_else(try_to_use_it)
