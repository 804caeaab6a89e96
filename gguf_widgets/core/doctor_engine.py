"""The doctor's look at the engine, the graphics cards and the memory.

Promises: llama.cpp is asked in processes of their own with a time limit, so that a library that
crashes or hangs is reported and not suffered. Leaves to others: the processor (`doctor_cpu`),
listing ggml's devices (`devices`), what a model needs (`fit`).
"""

from __future__ import annotations

import json
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from gguf_widgets.core import fit_history
from gguf_widgets.core.demo_mode import LLAMA_CPP_REQUIREMENT, demo_reason
from gguf_widgets.core.devices import Device, devices
from gguf_widgets.core.doctor_cpu import FEATURES, check_processor, cpu_features
from gguf_widgets.core.doctor_findings import Finding, pip_install
from gguf_widgets.core.errors import DeviceQueryError, InvalidValueError, MissingDependencyError
from gguf_widgets.core.fit_machine import free_memory
from gguf_widgets.core.format import format_bytes

__all__ = ["check_engine", "parse_system_info"]

_TOPIC = "Engine"
_MARK = "gguf-widgets-engine:"
_TIMEOUT_S = 60.0
_LITTLE_MEMORY = 1_000_000_000

# Run by another process: importing llama-cpp-python here would load native code into this one.
_PROBE = f"""
import json, llama_cpp
text = lambda value: value.decode(errors="replace") if isinstance(value, bytes) else str(value)
version = getattr(llama_cpp, "llama_version", lambda: "")
print("{_MARK}" + json.dumps({{
    "binding": llama_cpp.__version__,
    "llama.cpp": text(version()),
    "system_info": text(llama_cpp.llama_print_system_info()),
    "gpu": bool(llama_cpp.llama_supports_gpu_offload()),
}}))
"""

# Those that make a difference to speed.
_WORTH_REBUILDING = {
    "AVX", "AVX2", "F16C", "FMA", "AVX_VNNI", "AVX512", "AVX512_VNNI", "DOTPROD", "MATMUL_INT8",
}  # fmt: skip


def check_engine() -> Iterator[Finding]:
    """Yield what there is to say about what computes."""
    features = cpu_features()
    yield from check_processor(features)
    answer, finding = _ask_library()
    yield finding
    if answer is not None:
        yield _build(parse_system_info(answer["system_info"]), features)
    yield from _graphics(answer is not None)
    yield _memory()
    yield from _estimates()


def parse_system_info(text: str) -> dict[str, set[str]]:
    """Return the features that are switched on, for each part of llama.cpp's line.

    Examples
    --------
    >>> parse_system_info("CPU : AVX = 1 | AVX2 = 1 | FMA = 0 | CUDA : ARCHS = 860 | ")
    {'CPU': {'AVX', 'AVX2'}, 'CUDA': {'ARCHS'}}
    """
    parts: dict[str, set[str]] = {}
    part = "CPU"
    for piece in text.split("|"):
        match = re.fullmatch(
            r"\s*(?:(?P<part>\w+)\s*:)?\s*(?P<name>\w+)\s*=\s*(?P<value>\S+)\s*", piece
        )
        if match is None:
            continue
        part = match["part"] or part
        found = parts.setdefault(part, set())
        if match["value"] != "0":
            found.add(match["name"])
    return parts


def _ask_library() -> tuple[dict[str, Any] | None, Finding]:
    """Ask llama-cpp-python about itself in another process; return its answer and the finding."""
    name = "llama-cpp-python"

    def broken(value: str, advice: str) -> tuple[None, Finding]:
        return None, Finding(topic=_TOPIC, name=name, value=value, status="broken", advice=advice)

    again = "Install it again: " + pip_install(
        LLAMA_CPP_REQUIREMENT, "--force-reinstall", "--no-cache-dir", "--no-deps"
    )
    try:
        reason = demo_reason()
    except InvalidValueError as error:
        return broken("cannot be chosen", error.message)
    if reason is not None:
        advice = f"In demo mode, answers are prepared sentences. {reason}"
        return None, Finding(
            topic=_TOPIC, name=name, value="not used: demo mode", status="hint", advice=advice
        )
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and our own text
            [sys.executable, "-P", "-c", _PROBE],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return broken(f"did not answer in {_TIMEOUT_S:g} s", again)
    except OSError as error:
        return broken(f"could not be started: {error.strerror or error}", again)
    line = next((part for part in done.stdout.splitlines() if part.startswith(_MARK)), None)
    if done.returncode != 0 or line is None:
        return broken(_how_it_failed(done.returncode, done.stderr), again)
    answer: dict[str, Any] = json.loads(line.removeprefix(_MARK))
    value = f"{answer['binding']}, llama.cpp {answer['llama.cpp'] or 'of unknown version'}"
    return answer, Finding(topic=_TOPIC, name=name, value=value, facts=answer)


def _how_it_failed(status: int, stderr: str) -> str:
    if status < 0:
        # SIGILL: it was compiled for a processor that can do more than this one.
        known = {int(one): one.name for one in signal.Signals}
        return f"crashed when it was loaded ({known.get(-status, f'signal {-status}')})"
    lines = stderr.strip().splitlines()
    return f"cannot be loaded: {lines[-1][:300]}" if lines else "cannot be loaded"


