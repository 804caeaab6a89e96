"""The processors and graphics cards that llama.cpp can use, as ggml itself reports them.

Promises: `devices` asks in a short-lived process of its own, because starting a graphics driver may
take seconds, hold memory for good, or abort; whatever happens there, the caller gets a list or one
clear error, within the time it allows. Leaves to others: deciding what to run where (`core.fit`)
and how to show it (`core.doctor`).

llama-cpp-python has no call for this, but the ``libggml`` that it ships does; ``ctypes`` reaches it
without importing ``llama_cpp``. ``python -m gguf_widgets.core.devices`` prints the list as JSON.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from gguf_widgets.core.errors import DeviceQueryError, InvalidValueError, MissingDependencyError

__all__ = ["Device", "DeviceKind", "devices", "graphics_cards"]

DeviceKind = Literal["cpu", "gpu", "accel", "other"]

# ggml's enum ggml_backend_dev_type. An integrated graphics chip (2) is a GPU to a person; it
# differs in that it has no memory of its own.
_KINDS: dict[int, DeviceKind] = {0: "cpu", 1: "gpu", 2: "gpu", 3: "accel"}
_INTEGRATED = 2

_MARK = b"gguf-widgets-devices:"

# ggml's parts that are no graphics backend: the processor's (one for each kind of it), linear
# algebra on the processor, and machines elsewhere.
_NO_CARDS = ("base", "blas", "cpu", "rpc")


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One device that ggml can compute on.

    Parameters
    ----------
    name : str
        ggml's short name, such as "CPU", "CUDA0", "Metal", "Vulkan0".
    description : str
        The maker's name for it.
    kind : {"cpu", "gpu", "accel", "other"}
        "accel" is a helper beside the CPU, such as a BLAS library; "other" is a kind that this
        program does not know.
    integrated : bool
        True for a graphics chip that shares the machine's memory.
    memory_free_bytes, memory_total_bytes : int
        0 and 0 where the device does not tell.
    """

    name: str
    description: str
    kind: DeviceKind
    integrated: bool = False
    memory_free_bytes: int
    memory_total_bytes: int


def devices(timeout_s: float = 30.0) -> list[Device]:
    """Ask ggml, in a process of its own, which devices it can compute on.

    Parameters
    ----------
    timeout_s : float
        The longest to wait, in seconds; a graphics driver may need several at its first start.

    Returns
    -------
    list of Device
        In ggml's order: graphics cards come before the CPU.

    Raises
    ------
    MissingDependencyError
        llama-cpp-python, or the library inside it, is not installed.
    DeviceQueryError
        The library could not be loaded, crashed, or gave no answer in time.
    """
    if not 0 < timeout_s <= 3600:
        raise InvalidValueError(f"timeout_s is {timeout_s}; it must be above 0 and up to 3600.")
    _library_folders()  # the common fault is found here, without starting anything
    return _run([sys.executable, "-P", "-m", "gguf_widgets.core.devices"], timeout_s)


def graphics_cards(timeout_s: float = 30.0) -> list[Device]:
    """Return the graphics cards that ggml can compute on; see `devices`.

    Where llama.cpp was compiled without any, nothing is asked and no time spent.
    """
    if not _may_use_cards(_library_folders()):
        return []
    return [device for device in devices(timeout_s) if device.kind == "gpu"]


def _may_use_cards(folders: Sequence[Path]) -> bool:
    """Say whether the library has a part for some graphics card, as its files are named."""
    for folder in folders:
        parts = {
            path.name.removeprefix("lib").removeprefix("ggml-")
            for path in folder.glob("*ggml-*")
            if path.name.startswith(("ggml-", "libggml-"))
        }
        if parts:
            return any(not part.startswith(_NO_CARDS) for part in parts)
    return True  # everything is in one file, or nothing is there: asking tells


