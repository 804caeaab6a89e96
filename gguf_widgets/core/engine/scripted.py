"""A backend without a model: scripted replies over byte-level tokens.

Promises: it behaves as llama.cpp does where the engine can see it (contiguous positions, a limited
number of cells, batches that are aborted half way, memory that may not be cuttable), and it checks
that the engine keeps to the rules. It has two uses: the demo mode of the app where llama-cpp-python
is missing, with `demo_replies.py` as its script, and the tests, with scripts and faults of theirs.
Leaves to others: saying on screen that this is the demo mode.

The tokens are the 256 bytes, then BOS and the control tokens of ChatML. A script is a function of
the tokens in a slot's memory; so a reply comes out right only if the engine kept that memory right.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core import config
from gguf_widgets.core.engine.backend import (
    BatchArrays,
    DecodeStatus,
    LoadProgress,
    Memory,
    MemoryKind,
    SamplerSpec,
    Vocabulary,
)
from gguf_widgets.core.engine.demo_replies import demo_script
from gguf_widgets.core.engine.embedding_backend import Embedder
from gguf_widgets.core.engine.scoring_backend import Scorer
from gguf_widgets.core.engine.scripted_vision import stand_ins
from gguf_widgets.core.engine.vision import Vision
from gguf_widgets.core.errors import InvalidValueError, ModelLoadError, UnsupportedByModelError
from gguf_widgets.core.types import LoadSettings, ModelInfo

__all__ = ["BOS", "EOS", "IM_END", "IM_START", "Fault", "Script", "ScriptedBackend", "demo_info"]

BOS, IM_START, IM_END, EOS = 256, 257, 258, 259
_CONTROL = {"<|bos|>": BOS, "<|im_start|>": IM_START, "<|im_end|>": IM_END, "<|eos|>": EOS}
_TEXTS = {token: text for text, token in _CONTROL.items()}
_SPLIT = re.compile("(" + "|".join(map(re.escape, _CONTROL)) + ")")
N_VOCAB = 260

PREFILL_SPEEDUP = 50  # a prompt is "computed" this much faster than a reply is written

Script = Callable[[Sequence[int], int], int]
"""From the tokens in a slot's memory and the number of them that are the prompt: the next token.