def _build(parts: Mapping[str, set[str]], features: set[str] | None) -> Finding:
    """Compare what the library was compiled for with what the processor can do."""
    built = parts.get("CPU", set())
    order = {name: number for number, name in enumerate(FEATURES)}
    value = ", ".join(sorted(built, key=lambda name: (order.get(name, 99), name)))
    value = value or "nothing special"
    facts = {part: sorted(names) for part, names in parts.items()}
    if features is None:
        return Finding(topic=_TOPIC, name="compiled for", value=value, facts=facts)
    rebuild = "CMAKE_ARGS=-DGGML_NATIVE=ON " + pip_install(
        LLAMA_CPP_REQUIREMENT, "--force-reinstall", "--no-cache-dir", "--no-deps"
    )
    too_much = built & FEATURES.keys() - features
    if too_much:
        return Finding(
            topic=_TOPIC,
            name="compiled for",
            value=value,
            status="broken",
            advice=f"llama.cpp was compiled for {', '.join(sorted(too_much))}, which this "
            f"processor does not have; it will crash. Compile it here: {rebuild}",
            facts=facts,
        )
    unused = features & _WORTH_REBUILDING - built
    if unused:
        return Finding(
            topic=_TOPIC,
            name="compiled for",
            value=value,
            status="hint",
            advice=f"llama.cpp does not use {', '.join(sorted(unused))} of this processor, which "
            f"would make it faster. Compile it here: {rebuild}",
            facts=facts,
        )
    return Finding(topic=_TOPIC, name="compiled for", value=value, facts=facts)


def _graphics(library_works: bool) -> Iterator[Finding]:
    if not library_works:
        return
    try:
        found = devices()
    except (DeviceQueryError, MissingDependencyError) as error:
        yield Finding(
            topic=_TOPIC,
            name="graphics cards",
            value="could not be asked",
            status="hint",
            advice=f"{error.message} Models run on the processor.",
        )
        return
    cards = [device for device in found if device.kind == "gpu"]
    for card in cards:
        yield Finding(
            topic=_TOPIC, name=f"graphics card {card.name}", value=_card(card), facts=_facts(card)
        )
    if cards:
        return
    line = _gpu_build_line()
    if line is None:
        yield Finding(
            topic=_TOPIC, name="graphics cards", value="none; models run on the processor"
        )
    else:
        yield Finding(
            topic=_TOPIC,
            name="graphics cards",
            value="one is in this machine, but llama.cpp was compiled without it",
            status="hint",
            advice=f"Models run on the processor. To use the card: {line}",
        )


def _card(card: Device) -> str:
    memory = ""
    if card.memory_total_bytes:
        free = format_bytes(card.memory_free_bytes)
        memory = f", {free} of {format_bytes(card.memory_total_bytes)} free"
    return f"{card.description}{memory}{' (shares the main memory)' if card.integrated else ''}"


def _facts(card: Device) -> dict[str, Any]:
    return {name: getattr(card, name) for name in card.__struct_fields__}


def _gpu_build_line() -> str | None:
    """Return the command that compiles llama.cpp for the card that is here, if one is."""
    if Path("/proc/driver/nvidia/version").exists():
        switch = "-DGGML_CUDA=ON"
    elif Path("/dev/kfd").exists():
        switch = "-DGGML_HIP=ON"
    elif sys.platform == "darwin" and platform.machine() == "arm64":
        switch = "-DGGML_METAL=ON"
    else:
        return None
    options = ("--force-reinstall", "--no-cache-dir", "--no-deps")
    return f"CMAKE_ARGS={switch} {pip_install(LLAMA_CPP_REQUIREMENT, *options)}"


def _memory() -> Finding:
    free = free_memory()
    total = psutil.virtual_memory().total
    facts = {"free_bytes": free, "total_bytes": total}
    value = f"{format_bytes(free)} of {format_bytes(total)} free for models"
    if free < _LITTLE_MEMORY:
        return Finding(
            topic=_TOPIC,
            name="memory",
            value=value,
            status="hint",
            advice="Little memory is free, so that only small models fit. Close other programs, or "
            "unload models that you do not use.",
            facts=facts,
        )
    return Finding(topic=_TOPIC, name="memory", value=value, facts=facts)


def _estimates() -> Iterator[Finding]:
    """Say how close the estimates of memory have been; nothing before the first load."""
    loads, trouble = fit_history.read()
    name = "memory estimates"
    if trouble is not None:
        yield Finding(
            topic=_TOPIC, name=name, value="cannot be read", status="hint", advice=trouble
        )
    if not loads:
        return
    predicted = sum(load.predicted_kv_bytes + load.predicted_compute_bytes for load in loads)
    taken = sum(load.measured.kv_bytes + load.measured.compute_bytes for load in loads)
    models = "model was" if len(loads) == 1 else "kinds of loads were"
    yield Finding(
        topic=_TOPIC,
        name=name,
        value=f"{len(loads)} {models} measured; without what that teaches, cache and computing "
        f"would be estimated at {predicted / max(taken, 1):.0%} of what they take",
        facts={"loads": len(loads), "predicted_bytes": predicted, "taken_bytes": taken},
    )
