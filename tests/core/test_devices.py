"""The device list: the real library, and every way in which asking it may fail."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gguf_widgets.core import devices as module
from gguf_widgets.core.devices import Device, devices, graphics_cards
from gguf_widgets.core.errors import DeviceQueryError, InvalidValueError, MissingDependencyError

needs_engine = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="the engine is not installed here"
)


@needs_engine
def test_the_real_library_names_this_machines_processor() -> None:
    found = devices()
    cpu = next(device for device in found if device.kind == "cpu")
    assert cpu.name == "CPU"
    assert cpu.description
    # What ggml says of the memory agrees with what the system says, within what moves meanwhile.
    assert cpu.memory_total_bytes == pytest.approx(psutil.virtual_memory().total, rel=0.05)
    assert 0 < cpu.memory_free_bytes <= cpu.memory_total_bytes
    assert all(device.name for device in found)


@needs_engine
def test_asking_loads_nothing_native_here_and_works_from_any_folder(tmp_path: Path) -> None:
    # A file with the name of a standard module, where the person happens to be, must not be run.
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json was imported')\n")
    script = (
        "import sys\n"
        "from gguf_widgets.core.devices import devices\n"
        "assert any(device.kind == 'cpu' for device in devices())\n"
        "assert 'llama_cpp' not in sys.modules\n"
        "maps = open('/proc/self/maps').read() if sys.platform == 'linux' else ''\n"
        "assert 'libggml' not in maps\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import os; os.abort()", r"crashed \(SIGABRT\)"),
        ("import sys; sys.exit('driver: no such card')", r"status 1\. .*driver: no such card"),
        ("print('all went well')", "ended with status 0"),
        ("print('gguf-widgets-devices:[{]')", "could not be understood"),
        ("print('gguf-widgets-devices:[{\"name\": 1}]')", "could not be understood"),
    ],
)
def test_a_query_that_goes_wrong_is_one_clear_error(script: str, words: str) -> None:
    with pytest.raises(DeviceQueryError, match=words):
        module._run([sys.executable, "-c", script], 60)


def test_a_query_that_hangs_is_ended_in_time() -> None:
    before = psutil.Process().children(recursive=True)
    start = time.perf_counter()
    with pytest.raises(DeviceQueryError, match=r"took longer than 0\.5 s"):
        module._run([sys.executable, "-c", "import time; time.sleep(600)"], 0.5)
    assert time.perf_counter() - start < 60
    assert not {*psutil.Process().children(recursive=True)} - {*before}


def test_chatter_of_a_driver_does_not_hide_the_list() -> None:
    script = (
        "import sys\n"
        "sys.stdout.write('ggml_cuda_init: found 1 device ')\n"
        "from gguf_widgets.core import devices\n"
        "devices._query = lambda: [devices.Device(name='CUDA0', description='a card', kind='gpu',"
        " memory_free_bytes=3, memory_total_bytes=4)]\n"
        "sys.exit(devices.main())\n"
    )
    assert module._run([sys.executable, "-c", script], 60) == [
        Device(
            name="CUDA0",
            description="a card",
            kind="gpu",
            memory_free_bytes=3,
            memory_total_bytes=4,
        )
    ]


def test_a_missing_engine_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        devices()


def test_a_broken_engine_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    with pytest.raises(DeviceQueryError, match="no ggml library in"):
        devices()
    (tmp_path / "libggml.so").write_bytes(b"this is not a library")
    (tmp_path / "libggml.dylib").write_bytes(b"this is not a library")
    with pytest.raises(DeviceQueryError, match="libggml"):
        devices()


def test_a_library_without_the_calls_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler to make an empty library")
    subprocess.run(
        [compiler, "-shared", "-x", "c", "/dev/null", "-o", str(tmp_path / "libggml.so")],
        check=True,
        timeout=60,
    )
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    with pytest.raises(DeviceQueryError, match="has no function ggml_backend"):
        devices()


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), 10_000])
def test_a_senseless_time_limit_is_refused(timeout_s: float) -> None:
    with pytest.raises(InvalidValueError, match="timeout_s"):
        devices(timeout_s)


@pytest.mark.parametrize(
    ("files", "asked"),
    [
        (["libggml.so", "libggml-base.so", "libggml-cpu.so.0", "libggml-blas.so"], False),
        (["ggml.dll", "ggml-base.dll", "ggml-cpu-haswell.dll", "ggml-rpc.dll"], False),
        (["libggml.so", "libggml-base.so", "libggml-cpu.so", "libggml-cuda.so"], True),
        (["libggml.dylib", "libggml-base.dylib", "libggml-metal.dylib"], True),
        (["libggml-base.so", "libggml-npu9000.so"], True),  # something new may be a card
        (["libggml.so"], True),  # everything in one file
        ([], True),
    ],
)
def test_cards_are_asked_for_only_where_the_library_could_use_any(
    files: list[str], asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Device(
        name="CUDA0", description="a card", kind="gpu", memory_free_bytes=3, memory_total_bytes=4
    )
    cpu = Device(name="CPU", description="", kind="cpu", memory_free_bytes=3, memory_total_bytes=4)
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    monkeypatch.setattr(module, "devices", lambda timeout_s: [card, cpu])
    for name in files:
        (tmp_path / name).touch()
    assert graphics_cards() == ([card] if asked else [])


@needs_engine
def test_this_builds_cards_are_those_of_the_whole_list() -> None:
    assert graphics_cards() == [device for device in devices() if device.kind == "gpu"]


def test_apples_graphics_share_the_main_memory_though_metal_calls_them_a_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module.sys, "platform", "darwin")
    monkeypatch.setattr(module.platform, "machine", lambda: "arm64")
    assert [module._is_apples(name) for name in ("MTL0", "Metal", "Vulkan0")] == [True, True, False]
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")  # a card of its own
    assert not module._is_apples("MTL0")
