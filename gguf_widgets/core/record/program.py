"""Which program computed something, and on what machine.

Promises: found out once for a process, within milliseconds, without loading the engine; what cannot
be found out is None. Leaves to others: the model (`model_file`), comparing (`differences`).
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import platform
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core.doctor_cpu import cpu_name
from gguf_widgets.core.fit_machine import usable_cores
from gguf_widgets.core.record.tried import digest_of, tried

__all__ = ["PACKAGES", "about_machine", "about_program"]

PACKAGES: Final = ("llama-cpp-python", "numpy", "msgspec", "jinja2", "pandas", "dask")
"""The packages whose versions a record names."""


@functools.cache
def about_program() -> dict[str, Any]:
    """Return what every record of this process says.

    Returns
    -------
    dict
        ``package``: this package's version. ``engine``: llama-cpp-python's. ``engine_files``: a
        digest of its libraries' names and sizes, which tells two builds of one version apart.
        ``processor``: its name. ``system``: the operating system and the kind of processor.
    """
    import gguf_widgets

    engine, files = _engine()
    return {
        "package": gguf_widgets.__version__,
        "engine": engine,
        "engine_files": files,
        "processor": cpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
    }


@functools.cache
def about_machine() -> dict[str, Any]:
    """Return what an experiment says besides `about_program`.

    Returns
    -------
    dict
        ``python``: its version. ``packages``: versions by name, of those of `PACKAGES` that are
        installed. ``num_cores``: of the processor, those that this process may use. ``cards``: the
        graphics cards that llama.cpp can use, each with name and memory in bytes; None if they
        could not be asked.
    """
    return {
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "num_cores": tried(usable_cores),
        "cards": tried(_cards),
    }


def _cards() -> list[dict[str, Any]]:
    from gguf_widgets.core.devices import graphics_cards

    found = graphics_cards()
    return [
        {"name": one.name, "description": one.description, "memory_bytes": one.memory_total_bytes}
        for one in found
    ]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _engine() -> tuple[str | None, str | None]:
    """Return the version of llama-cpp-python and a digest of its libraries, without loading it."""
    version = _version("llama-cpp-python")
    try:
        spec = importlib.util.find_spec("llama_cpp")
    except (ImportError, ValueError):
        return None, None
    if version is None:
        return None, None
    folder = Path(spec.origin).parent / "lib" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        return version, None
    files = sorted((one.name, one.stat().st_size) for one in folder.iterdir() if one.is_file())
    return version, digest_of(files)
