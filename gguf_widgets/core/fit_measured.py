"""What a load has really taken, as llama.cpp and the system say.

Promises: plain data that travels in the worker's handshake; sums that mean the same as those of an
estimate. Leaves to others: reading llama.cpp's log (`engine.llama_log`), keeping the figures
(`fit_history`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec
import psutil

__all__ = ["Measured", "measure"]

# Weights in such a buffer are pages of the file.
_MAPPED: Final = "_Mapped"
# What llama.cpp keeps in main memory: "CPU", "CPU_Mapped", "CPU_REPACK", "CUDA_Host", ...
_MAIN: Final = ("CPU", "Host", "BLAS")


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes that llama.cpp reported while it loaded a model, and those of its process.

    Parameters
    ----------
    buffers : dict of str to int
        In bytes, under llama.cpp's names: "CPU_Mapped model", "CUDA0 KV", "CPU compute", ...
    rss_bytes : int
        Everything of the worker that is in memory, pages of the model file included.
    private_bytes : int
        The part of that which belongs to no file. Results that are not computed yet are not in it.
    """

    buffers: dict[str, int]
    rss_bytes: int = 0
    private_bytes: int = 0

    @property
    def kv_bytes(self) -> int:
        """Cells and running states, on all devices."""
        return sum(
            size for name, size in self.buffers.items() if name.endswith((" KV", " RS", " state"))
        )

    @property
    def compute_bytes(self) -> int:
        """The largest buffer for intermediate results: one device's."""
        sizes = [size for name, size in self.buffers.items() if name.endswith(" compute")]
        return max(sizes, default=0)

    @property
    def weights_bytes(self) -> int:
        """Weights and adapters, on all devices."""
        return sum(
            size for name, size in self.buffers.items() if name.endswith((" model", " LoRA"))
        )

    @property
    def gpu_bytes(self) -> int:
        """Everything that is not in main memory."""
        return sum(size for name, size in self.buffers.items() if not _in_main_memory(name))

    @property
    def process_bytes(self) -> int:
        """What the process has of its own beside llama.cpp's buffers; 0 if that is not known."""
        buffers = sum(
            size
            for name, size in self.buffers.items()
            if _in_main_memory(name)
            and _MAPPED not in name
            and not name.endswith(" compute")  # not touched before the first batch
        )
        return max(0, self.private_bytes - buffers)


def measure(buffers: Mapping[str, int]) -> Measured:
    """Return the figures for this process, which has just loaded a model.

    Parameters
    ----------
    buffers : mapping of str to int
        What llama.cpp said of its buffers.
    """
    memory = psutil.Process(os.getpid()).memory_info()
    # Only Linux tells the pages that belong to files apart.
    shared = getattr(memory, "shared", None)
    private = 0 if shared is None else max(0, memory.rss - shared)
    return Measured(buffers=dict(buffers), rss_bytes=memory.rss, private_bytes=private)


def _in_main_memory(name: str) -> bool:
    device = name.partition(" ")[0]
    return device.startswith(_MAIN) or device.endswith("_Host")
