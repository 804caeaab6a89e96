"""Random weights for tiny models: what goes into a file, in which number format and how large.

Promises: the same seed and format give the same file; what llama.cpp wants in F32 (norms, biases,
state matrices) is F32 in every format. Leaves to others: which tensors a model has
(`tiny_layers.py`), and which models there are (`tiny_models.py`).
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quants
from numpy.typing import NDArray

__all__ = ["FORMATS", "TinyFile"]

Array = NDArray[np.float32]

FORMATS = ("f32", "f16", "q8_0")


class TinyFile:
    """A model file being written.

    Parameters
    ----------
    path : Path
    architecture : str
    number_format : str
        "f32", "f16" or "q8_0": what matrices are stored in.
    seed : int

    Attributes
    ----------
    writer : GGUFWriter
        For the header.
    """

    def __init__(self, path: Path, architecture: str, number_format: str, seed: int) -> None:
        self.path = path
        self.writer = GGUFWriter(path, architecture)
        self._format = number_format
        self._seed = seed

    def matrix(self, name: str, *shape: int, gain: float = 1.0) -> None:
        """Add a random matrix that keeps the size of what it multiplies, times `gain`."""
        self.add_matrix(name, gain / np.sqrt(shape[-1]) * self._random(name, shape))

    def add_matrix(self, name: str, data: Array) -> None:
        """Add a matrix in the file's format."""
        data = data.astype(np.float32)
        if self._format == "f16":
            self.writer.add_tensor(name, data.astype(np.float16))
        elif self._format == "q8_0":
            q8_0 = GGMLQuantizationType.Q8_0
            self.writer.add_tensor(name, quants.quantize(data, q8_0), raw_dtype=q8_0)
        else:
            self.writer.add_tensor(name, data)

    def ones(self, name: str, *shape: int) -> None:
        """Add a norm that changes nothing."""
        self.add(name, np.ones(shape))

    def spread(self, name: str, *shape: int, low: float, high: float) -> None:
        """Add numbers spread evenly between two limits, in F32."""
        unit = np.random.default_rng(self._seed_of(name)).random(shape)
        self.add(name, low + (high - low) * unit)

    def add(self, name: str, data: NDArray[np.floating]) -> None:
        """Add a tensor in F32."""
        self.writer.add_tensor(name, data.astype(np.float32))

    def random(self, name: str, *shape: int) -> Array:
        """Return the random numbers of a tensor, of variance 1."""
        return self._random(name, shape)

    def close(self) -> Path:
        """Write the file and return its path."""
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        return self.path

    def _random(self, name: str, shape: tuple[int, ...]) -> Array:
        return np.random.default_rng(self._seed_of(name)).standard_normal(shape, np.float32)

    def _seed_of(self, name: str) -> int:
        # Each tensor has its own numbers, so that a change to one layer changes no other.
        return zlib.crc32(f"{self._seed} {name}".encode())
