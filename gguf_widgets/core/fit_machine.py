"""What this process may use of the machine: free memory and processor cores.

Promises: the limits of containers (cgroup v1 and v2), of batch systems and of `taskset` count, not
only the hardware. Leaves to others: what a model needs (`fit`), graphics cards (`devices`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

__all__ = ["free_memory", "process_memory", "usable_cores"]

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUPS: Final = Path("/proc/self/cgroup")
_PROCESSORS: Final = Path("/sys/devices/system/cpu")
# cgroup v1 writes "no limit" as the largest multiple of the page size.
_NO_LIMIT: Final = 1 << 60


def process_memory(pid: int | None) -> int | None:
    """Return a process's resident set size in bytes, or None if it is not there."""
    try:
        return None if pid is None else int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:  # it has just ended, or is another user's
        return None


def free_memory(cgroups: Path = _CGROUPS, own_cgroups: Path = _OWN_CGROUPS) -> int:
    """Return how many bytes a new process could use without pushing anything out of memory.

    File contents that the system keeps only in case they are wanted again (the page cache) count
    as free: they make room by themselves. That is fair to a model too, whose mapped weights are
    page cache: when they lie there from an earlier load they are counted once, as needed.

    Parameters
    ----------
    cgroups, own_cgroups : Path
        Where Linux shows control groups; tests point these elsewhere.
    """
    free = int(psutil.virtual_memory().available)
    for folder, version in _own_folders(cgroups, own_cgroups, "memory"):
        limit, used = (
            ("memory.max", "memory.current")
            if version == 2
            else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        limit_bytes, used_bytes = _number(folder / limit), _number(folder / used)
        if limit_bytes is None or used_bytes is None or limit_bytes >= _NO_LIMIT:
            continue
        free = min(free, limit_bytes - used_bytes + _page_cache(folder, version))
    return max(0, free)


def usable_cores(
    cgroups: Path = _CGROUPS, own_cgroups: Path = _OWN_CGROUPS, processors: Path = _PROCESSORS
) -> int:
    """Return how many physical cores this process may keep busy, at least 1.

    Two threads of one core share its arithmetic units, so llama.cpp gains nothing from the second;
    and threads beyond a container's processor quota only wait for each other.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        cores = len({_core_of(number, processors) for number in allowed})
    else:
        logical = os.cpu_count() or 1
        cores = min(psutil.cpu_count(logical=False) or logical, logical)
    for folder, version in _own_folders(cgroups, own_cgroups, "cpu"):
        quota = _processor_quota(folder, version)
        if quota is not None:
            cores = min(cores, int(quota))
    return max(1, cores)


def _own_folders(cgroups: Path, own_cgroups: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the folders of this process's control group and those above it, with the version.

    Inside a container the group's path may be the host's, which cannot be seen; its own group is
    then the root that can.
    """
    try:
        lines = own_cgroups.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return  # no Linux, or no /proc: no control groups
    for line in lines:
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            root, version = cgroups, 2
            if not (root / "cgroup.controllers").exists():
                root = cgroups / "unified"  # beside v1
        elif controller in names.split(","):
            root, version = cgroups / controller, 1
            if not root.exists():
                root = cgroups / names
        else:
            continue
        relative = Path(path.lstrip("/"))
        if ".." in relative.parts:  # the group lies outside of what this namespace shows
            relative = Path()
        for folder in (root / relative, *(root / part for part in relative.parents)):
            yield folder, version


def _number(path: Path) -> int | None:
    """Read a file with one number; None if it is not there or says "max"."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _page_cache(folder: Path, version: int) -> int:
    """Return how many bytes of file contents are charged to a control group."""
    wanted = (
        {"active_file", "inactive_file"}
        if version == 2
        else {"total_active_file", "total_inactive_file"}
    )
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    pairs = (line.split() for line in lines)
    return sum(int(p[1]) for p in pairs if len(p) == 2 and p[0] in wanted and p[1].isdecimal())


def _processor_quota(folder: Path, version: int) -> float | None:
    """Return how many processors' time a control group may use; None is no limit."""
    if version == 2:
        try:
            words = (folder / "cpu.max").read_text(encoding="ascii", errors="replace").split()
        except OSError:
            return None
        numbers = [int(word) for word in words if word.isdecimal()]
        quota, period = numbers if len(numbers) == 2 else (None, None)
    else:
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period else None


def _core_of(number: int, processors: Path) -> str:
    """Name the physical core of a logical processor; where that is not told, each is a core."""
    topology = processors / f"cpu{number}" / "topology"
    for name in ("core_cpus_list", "thread_siblings_list"):
        try:
            return (topology / name).read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            continue
    return f"cpu{number}"