What a reply was told to begin with is not counted as the prompt.
"""


class Fault(NamedTuple):
    """What a decode answers instead of doing its work: a code, and how many rows it still did."""

    code: int
    rows_done: int = 0


def demo_info() -> ModelInfo:
    """Describe the demo mode as if it were a model."""
    return ModelInfo(
        path="",
        name="Demo mode (no model)",
        architecture="scripted",
        size_bytes=0,
        num_parameters=0,
        quantization="none",
        n_ctx_train=_DEFAULTS["n_ctx"],
        n_vocab=N_VOCAB,
        n_layer=0,
        n_head=0,
        n_head_kv=0,
        n_embd=0,
        description="Prepared answers, so that you can look around. No model is running.",
        license="MIT",
        backend="scripted",
    )


_DEFAULTS = {"n_ctx": 8192, "n_batch": 512, "n_seq_max": 8, "n_gpu_layers": 0, "n_threads": 1}


class ScriptedBackend:
    """The backend protocol on scripted replies; see `Backend` for what each method does.

    Parameters
    ----------
    settings : LoadSettings, optional
        `n_ctx`, `n_batch` and `n_seq_max` are kept to; the rest is only reported.
    script : Script, optional
        What the "model" says; by default the demo mode's answers.
    tokens_per_s : float, default 0
        The pace of a reply; 0 is as fast as possible.
    can_cut : bool, default True
        False behaves like a recurrent model: a slot's memory can only be emptied or copied whole.
    kept_slots : int, default 16
        Slots beyond ``n_seq_max``, where they have one cache and it can be cut.
    embedder : Embedder, optional
        For tests; the demo mode has no vectors.
    scorer : Scorer, optional
        For tests; the demo mode has no probabilities of its own.
    vision : Vision, optional
        For tests (`scripted_vision.py`); the demo mode sees nothing.
    fault : callable, optional
        Called before each decode with the rows as (token, position, slot); a `Fault` makes that
        decode fail. For tests.
    """

    name = "scripted"
    chat_template: str | None = None
    tool_template: str | None = None
    can_write = True
    state_format = "scripted replies, 1"

    def __init__(
        self,
        settings: LoadSettings | None = None,
        script: Script = demo_script,
        *,
        tokens_per_s: float = 0.0,
        can_cut: bool = True,
        kept_slots: int = 16,
        embedder: Embedder | None = None,
        scorer: Scorer | None = None,
        vision: Vision | None = None,
        fault: Callable[[list[tuple[int, int, int]]], Fault | None] | None = None,
    ) -> None:
        self.settings = _effective(settings or LoadSettings())
        self.vocabulary = Vocabulary(
            n_vocab=N_VOCAB,
            bos=BOS,
            eos=EOS,
            bos_text=_TEXTS[BOS],
            eos_text=_TEXTS[EOS],
            add_bos=True,
            eog=frozenset((IM_END, EOS)),
            control_texts=tuple(_CONTROL),
        )
        n_seq_max = self.settings.n_seq_max or 0
        n_outputs = n_seq_max + (self.settings.n_draft or 0)
        own_cells = can_cut and self.settings.kv_unified is False
        self.settings = self.settings.replace(kv_unified=not own_cells)
        self.memory = Memory(
            MemoryKind.ATTENTION if can_cut else MemoryKind.RECURRENT,
            n_slots=n_seq_max + (kept_slots if can_cut and not own_cells else 0),
            n_outputs=n_outputs,
            own_cells=own_cells,
        )
        self.batch = BatchArrays.empty(self.settings.n_batch or 0)
        self.embedder = embedder
        self.scorer = scorer
        self.vision = vision
        self.num_open_samplers = 0
        self._script = script
        self._token_s = 1 / tokens_per_s if tokens_per_s > 0 else 0.0
        self._can_cut = can_cut
        self._fault = fault
        self._memory: list[list[int]] = [[] for _ in range(self.memory.n_slots)]
        # As in llama.cpp, a cell belongs to every slot that shares it, and is free after the last.
        self._cells: list[list[int]] = [[] for _ in range(self.memory.n_slots)]
        self._holders: Counter[int] = Counter()
        self._cell_numbers = itertools.count()
        # Row of the last batch -> slot, and how many tokens it had there.
        self._outputs: dict[int, tuple[int, int]] = {}
        self._interrupted = threading.Event()

    @classmethod
    def open(cls, settings: LoadSettings, on_progress: LoadProgress | None) -> ScriptedBackend:
        """Open the demo mode, at a pace that can be read along."""
        for fraction in (0.0, 1.0):
            if on_progress is not None and not on_progress(fraction):
                raise ModelLoadError("Loading was cancelled.", cancelled=True)
        return cls(settings, tokens_per_s=config.scripted_pace())

    # Text

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """See `Backend.tokenize`."""
        try:
            if not parse_special:
                return list(text.encode())
            tokens: list[int] = []
            for part in _SPLIT.split(text):
                tokens += [_CONTROL[part]] if part in _CONTROL else part.encode()
        except UnicodeEncodeError as error:
            raise InvalidValueError(
                f"The text holds half a character (a lone surrogate) at place {error.start}."
            ) from error
        return tokens

    def detokenize(self, tokens: Sequence[int], *, special: bool) -> str:
        """See `Backend.detokenize`."""
        pieces = (
            _TEXTS[token].encode() if special and token in _TEXTS else self.token_to_piece(token)
            for token in tokens
        )
        return b"".join(pieces).decode("utf-8", "replace")

    def token_to_piece(self, token: int) -> bytes:
        """See `Backend.token_to_piece`."""
        return bytes((token,)) if token < BOS else b""

    def vocabulary_digest(self) -> str:
        """See `Backend.vocabulary_digest`."""
        return "scripted replies, 1"

    # Memory

    def seq_rm(self, seq_id: int, start: int) -> bool:
        """See `Backend.seq_rm`."""
        memory = self._memory[seq_id]
        if start > 0 and start < len(memory) and not self._can_cut:
            return False
        for cell in self._cells[seq_id][start:]:
            self._holders[cell] -= 1
            if not self._holders[cell]:
                del self._holders[cell]
        del memory[start:], self._cells[seq_id][start:]
        return True

    def seq_cp(self, source: int, target: int, start: int, end: int) -> None:
        """See `Backend.seq_cp`."""
        if not self._can_cut:
            start, end = 0, len(self._memory[source])
            self.seq_rm(target, 0)
        if len(self._memory[target]) != start or len(self._memory[source]) < end:
            raise AssertionError("a prefix was shared that does not follow on what is there")
        if self.memory.own_cells:
            tokens = self._memory[source][:end]
            self.seq_rm(target, 0)
            self._store([(token, place, target) for place, token in enumerate(tokens)])
            return
        self._memory[target] += self._memory[source][start:end]
        self._cells[target] += self._cells[source][start:end]
        self._holders.update(self._cells[source][start:end])

    @property
    def num_cells(self) -> int:
        """Cells in use, one that is shared counted once."""
        return len(self._holders)

    def seq_pos_min(self, seq_id: int) -> int:
        """See `Backend.seq_pos_min`."""
        return 0 if self._memory[seq_id] else -1

    def seq_pos_max(self, seq_id: int) -> int:
        """See `Backend.seq_pos_max`."""
        return len(self._memory[seq_id]) - 1

    def state_seq_get(self, seq_id: int) -> NDArray[np.uint8]:
        """See `Backend.state_seq_get`; a state is the tokens themselves."""
        return np.array(self._memory[seq_id], "<i4").view(np.uint8)

    def state_seq_set(self, seq_id: int, state: NDArray[np.uint8]) -> bool:
        """See `Backend.state_seq_set`."""
        if self._memory[seq_id]:
            raise AssertionError("a state was put into a slot that is not empty")
        tokens = state.view("<i4").tolist()
        if not self._has_room(len(tokens), len(tokens)):
            return False
        self._store([(token, position, seq_id) for position, token in enumerate(tokens)])
        return True

    def interrupt(self) -> None:
        """See `Backend.interrupt`."""
        self._interrupted.set()

    def clear_interrupt(self) -> None:
        """See `Backend.clear_interrupt`."""
        self._interrupted.clear()

    # Work

    def decode(self, num_tokens: int) -> int:
        """See `Backend.decode`; batches that break llama.cpp's rules are refused as it does."""
        if not 0 < num_tokens <= len(self.batch.tokens):
            self._outputs = {}
            return DecodeStatus.INVALID
        rows = list(
            zip(
                self.batch.tokens[:num_tokens].tolist(),
                self.batch.positions[:num_tokens].tolist(),
                self.batch.seq_ids[:num_tokens].tolist(),
                strict=True,
            )
        )
        if any(not 0 <= token < N_VOCAB for token, _, _ in rows):
            self._outputs = {}
            return DecodeStatus.INVALID
        return self._decode(rows, self.batch.logits[:num_tokens])

    def _decode(self, rows: list[tuple[int, int, int]], logits: NDArray[np.int8]) -> int:
        self._outputs = {}
        num_tokens = len(rows)
        following = [len(memory) for memory in self._memory]
        for _, position, slot in rows:
            if position != following[slot]:
                return DecodeStatus.INVALID
            following[slot] += 1
        if not self._has_room(num_tokens, max(following)):
            return DecodeStatus.NO_ROOM
        fault = self._fault(rows) if self._fault is not None else None
        if fault is not None:
            self._store(rows[: fault.rows_done])
            return fault.code
        if self._wait(num_tokens):
            return DecodeStatus.ABORTED
        self._store(rows)
        for row in logits.nonzero()[0].tolist():
            if len(self._outputs) == self.memory.n_outputs:
                raise AssertionError("more rows were asked for than there is room for")
            self._outputs[row] = (rows[row][2], rows[row][1] + 1)
        return DecodeStatus.OK

    def _has_room(self, num_new: int, longest: int) -> bool:
        n_ctx = self.settings.n_ctx or 0
        return longest <= n_ctx if self.memory.own_cells else self.num_cells + num_new <= n_ctx

    def _wait(self, num_tokens: int) -> bool:
        """Take the time a model would take; True if interrupted meanwhile."""
        pause = self._token_s * max(1.0, num_tokens / PREFILL_SPEEDUP)
        return self._interrupted.wait(pause) if pause else self._interrupted.is_set()

    def _store(self, rows: list[tuple[int, int, int]]) -> None:
        for token, _, slot in rows:
            cell = next(self._cell_numbers)
            self._holders[cell] = 1
            self._memory[slot].append(token)
            self._cells[slot].append(cell)

    def decode_images(self, num_rows: int) -> int:
        """See `Backend.decode_images`."""
        if self.vision is None:
            raise AssertionError("there is no projector")
        rows = self.vision.batch
        tokens = stand_ins(rows.vectors[:num_rows])
        positions, slots = rows.positions[:num_rows].tolist(), rows.seq_ids[:num_rows].tolist()
        return self._decode(
            list(zip(tokens, positions, slots, strict=True)), rows.logits[:num_rows]
        )

    def new_sampler(self, spec: SamplerSpec) -> ScriptedSampler:
        """See `Backend.new_sampler`; the settings change nothing about a script.

        Raises
        ------
        UnsupportedByModelError
            For a schema or a grammar, which a prepared answer does not follow.
        """
        if spec.grammar is not None:
            raise UnsupportedByModelError(
                "Demo mode has prepared answers only, which follow no schema or grammar. Leave it"
                " out, or install llama-cpp-python and load a model."
            )
        self.num_open_samplers += 1
        # What a reply begins with counts as written by the script: it goes on from there.
        num_begin = spec.num_begin_tokens or len(spec.begin)
        return ScriptedSampler(self, len(spec.prompt_tokens) - num_begin)

    def logprobs(self, row: int, token: int, num_top: int) -> tuple[float, list[tuple[int, float]]]:
        """See `Backend.logprobs`; a script is sure of itself."""
        if row not in self._outputs:
            raise AssertionError("a row without logits was asked about")
        return 0.0, [(token, 0.0)] if num_top else []

    def next_token(self, row: int, num_prompt: int) -> int:
        """Ask the script what follows the memory of the slot at `row`, as far as that row."""
        slot, length = self._outputs[row]
        return self._script(self._memory[slot][:length], num_prompt)

    def close(self) -> None:
        """See `Backend.close`."""
        self._interrupted.set()


class ScriptedSampler:
    """A sampler that asks the backend's script."""

    def __init__(self, backend: ScriptedBackend, num_prompt: int) -> None:
        self._backend: ScriptedBackend | None = backend
        self._num_prompt = num_prompt

    def sample(self, row: int, *, may_end: bool = True) -> int:
        """See `Sampler.sample`; where a script would end and must not, it goes on with a space."""
        if self._backend is None:
            raise AssertionError("a closed sampler was asked")
        token = self._backend.next_token(row, self._num_prompt)
        return token if may_end or token not in self._backend.vocabulary.eog else ord(" ")

    def close(self) -> None:
        """See `Sampler.close`."""
        if self._backend is not None:
            self._backend.num_open_samplers -= 1
            self._backend = None


def _effective(settings: LoadSettings) -> LoadSettings:
    chosen = {name: value for name, value in settings.to_dict().items() if value is not None}
    chosen = {**_DEFAULTS, **chosen}
    return LoadSettings.from_keywords(
        **{
            "n_ubatch": chosen["n_batch"],
            "type_k": "f16",
            "type_v": "f16",
            "flash_attn": False,
            "n_draft": 0,
            "use_mmap": False,
            "use_mlock": False,
            **chosen,
            "mmproj": None,
        }
    )
