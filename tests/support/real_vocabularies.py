"""Real vocabularies: those that llama.cpp's own tests use, as GGUF files.

Not a test and no fixture. llama-cpp-python's source distribution holds llama.cpp, and that holds
the vocabularies of 19 families of models (``models/ggml-vocab-*.gguf``; MIT). pip fetches that
distribution (77 MB) from its index, or from its own cache where it has compiled the engine from it;
only the very file is taken whose SHA-256 is below, and what is taken out of it is kept in pytest's
cache, so it is fetched once. pip asks its build system what it is called; nothing is compiled.

``GGUF_WIDGETS_TEST_VOCABULARIES`` may name a folder that has them already.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["NAMES", "NotThereError", "folder_of_vocabularies"]

NAMES: Final = (
    "aquila", "baichuan", "bert-bge", "command-r", "deepseek-coder", "deepseek-llm", "falcon",
    "gemma-4", "gpt-2", "gpt-neox", "llama-bpe", "llama-spm", "mpt", "nomic-bert-moe", "phi-3",
    "qwen2", "qwen35", "refact", "starcoder",
)  # fmt: skip

_PACKAGE: Final = "llama-cpp-python"
_VERSION: Final = "0.3.36"
_SHA256: Final = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
_INSIDE: Final = f"llama_cpp_python-{_VERSION}/vendor/llama.cpp/models"
_LIMIT_S: Final = 300
_LARGEST: Final = 64 << 20


class NotThereError(Exception):
    """They cannot be had on this machine now; the message says why."""


def folder_of_vocabularies(cache: Path) -> Path:
    """Return a folder with ``ggml-vocab-NAME.gguf`` for each of `NAMES`.

    Parameters
    ----------
    cache : Path
        Where they are kept.

    Raises
    ------
    NotThereError
        The distribution cannot be fetched, or is not the one that is meant.
    """
    given = os.environ.get("GGUF_WIDGETS_TEST_VOCABULARIES")
    for folder in (Path(given) if given else cache, cache):
        if _holds_all(folder):
            return folder
    with tempfile.TemporaryDirectory() as name:
        archive = _fetched(Path(name))
        made = cache.with_name(f"{cache.name}.{os.getpid()}.new")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        _take_out(archive, made)
        try:
            made.rename(cache)
        except OSError:  # other tests at the same time were sooner
            shutil.rmtree(made)
            if not _holds_all(cache):
                raise
    return cache


def _holds_all(folder: Path) -> bool:
    return all((folder / f"ggml-vocab-{name}.gguf").is_file() for name in NAMES)


def _fetched(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", _PACKAGE]
    command += ["--progress-bar", "off", "--dest", str(folder), f"{_PACKAGE}=={_VERSION}"]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        raise NotThereError(f"pip did not fetch {_PACKAGE} in {_LIMIT_S} s") from None
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode or len(archives) != 1:
        lines = done.stderr.strip().splitlines() or ["it did not say why"]
        raise NotThereError(f"pip could not fetch {_PACKAGE}'s source: {lines[-1][:200]}")
    with archives[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _SHA256:
        raise NotThereError(f"{archives[0].name} is another file than expected: {found}")
    return archives[0]


def _take_out(archive: Path, folder: Path) -> None:
    wanted = {f"{_INSIDE}/ggml-vocab-{name}.gguf" for name in NAMES}
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            if member.name not in wanted or not member.isfile() or member.size > _LARGEST:
                continue
            source = tar.extractfile(member)
            assert source is not None
            with source, (folder / Path(member.name).name).open("wb") as target:
                shutil.copyfileobj(source, target)
            wanted.discard(member.name)
    if wanted:
        raise NotThereError(f"{archive.name} lacks {', '.join(sorted(wanted))}")
