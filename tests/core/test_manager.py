"""Loading, sharing and unloading, with demo mode and with real llama.cpp."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.tiny_model import write_tiny_model

from gguf_widgets.core import config, demo_mode
from gguf_widgets.core import manager as manager_module
from gguf_widgets.core.errors import (
    ChatTemplateError,
    GgufWidgetsError,
    InvalidValueError,
    MissingDependencyError,
    ModelLoadError,
    ModelNotFoundError,
    ModelUnloadedError,
    NotAFileError,
    NotEnoughMemoryError,
    NotGgufError,
    UnreadableFileError,
    WorkerDiedError,
)
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import FinishReason, LoadSettings
from gguf_widgets.core.worker.loading import changed_settings
from tests.core.conftest import processes_of, wait_for


@pytest.fixture
def tiny(home: Path) -> Path:
    """A real model of 0.3 MB in the models folder, called "tiny"."""
    folder = config.ensure(config.models_dir())
    return write_tiny_model(folder / "tiny.gguf")


@pytest.fixture
def llama(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelManager]:
    """A manager that runs models with llama.cpp."""
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed")
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "llama.cpp")
    manager = ModelManager(keep_alive=0)
    yield manager
    manager.close()


def test_a_real_model_is_loaded_answers_and_is_gone(llama: ModelManager, tiny: Path) -> None:
    seen: list[tuple[float, str]] = []
    before = {*sys.modules}  # other tests may have imported llama_cpp themselves
    model = llama.load("tiny", n_ctx=512, on_progress=lambda *step: seen.append(step))
    assert [fraction for fraction, _ in seen] == sorted(fraction for fraction, _ in seen)
    assert seen[-1][0] == 1.0
    assert model.info.backend == "llama.cpp"
    assert model.settings.n_ctx == 512
    assert model.settings.n_threads is not None
    assert "llama_cpp" not in {m.split(".")[0] for m in {*sys.modules} - before}
    first, second = (model.chat("Hello", temperature=0, max_tokens=24) for _ in range(2))
    assert first.text == second.text
    assert first.usage.num_completion_tokens > 0
    pid = model.pid
    assert pid is not None
    assert model.unload() is True
    assert not psutil.pid_exists(pid)
    assert llama.loaded() == []


def test_a_real_model_is_stopped_in_the_middle_of_its_prompt(
    llama: ModelManager, home: Path
) -> None:
    path = write_tiny_model(home / "long.gguf", n_ctx_train=65536, n_layer=6)
    model = llama.load(path, n_ctx=32768, n_batch=2048, n_ubatch=2048, n_seq_max=1)
    stream = model.stream_completion("hello world " * 2500, max_tokens=10)
    wait_for(lambda: model.stats().engine.num_running, "it computes")
    stream.stop()
    reply = stream.result()
    assert reply.finish_reason is FinishReason.ABORTED
    assert reply.text == ""
    assert model.stats().num_requests == 0
    assert model.complete("hi", max_tokens=2).finish_reason is not FinishReason.ABORTED


def test_the_same_model_and_settings_are_loaded_once(manager: ModelManager) -> None:
    first = manager.load("demo")
    assert manager.load() is first
    assert manager.load(first.path) is first
    assert manager.loaded() == [first]
    assert manager.is_running()
    assert not manager.is_running(n_ctx=64)
    smaller = manager.load(n_ctx=1024)
    assert smaller.pid != first.pid
    assert manager.loaded() == [first, smaller]
    assert first.unload() is True
    assert smaller.chat("Hello", max_tokens=2).text
    assert manager.loaded() == [smaller]
    again = manager.load()
    assert again is not first
    with pytest.raises(ModelUnloadedError):
        first.chat("Hello")


def test_a_request_that_names_what_was_chosen_joins_and_choose_joins_only_choose(
    manager: ModelManager,
) -> None:
    with ModelManager(keep_alive=0) as other:
        chosen = other.load()
        assert manager.load(n_ctx=chosen.settings.n_ctx).pid == chosen.pid
    with ModelManager(keep_alive=0) as other:
        tiny_context = other.load(n_ctx=32)
        assert manager.load().pid != tiny_context.pid


def test_a_chat_template_that_does_not_work_is_refused_and_nothing_stays_loaded(
    manager: ModelManager, home: Path
) -> None:
    with pytest.raises(ChatTemplateError, match="not written correctly"):
        manager.load(chat_template="{% for %}")
    assert manager.loaded() == []
    wait_for(lambda: not processes_of(home), "nothing of it runs")
    model = manager.load()
    with pytest.raises(ChatTemplateError):
        manager.load(chat_template="{{ raise_exception('no') }}")
    assert manager.loaded() == [model]
    assert model.chat("Hello", max_tokens=2).text


def test_a_chat_template_that_is_still_being_tried_is_given_to_nobody(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=60)
    use = Model.use_chat_template

    def try_it(model: Model, source: str | None) -> None:
        both.wait()  # both threads are here before one of them finds out
        use(model, source)

    monkeypatch.setattr(Model, "use_chat_template", try_it)
    ends: list[object] = []

    def load() -> None:
        try:
            ends.append(manager.load(chat_template="{{ raise_exception('no') }}"))
        except ChatTemplateError as error:
            ends.append(type(error))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert ends == [ChatTemplateError, ChatTemplateError]
    assert manager.loaded() == []


def test_threads_that_load_at_once_get_the_same_model(manager: ModelManager) -> None:
    models = []
    threads = [threading.Thread(target=lambda: models.append(manager.load())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert len(models) == 6
    assert len(set(map(id, models))) == 1


def test_unload_frees_the_memory_at_once_unless_somebody_else_uses_it(
    manager: ModelManager, home: Path
) -> None:
    other = ModelManager(keep_alive=600)
    mine, theirs = manager.load(), other.load()
    assert mine.pid == theirs.pid
    assert manager.unload(mine) is False
    assert theirs.chat("Hello", max_tokens=2).text
    assert other.unload(theirs) is True
    assert processes_of(home) == []


def test_files_that_are_no_models_never_reach_a_worker(
    llama: ModelManager, home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("gguf_widgets.core.worker.spawn.start", forbidden)
    text = home / "text.gguf"
    text.write_text("not a model")
    cases: list[tuple[str | Path, type[GgufWidgetsError], str]] = [
        ("tinny", ModelNotFoundError, 'Did you mean "tiny"'),
        (home / "gone.gguf", ModelNotFoundError, "gone.gguf"),
        (home, NotAFileError, "folder"),
        (text, NotGgufError, "text.gguf"),
    ]
    for name, kind, words in cases:
        with pytest.raises(kind, match=words):
            llama.load(name)
    with pytest.raises(InvalidValueError, match="Did you mean 'n_ctx'"):
        llama.load("tiny", n_ctxx=5)
    with pytest.raises(InvalidValueError, match="backend is 'magic'"):
        llama.load("tiny", backend="magic")
    with monkeypatch.context() as context:
        open_file = os.open

        def refuse(path: str | Path, *rest: int, **options: int) -> int:
            if Path(path) == tiny:  # the tests may run as root, to whom no file is forbidden
                raise PermissionError(13, "Permission denied")
            return open_file(path, *rest, **options)

        context.setattr(os, "open", refuse)
        with pytest.raises(UnreadableFileError, match="no permission to read"):
            llama.load("tiny")
    assert llama.loaded() == []


def test_a_model_that_does_not_fit_is_refused_unless_it_is_forced(
    llama: ModelManager, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gguf_widgets.core.fit.free_memory", lambda: 1000)
    with pytest.raises(NotEnoughMemoryError) as caught:
        llama.load("tiny", n_ctx=256)
    assert caught.value.details["needed_bytes"] > caught.value.details["free_bytes"] == 1000
    model = llama.load("tiny", n_ctx=256, force=True)
    # Who insisted once need not do it again when the worker has to be started anew.
    assert model.pid is not None
    os.kill(model.pid, signal.SIGKILL)
    wait_for(lambda: model.pid is None, "its end is seen")
    assert model.complete("hi", max_tokens=2).text is not None


def test_force_counts_also_for_a_model_that_was_loaded_without_it(
    llama: ModelManager, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = llama.load("tiny", n_ctx=256)
    assert model.pid is not None
    os.kill(model.pid, signal.SIGKILL)
    wait_for(lambda: model.pid is None, "its end is seen")
    monkeypatch.setattr("gguf_widgets.core.fit.free_memory", lambda: 1000)
    with pytest.raises(NotEnoughMemoryError):
        llama.load("tiny", n_ctx=256)
    assert llama.load("tiny", n_ctx=256, force=True) is model
    assert model.pid is not None


def test_a_forced_loading_that_fails_for_want_of_memory_says_so(
    llama: ModelManager,
    tiny: Path,
    in_worker: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_worker("""
