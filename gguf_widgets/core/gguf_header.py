"""What a model file says of itself, under the names that people and llama.cpp use.

Promises: numbers come back as whole numbers in llama.cpp's range, or there is an error that names
the entry; texts for people come back on one line and cut to a sensible length. Leaves to others:
getting it from a file (`gguf`), and whether it is a model at all (`gguf_check`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

from gguf_widgets.core.errors import MalformedHeaderError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf_bytes import shown
from gguf_widgets.core.gguf_parse import GgufTensor
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.gguf_tables import FILE_TYPES
from gguf_widgets.core.gguf_values import GgufArray, GgufValue
from gguf_widgets.core.types import ModelInfo

__all__ = ["MOST_LAYERS", "GgufHeader"]

_FILE_TYPE_GUESSED: Final = 1024  # a flag that llama.cpp sets in general.file_type
_MOST: Final = 2**31 - 1  # llama.cpp keeps these numbers in 32 bits
MOST_LAYERS: Final = 4096  # llama.cpp itself takes 512


@dataclasses.dataclass(frozen=True)  # no slots: what is counted over all tensors is kept
class GgufHeader:
    """What a model file says of itself.

    Attributes
    ----------
    path : Path
        The file; for a split model its first part.
    version : int
        2 or 3.
    size_bytes : int
        The whole file; for a split model all its parts.
    alignment : int
        What tensor data is aligned to, in bytes.
    metadata : Mapping of str to GgufValue
        Numbers, bools and texts as such; lists as `GgufArray`, and a text of more than 1 MiB as
        `GgufText`, both read from the file when asked for.
    tensors : tuple of GgufTensor
        The tensor table, of all parts.
    parts : tuple of Path
        All files, in order; one for a model that is not split.
    """

    path: Path
    version: int
    size_bytes: int
    alignment: int
    metadata: Mapping[str, GgufValue]
    tensors: tuple[GgufTensor, ...]
    parts: tuple[Path, ...]

    @property
    def architecture(self) -> str:
        """The architecture, as llama.cpp calls it ("llama", "qwen2"), or "" if none is given."""
        return self.text("general.architecture") or ""

    @property
    def chat_template(self) -> str | None:
        """The model's own chat template (Jinja), or None.

        A template longer than 1 MiB is none: it cannot be meant, and rendering it could hang.
        """
        return self.text("tokenizer.chat_template")

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text, or None."""
        return self.number("tokenizer.ggml.bos_token_id")

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text, or None."""
        return self.number("tokenizer.ggml.eos_token_id")

    @cached_property
    def num_parameters(self) -> int:
        """How many numbers all tensors hold."""
        return sum(tensor.num_elements for tensor in self.tensors)

    @cached_property
    def tensor_bytes(self) -> int:
        """How many bytes all tensors take (of unknown types: as far as they are known)."""
        return sum(tensor.size or 0 for tensor in self.tensors)

    @property
    def name(self) -> str:
        """The model's name: what the file says, else the file's own name, fit to be shown."""
        given = plain_text(self.text("general.name") or "", 200).strip()
        if given:
            return given
        split = split_name(self.path)
        return plain_text(split.stem if split else self.path.stem, 200)

    def text(self, key: str) -> str | None:
        """Return a text, or None if it is missing, empty, longer than 1 MiB or no text."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) and value else None

    def number(self, key: str) -> int | None:
        """Return a whole number from 0 to 2**31 - 1, or None if it is missing.

        Where the file has one number a layer, the largest is returned.

        Raises
        ------
        MalformedHeaderError
            If the entry is something else.
        """
        value = self.metadata.get(key)
        if (
            isinstance(value, GgufArray)
            and value.item_type != "array"
            and 1 <= len(value) <= MOST_LAYERS
        ):
            return max(self._whole(key, item) for item in value.values())
        return None if value is None else self._whole(key, value)

    def numbers(self, key: str, count: int) -> list[int] | None:
        """Return a number for each of `count` layers, or None if the entry is missing.

        Raises
        ------
        MalformedHeaderError
            If the entry is neither one whole number nor a list with at least `count` of them.
        """
        if count > MOST_LAYERS:
            raise self._malformed(f"By its header it has {count:,} layers.")
        value = self.metadata.get(key)
        if not isinstance(value, GgufArray):
            one = self.number(key)
            return None if one is None else [one] * count
        if value.item_type == "array" or len(value) < count:
            raise self._malformed(
                f'"{plain_text(key)}" has {len(value):,} items for {count:,} layers.'
            )
        return [self._whole(key, item) for item in value.values(0, count)]

    def info(self) -> ModelInfo:
        """Return what a person wants to know of the model.

        Raises
        ------
        MalformedHeaderError
            If a number in the header is something else.
        """
        arch = self.architecture
        n_head = self.number(f"{arch}.attention.head_count") or 0
        n_head_kv = self.number(f"{arch}.attention.head_count_kv")
        return ModelInfo(
            path=str(self.path),
            name=self.name,
            architecture=plain_text(arch, 64) or "unknown",
            size_bytes=self.size_bytes,
            num_parameters=self.num_parameters,
            quantization=self._quantization,
            n_ctx_train=self.number(f"{arch}.context_length") or 0,
            n_vocab=self._n_vocab(),
            n_layer=self.number(f"{arch}.block_count") or 0,
            n_head=n_head,
            n_head_kv=n_head if n_head_kv is None else n_head_kv,
            n_embd=self.number(f"{arch}.embedding_length") or 0,
            num_experts=self.number(f"{arch}.expert_count") or 0,
            num_files=len(self.parts),
            chat_template=self.chat_template,
            description=self._shown("general.description", 2000),
            author=self._shown("general.author") or self._shown("general.organization"),
            license=self._shown("general.license.name") or self._shown("general.license"),
            url=self._shown("general.url")
            or self._shown("general.repo_url")
            or self._shown("general.source.url"),
        )

    def _n_vocab(self) -> int:
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, GgufArray):
            return len(tokens)
        return self.number(f"{self.architecture}.vocab_size") or 0

    @cached_property
    def _quantization(self) -> str:
        """Name the number format: what the file says, else the one that most numbers are in."""
        given = self.number("general.file_type")
        if given is not None and self.tensors:
            name = FILE_TYPES.get(given & ~_FILE_TYPE_GUESSED)
            if name is not None:
                return name
        counts: Counter[str] = Counter()
        for tensor in self.tensors:
            counts[tensor.type] += tensor.num_elements
        return counts.most_common(1)[0][0] if counts else "none"

    def _shown(self, key: str, limit: int = 300) -> str | None:
        """Return a text for people; of a list of texts (as older files have it) the first few."""
        value = self.metadata.get(key)
        if isinstance(value, GgufArray) and value.item_type == "string":
            value = ", ".join(plain_text(item, limit) for item in value.values(0, 4))
        elif not isinstance(value, str):
            return None
        return plain_text(value, limit).strip() or None

    def _whole(self, key: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
            what = value if isinstance(value, (int, float)) else "something else"
            raise self._malformed(
                f'"{plain_text(key)}" should be a whole number up to {_MOST:,} and is {what}.'
            )
        return value

    def _malformed(self, what: str) -> MalformedHeaderError:
        return MalformedHeaderError(
            f"{shown(self.path)} is damaged or was written wrongly. {what} "
            "Download or copy it again.",
            path=str(self.path),
        )
