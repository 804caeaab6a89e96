"""The Makefile's helpers on machines that lack something: real programs, real pip, no network."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import tomllib
import venv
from pathlib import Path

import pip
import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ENGINE = PROJECT["optional-dependencies"]["llama"][0]
VERSION = ENGINE.partition("==")[2]

# A source archive in the engine's place. Its build needs nothing, and does what FAKE_BUILD says.
BACKEND = f"""
import base64, hashlib, os, pathlib, zipfile

INFO = "llama_cpp_python-{VERSION}.dist-info"
FILES = {{
    INFO + "/METADATA": "Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: {VERSION}\\n",
    INFO + "/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
}}
STARTS = "def llama_backend_init(): pass\\ndef llama_print_system_info(): return b''\\n"
CRASHES = "import os; os.abort()\\n"

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    for name, text in FILES.items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return INFO

def build_wheel(folder, config_settings=None, metadata_directory=None):
    wanted = os.environ["FAKE_BUILD"]
    print("[1/9] Building CXX object")
    if wanted == "fails":
        raise SystemExit("error: the compiler does not know this processor")
    FILES["llama_cpp.py"] = CRASHES if wanted == "crashes" else STARTS
    FILES[INFO + "/RECORD"] = "".join(name + ",,\\n" for name in FILES)
    name = "llama_cpp_python-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
    return name
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder that pip takes the engine from."""
    folder = tmp_path_factory.mktemp("index")
    with tarfile.open(folder / f"llama_cpp_python-{VERSION}.tar.gz", "w:gz") as archive:
        for name, text in (("backend.py", BACKEND), ("pyproject.toml", PYPROJECT)):
            data = text.encode()
            entry = tarfile.TarInfo(f"llama_cpp_python-{VERSION}/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    # A copy of the tests' own pip, which is quicker to have than a new one.
    shutil.copytree(Path(pip.__file__).parent, packages_of(folder) / "pip")
    return folder


def packages_of(environment: Path) -> Path:
    (folder,) = environment.glob("lib/python*/site-packages")
    return folder


class Installer:
    """``.ci/install.py engine`` in a small environment of its own, with the archive above."""

    def __init__(self, environment: Path, index: Path, cache: Path) -> None:
        self.environment = environment
        self.share = environment / "share" / "gguf-widgets"
        self.reason = self.share / "llama-install-error.txt"
        self.log = self.share / "llama-install.log"
        self.switches = {
            "PATH": os.environ["PATH"],
            "HOME": str(cache),
            "PIP_NO_INDEX": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": str(index),
            "PIP_CACHE_DIR": str(cache),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def run(self, build: str, *arguments: str, **switches: str) -> tuple[int, str]:
        """Return the exit status and what was printed."""
        done = subprocess.run(
            [
                self.environment / "bin" / "python",
                ROOT / ".ci" / "install.py",
                "engine",
                *arguments,
            ],
            check=False,
            capture_output=True,
            text=True,
            env={**self.switches, "FAKE_BUILD": build, **switches},
            timeout=100,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    def has_engine(self) -> bool:
        find = "import importlib.util as u, sys; sys.exit(u.find_spec('llama_cpp') is None)"
        python = self.environment / "bin" / "python"
        return subprocess.run([python, "-c", find], check=False, timeout=60).returncode == 0


@pytest.fixture
def installer(environment: Path, index: Path, tmp_path: Path) -> Installer:
    shutil.rmtree(environment / "share", ignore_errors=True)
    for left in packages_of(environment).glob("llama_cpp*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return Installer(environment, index, tmp_path)


def test_a_build_that_fails_goes_on_with_the_reason_until_something_changes(
    installer: Installer,
) -> None:
    status, said = installer.run("fails")
    assert status == 0, "the rest of the installation must go on"
    for text in (said, installer.reason.read_text("utf-8")):
        assert "the compiler does not know this processor" in text
        assert "make llama" in text
    assert "6 to 8 minutes" in said
    assert "demo mode" in said

    installer.log.unlink()
    for arguments, expected in ([], 0), (["--must"], 1):
        status, said = installer.run("works", *arguments)
        assert (status, installer.log.exists()) == (expected, False), "it was tried again"
        assert str(installer.reason) in said

    _, said = installer.run("works", CXX=sys.executable)  # another compiler
    assert "installed and starts" in said
    assert installer.has_engine()
    assert not installer.reason.exists()


def test_one_who_asks_for_another_try_gets_it_and_one_who_has_the_engine_waits_for_nothing(
    installer: Installer,
) -> None:
    assert installer.run("fails", "--again", "--must")[0] == 1
    assert not installer.has_engine()
    assert installer.run("works", "--again", "--must")[0] == 0
    assert installer.has_engine()
    assert installer.run("fails") == (0, "")


def test_an_engine_that_crashes_at_its_start_is_taken_out_again(installer: Installer) -> None:
    status, said = installer.run("crashes")
    assert status == 0
    assert "compiling it anew" in said  # pip may have kept one from another processor
    assert "signal 6" in installer.reason.read_text("utf-8")
    assert not installer.has_engine()


def test_a_machine_without_a_compiler_is_told_how_to_get_one(
    installer: Installer, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "apt-get").symlink_to("/bin/true")
    _, said = installer.run("fails", PATH=str(programs))
    assert "no C and C++ compiler" in said
    assert "sudo apt-get install build-essential" in installer.reason.read_text("utf-8")


def find_python(path: Path, **switches: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["/bin/sh", ROOT / ".ci" / "find_python.sh"],
        check=False,
        capture_output=True,
        text=True,
        env={
            "PATH": f"{path}:/usr/bin:/bin" if switches.pop("more", "") else str(path),
            **switches,
        },
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_python_that_will_do_is_found_among_ones_that_will_not(tmp_path: Path) -> None:
    script(tmp_path / "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    script(tmp_path / "python3.12", "echo 'it lacks the standard modules ensurepip'; exit 1")
    script(tmp_path / "python3.11", f'exec "{sys.executable}" "$@"')
    status, out, _ = find_python(tmp_path, more="yes")
    assert status == 0
    assert Path(out.strip()).samefile(sys.executable)


def test_without_a_python_that_will_do_each_one_tried_is_named_with_its_fault(
    tmp_path: Path,
) -> None:
    script(tmp_path / "python3.12", "echo 'it lacks the standard modules ensurepip'; exit 1")
    script(tmp_path / "python3", "echo 'it is version 3.8'; exit 1")
    (tmp_path / "head").symlink_to(shutil.which("head") or "")
    status, out, said = find_python(tmp_path)
    assert (status, out) == (1, "")
    assert "Python 3.11 or newer" in said
    assert f"{tmp_path}/python3.12: it lacks the standard modules ensurepip" in said
    assert f"{tmp_path}/python3: it is version 3.8" in said


def test_a_python_that_was_asked_for_is_taken_or_refused_but_not_replaced(tmp_path: Path) -> None:
    status, out, _ = find_python(tmp_path, more="yes", PYTHON=sys.executable)
    assert status == 0
    assert Path(out.strip()).samefile(sys.executable)
    status, out, said = find_python(tmp_path, more="yes", PYTHON="/nowhere/python3 x")
    assert (status, out) == (1, "")
    assert 'PYTHON is set to "/nowhere/python3 x"' in said


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    job = script(tmp_path / "job", f"sleep 600 & echo $! $$ > {pids}; wait")
    runner = textwrap.dedent(
        f"""
        import sys; sys.path.insert(0, {str(ROOT / ".ci")!r})
        from pathlib import Path
        import logged
        logged.HEARTBEAT_S = 0.5
        print(logged.run_logged([{str(job)!r}], log=Path({str(tmp_path / "log")!r}),
                                what="sleeping", limit_s=2))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", runner], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "124"
    assert "sleeping: 0 min 0" in done.stdout
    left = [
        psutil.Process(int(pid)) for pid in pids.read_text().split() if psutil.pid_exists(int(pid))
    ]
    assert [one for one in left if one.status() != psutil.STATUS_ZOMBIE] == []