import os, signal
from gguf_widgets.core.worker import loading
loading.open_backend = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
""")
    with pytest.raises(WorkerDiedError, match="was killed"):  # by somebody: there is memory enough
        llama.load("tiny", n_ctx=256, force=True)
    monkeypatch.setattr("gguf_widgets.core.fit.free_memory", lambda: 1000)
    with pytest.raises(NotEnoughMemoryError, match=r"needs .* is free.*was killed") as caught:
        llama.load("tiny", n_ctx=256, force=True)
    assert caught.value.details["free_bytes"] == 1000


def test_settings_that_came_out_otherwise_are_told(llama: ModelManager, tiny: Path) -> None:
    model = llama.load("tiny", n_ctx=512, n_batch=4096, n_ubatch=128)
    assert model.settings.n_batch == 512
    assert [note for note in model.load_notes if "instead of" in note] == [
        "n_batch is 512 instead of 4096: a batch cannot be longer than the context."
    ]
    plain = llama.load("tiny", n_ctx=300)  # rounded up
    assert not [note for note in plain.load_notes if "instead of" in note]


def test_every_setting_that_was_asked_for_is_compared() -> None:
    asked = LoadSettings(n_gpu_layers=20, use_mlock=True, n_ctx=4096, n_threads=2, type_k="q8_0")
    got = LoadSettings(n_gpu_layers=0, use_mlock=False, n_ctx=2048, n_threads=2, n_batch=512)
    assert changed_settings(asked, got) == [
        "n_ctx is 2048 instead of 4096.",
        "n_gpu_layers is 0 instead of 20: llama.cpp as it is installed here uses no graphics card.",
        "type_k is None instead of q8_0.",
        "use_mlock is False instead of True: this system cannot do that.",
    ]
    assert changed_settings(LoadSettings(), got) == []


def test_a_file_that_llama_cpp_refuses_says_so_and_leaves_nothing(
    llama: ModelManager, home: Path
) -> None:
    odd = write_tiny_model(home / "odd.gguf", architecture="nosuchthing")
    broken = write_tiny_model(home / "broken.gguf", skip_tensors=("blk.1.ffn_up.weight",))
    for path in (odd, broken):
        with pytest.raises(ModelLoadError):
            llama.load(path)
    assert llama.loaded() == []
    wait_for(lambda: not processes_of(home), "the workers have left")


def test_a_file_that_vanishes_while_it_is_loaded_is_a_missing_file(
    llama: ModelManager, tiny: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker(f"import pathlib; pathlib.Path({str(tiny)!r}).unlink(missing_ok=True)")
    with pytest.raises(ModelNotFoundError):
        llama.load("tiny")


def test_a_file_that_crashes_the_native_code_costs_the_notebook_nothing(
    llama: ModelManager, tiny: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker("""