def _run(command: Sequence[str], timeout_s: float) -> list[Device]:
    # The child looks for packages exactly where this process does ("" is the current folder).
    places = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)
    environment = {**os.environ, "PYTHONPATH": places}
    try:
        done = subprocess.run(  # noqa: S603  # this Python and a module of ours, no outside words
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceQueryError(
            f"Looking for graphics cards took longer than {timeout_s:g} s and was stopped. "
            "A graphics driver may be stuck; restarting the machine often helps.",
            timeout_s=timeout_s,
        ) from error
    except OSError as error:
        raise DeviceQueryError(
            f"The program that looks for graphics cards did not start: {error.strerror or error}."
        ) from error
    answer = next(
        (line[len(_MARK) :] for line in done.stdout.splitlines() if line.startswith(_MARK)), None
    )
    if done.returncode != 0 or answer is None:
        raise DeviceQueryError(
            f"ggml could not list this machine's devices: it {_ending(done.returncode)}. "
            f"{_last_line(done.stderr)}".rstrip(),
            exit_status=done.returncode,
        )
    try:
        return msgspec.json.decode(answer, type=list[Device])
    except msgspec.MsgspecError as error:
        raise DeviceQueryError(
            f"ggml's list of devices could not be understood: {error}."
        ) from error


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"crashed ({signal.Signals(-status).name})"
    except ValueError:
        return f"crashed (signal {-status})"


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return f"Its last words were: {lines[-1].strip()[:300]}" if lines else ""


def _library_folders() -> list[Path]:
    """Return the folders where the ggml libraries of llama-cpp-python may be, best first."""
    override = os.environ.get("LLAMA_CPP_LIB_PATH")  # llama-cpp-python's own switch
    if override:
        return [Path(override)]
    spec = importlib.util.find_spec("llama_cpp")  # finds the top-level package without importing it
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "Listing the devices needs llama-cpp-python, which is not installed. "
            'Install it with: pip install "gguf-widgets[llama]"',
            package="llama-cpp-python",
        )
    # PyPI's package has the libraries inside; conda-forge's takes those of its package llama.cpp.
    shared = ("Library", "bin") if sys.platform == "win32" else ("lib",)
    return [Path(spec.origin).parent / "lib", Path(sys.prefix, *shared)]


def _load_libraries(folders: Sequence[Path]) -> tuple[Path, list[ctypes.CDLL]]:
    """Load the libraries from the first folder that has them; return that folder as well."""
    prefix, suffixes = {
        "win32": ("", (".dll",)),
        "darwin": ("lib", (".dylib", ".so")),
    }.get(sys.platform, ("lib", (".so",)))
    for folder in folders:
        # "ggml" keeps the list of devices, "ggml-base" has the calls that describe one; on Windows
        # a symbol is found only in the very library that holds it.
        paths = [
            path
            for stem in ("ggml-base", "ggml")
            for suffix in suffixes
            if (path := folder / f"{prefix}{stem}{suffix}").is_file()
        ]
        if paths:
            return folder, [ctypes.CDLL(str(path)) for path in paths]
    raise MissingDependencyError(
        f"There is no ggml library in {' or '.join(map(str, folders))}, where llama-cpp-python "
        "keeps its own. Install it again with: "
        "pip install --force-reinstall --no-deps llama-cpp-python",
        folders=[str(folder) for folder in folders],
    )


def _query() -> list[Device]:
    """List the devices in this very process; only ever called in the short-lived one."""
    folder, libraries = _load_libraries(_library_folders())

    def bind(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        for library in libraries:
            # None, and not an AttributeError: the next library may have it.
            function: Any = getattr(library, name, None)
            if function is not None:
                function.restype = result
                function.argtypes = arguments
                return cast("Callable[..., Any]", function)
        raise DeviceQueryError(f"The ggml library in {folder} has no function {name}.")

    handle = ctypes.c_void_p
    text = ctypes.c_char_p
    # From the library's own folder: without a path ggml would also load drivers from the folder the
    # program was started in.
    bind("ggml_backend_load_all_from_path", None, text)(os.fsencode(folder))
    count = bind("ggml_backend_dev_count", ctypes.c_size_t)
    get = bind("ggml_backend_dev_get", handle, ctypes.c_size_t)
    name = bind("ggml_backend_dev_name", text, handle)
    description = bind("ggml_backend_dev_description", text, handle)
    kind = bind("ggml_backend_dev_type", ctypes.c_int, handle)
    size = ctypes.POINTER(ctypes.c_size_t)
    memory = bind("ggml_backend_dev_memory", None, handle, size, size)

    found = []
    for index in range(count()):
        device = get(index)
        free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
        memory(device, ctypes.byref(free), ctypes.byref(total))
        code: int = kind(device)
        found.append(
            Device(
                name=_decode(name(device)),
                description=_decode(description(device)),
                kind=_KINDS.get(code, "other"),
                integrated=code == _INTEGRATED or _is_apples(_decode(name(device))),
                memory_free_bytes=free.value,
                memory_total_bytes=total.value,
            )
        )
    return found


def _is_apples(name: str) -> bool:
    """Say whether this is the graphics part of an Apple processor, which Metal calls a card."""
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return apple and name.startswith(("Metal", "MTL"))


def _decode(value: bytes | None) -> str:
    return value.decode(errors="replace").strip() if value else ""


def main() -> int:
    """Print the devices of this machine as one marked line of JSON; drivers may print others."""
    try:
        found = _query()
    except (DeviceQueryError, MissingDependencyError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    # A driver that has written without an end of line must not hide the mark.
    sys.stdout.flush()
    sys.stdout.buffer.write(b"\n" + _MARK + msgspec.json.encode(found) + b"\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
