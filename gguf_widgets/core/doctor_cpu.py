"""The doctor's look at the processor.

Promises: features come under llama.cpp's names, so that they can be compared with what it was
compiled for; where the system does not tell, they are unknown and nothing is guessed. Leaves to
others: the comparison (`doctor_engine`).
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from gguf_widgets.core.doctor_findings import Finding
from gguf_widgets.core.fit_machine import usable_cores

__all__ = ["FEATURES", "check_processor", "cpu_features", "cpu_name"]

# llama.cpp's name for a feature, and what Linux and macOS call it.
FEATURES: dict[str, tuple[str, ...]] = {
    "SSE3": ("pni", "sse3"),
    "SSSE3": ("ssse3",),
    "AVX": ("avx", "avx1.0"),
    "AVX2": ("avx2",),
    "F16C": ("f16c",),
    "FMA": ("fma",),
    "BMI2": ("bmi2",),
    "AVX_VNNI": ("avx_vnni",),
    "AVX512": ("avx512f",),
    "AVX512_VBMI": ("avx512_vbmi", "avx512vbmi"),
    "AVX512_VNNI": ("avx512_vnni", "avx512vnni"),
    "AVX512_BF16": ("avx512_bf16",),
    "AMX_INT8": ("amx_int8",),
    "NEON": ("asimd", "neon"),
    "FP16_VA": ("asimdhp", "feat_fp16"),
    "DOTPROD": ("asimddp", "feat_dotprod"),
    "MATMUL_INT8": ("i8mm", "feat_i8mm"),
    "SVE": ("sve",),
}


def check_processor(features: set[str] | None) -> Iterator[Finding]:
    """Yield what there is to say about the processor, given its `cpu_features`."""
    name = cpu_name()
    known = ", ".join(one for one in FEATURES if one in features) if features else "unknown"
    yield Finding(
        topic="Engine",
        name="processor",
        value=f"{name} ({known})",
        facts={"name": name, "features": sorted(features) if features else None},
    )
    physical = psutil.cpu_count(logical=False)
    logical = psutil.cpu_count() or os.cpu_count() or 1
    usable = usable_cores()
    value = f"{physical or 'unknown'} cores, {logical} threads"
    if physical is None or usable < physical:
        value += f", {usable} cores for this program"
    yield Finding(
        topic="Engine",
        name="cores",
        value=value,
        facts={"physical": physical, "logical": logical, "usable": usable},
    )


def cpu_features() -> set[str] | None:
    """Return this processor's features under llama.cpp's names; None if they cannot be read."""
    flags = _cpu_flags()
    if flags is None:
        return None
    return {name for name, ours in FEATURES.items() if flags.intersection(ours)}


def cpu_name() -> str:
    """Return what the processor calls itself; "unknown" where it does not."""
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model name", "Hardware"):
            return value.strip()
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine() or "unknown"


def _cpu_flags() -> set[str] | None:
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.lower().split())
    if sys.platform == "darwin":
        if platform.machine() == "arm64":
            listed = _sysctl("hw.optional.arm", all_below=True) or ""
            on = {key.rsplit(".", 1)[-1] for key, value in _pairs(listed) if value == "1"}
            return {name.lower() for name in on} | {"neon"}
        listed = f"{_sysctl('machdep.cpu.features')} {_sysctl('machdep.cpu.leaf7_features')}"
        return set(listed.lower().split())
    return None


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _sysctl(name: str, *, all_below: bool = False) -> str | None:
    command = ["/usr/sbin/sysctl", *([] if all_below else ["-n"]), name]
    try:
        done = subprocess.run(  # noqa: S603  # a fixed program of macOS
            command, check=True, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        yield key.strip(), value.strip()