import os, signal
from gguf_widgets.core.worker import loading
loading.open_backend = lambda *_: os.kill(os.getpid(), signal.SIGSEGV)
""")
    with pytest.raises(WorkerDiedError, match=r"signal 11, SIGSEGV.*loading the model"):
        llama.load("tiny")


def test_a_replaced_file_is_another_model(llama: ModelManager, tiny: Path) -> None:
    before = llama.load("tiny", n_ctx=256)
    new = write_tiny_model(tiny.with_name("new.gguf"), seed=5)
    new.replace(tiny)
    after = llama.load("tiny", n_ctx=256)
    assert after is not before
    assert after.pid != before.pid


def test_in_demo_mode_only_the_demo_loads_and_the_reason_names_the_command(
    manager: ModelManager, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manager.load().info.backend == "scripted"
    with pytest.raises(MissingDependencyError, match=r"tiny\.gguf cannot be loaded in demo mode"):
        manager.load("tiny")
    assert "GGUF_WIDGETS_BACKEND" in (manager.demo_reason() or "")
    assert manager.load("tiny", backend="scripted").info.backend == "scripted"
    monkeypatch.delenv("GGUF_WIDGETS_BACKEND")
    monkeypatch.setattr(demo_mode, "_is_findable", lambda: False)
    reason = manager_module.demo_reason()
    assert reason is not None
    assert "is not installed" in reason
    assert demo_mode.LLAMA_CPP_REQUIREMENT in reason or "conda install" in reason
    with pytest.raises(MissingDependencyError) as caught:
        manager.load("tiny")
    assert caught.value.details["install"] == demo_mode.install_line()


def test_the_demo_reason_tells_what_the_installer_left_and_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_mode, "_is_findable", lambda: False)
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name: name if name in ("apt-get", "nvcc") else None)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    left = tmp_path / "share" / "gguf-widgets"
    left.mkdir(parents=True)
    (left / "llama-install-error.txt").write_text("CMake Error:\n  no compiler found\n")
    reason = demo_mode.demo_reason() or ""
    assert "could not be installed: CMake Error: no compiler found." in reason
    assert "sudo apt-get install build-essential" in reason
    assert "CMAKE_ARGS=-DGGML_CUDA=on" in reason
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert "xcode-select --install" in (demo_mode.demo_reason() or "")
    assert "CUDA" not in demo_mode.install_line()
    (tmp_path / "conda-meta").mkdir()
    assert demo_mode.install_line() == "conda install -c conda-forge llama-cpp-python"


def test_a_library_that_does_not_start_falls_back_to_demo_mode_and_says_why(
    no_leaks: None, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken" / "llama_cpp"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise OSError('libllama.so: cannot open shared object')")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    monkeypatch.setattr(demo_mode, "_is_findable", lambda: True)
    monkeypatch.setattr(demo_mode, "_broken", None)
    with ModelManager(keep_alive=0) as manager:
        assert manager.demo_reason() is None
        with pytest.raises(MissingDependencyError, match="cannot open shared object"):
            manager.load("tiny", backend="llama.cpp")
        model = manager.load()
        assert model.info.backend == "scripted"
        assert "cannot open shared object" in model.load_notes[0]
        assert "cannot open shared object" in (manager.demo_reason() or "")
        assert model.chat("Hello", max_tokens=2).text


def test_the_install_line_is_the_projects_own_requirement() -> None:
    project = tomllib.loads(
        (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    )
    extra = project["project"]["optional-dependencies"]["llama"]
    assert extra == [demo_mode.LLAMA_CPP_REQUIREMENT]


def test_an_unknown_override_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "magic")
    with pytest.raises(InvalidValueError, match="GGUF_WIDGETS_BACKEND is 'magic'"):
        ModelManager().load()


@pytest.mark.parametrize("keep_alive", [-1, float("nan"), 10**9])
def test_keep_alive_has_limits(keep_alive: float) -> None:
    with pytest.raises(InvalidValueError, match="keep_alive is"):
        ModelManager(keep_alive=keep_alive)


def test_the_default_manager_is_one_and_load_uses_it(
    scripted: None, no_leaks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_module, "_default", None)
    model = manager_module.load()
    assert manager_module.default_manager().loaded() == [model]
    assert model.unload() is True


def test_unloading_during_a_stream_ends_it_with_one_error(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "20")
    model = manager.load()
    stream = model.stream("Tell me a story")
    next(stream)
    unloader = threading.Thread(target=model.unload)
    unloader.start()
    with pytest.raises(WorkerDiedError, match="unloaded"):
        for _ in stream:
            pass
    unloader.join(60)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
