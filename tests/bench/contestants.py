"""Those who compute the same rows: our engine, our worker, llama_cpp.Llama and xllamacpp's server.

Promises: each is set up as it does best on a table (what that is stands with it), works on exactly
the prompts it is handed, and ends each reply after exactly as many tokens as asked; anything else
is an error and no figure. Leaves to others: processes (`harness.py`), what is compared with what.

Each runs in a process of its own, `child.py`, so that two copies of llama.cpp cannot get into each
other's way, and so that whoever is not running has no threads that turn in circles beside the one
that is.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Protocol

import msgspec
import psutil

__all__ = ["KINDS", "Contestant", "Outcome", "Setup", "Work"]


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """How a contestant is loaded: `n_slots` sequences side by side, of up to `n_row` tokens."""

    path: str
    n_slots: int
    n_row: int
    n_shared: int = 0  # of these, how many all rows have in common
    n_threads: int = 1
    kv_unified: bool = False  # ours: one KV cache for all slots, or one for each, as the peer has


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Rows to compute.

    `texts` are the same prompts as `prompts`, for those that take no tokens. A reply has `num_new`
    tokens: where it is the model that ends it, there is room for one more. With a `schema` replies
    are JSON.
    """

    prompts: list[list[int]]
    texts: list[str]
    num_new: int
    ends_itself: bool = False
    schema: dict[str, Any] | None = None

    @property
    def max_tokens(self) -> int:
        """The longest reply to ask for."""
        return self.num_new + self.ends_itself


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it, `seconds` by the clock and `cpu_s` of the processors.

    Where one writes a few tokens more than asked they count, as parts of a row.
    """

    seconds: float
    cpu_s: float
    num_rows: float
    num_new: int
    in_decode_s: float = 0.0  # inside llama_decode, where that can be seen
    in_decode_cpu_s: float = 0.0
    num_refused: int = 0
    texts: list[str] = []


class Contestant(Protocol):
    """One of them; made from a `Setup`."""

    def run(self, work: Work) -> Outcome:
        """Compute the rows."""

    def close(self) -> None:
        """Give everything back."""


class _Stopwatch:
    """Both kinds of time since it was made."""

    def __init__(self, *others: psutil.Process) -> None:
        self._others = others
        self._cpu, self._clock = self._cpu_now(), perf_counter()

    def read(self) -> dict[str, float]:
        seconds = perf_counter() - self._clock
        return {"seconds": seconds, "cpu_s": self._cpu_now() - self._cpu}

    def _cpu_now(self) -> float:
        times = [other.cpu_times() for other in self._others]
        return process_time() + sum(one.user + one.system for one in times)


def _load_settings(setup: Setup) -> dict[str, Any]:
    """Return what our engine is loaded with: room for what is asked for, and no more."""
    n_ctx = setup.n_row + 64
    if setup.kv_unified:
        n_ctx = setup.n_shared + setup.n_slots * (setup.n_row - setup.n_shared) + 64
    return {
        "n_ctx": n_ctx,
        "n_seq_max": setup.n_slots,
        "n_threads": setup.n_threads,
        "kv_unified": setup.kv_unified,
    }


class OurEngine:
    """`Engine` in the same process, all rows handed in at once as work on a table.

    As it does best on a table of equal rows: a KV cache for each slot.
    """

    def __init__(self, setup: Setup) -> None:
        from gguf_widgets.core.engine.engine import Engine
        from gguf_widgets.core.engine.open import open_backend
        from gguf_widgets.core.types import LoadSettings

        settings = LoadSettings(**_load_settings(setup))
        self._engine = Engine(open_backend("llama.cpp", setup.path, settings))
        self._number = itertools.count()
        self._in_decode = [0.0, 0.0]
        self._samplers: list[Any] = []
        backend: Any = self._engine.backend
        decode, new_sampler = backend.decode, backend.new_sampler

        def timed(num_tokens: int) -> int:
            cpu, clock = process_time(), perf_counter()
            code = int(decode(num_tokens))
            self._in_decode[0] += perf_counter() - clock
            self._in_decode[1] += process_time() - cpu
            return code

        def noted(spec: Any) -> Any:
            self._samplers.append(new_sampler(spec))
            return self._samplers[-1]

        backend.decode, backend.new_sampler = timed, noted

    def run(self, work: Work) -> Outcome:
        from gguf_widgets.core.types import (
            Finished,
            GenerateRequest,
            Priority,
            SamplingSettings,
            TextDelta,
        )

        sampling = SamplingSettings(temperature=0, max_tokens=work.max_tokens)
        grammar = None if work.schema is None else _grammar(work.schema)
        self._in_decode[:] = 0.0, 0.0
        self._samplers.clear()
        engine, replies = self._engine, []
        watch = _Stopwatch()
        for prompt in work.prompts:
            engine.add_request(
                GenerateRequest(
                    request_id=str(next(self._number)),
                    client_id="table",
                    prompt_tokens=prompt,
                    sampling=sampling,
                    priority=Priority.BATCH,
                    grammar=grammar,
                )
            )
        while engine.has_work:
            for event in engine.step():
                if isinstance(event, Finished):
                    replies.append(event.reply)
                elif not isinstance(event, TextDelta) and hasattr(event, "error"):
                    raise RuntimeError(f"a row failed: {event}")
        times = watch.read()
        return Outcome(
            **times,
            num_rows=len(replies),
            num_new=sum(reply.usage.num_completion_tokens for reply in replies),
            in_decode_s=self._in_decode[0],
            in_decode_cpu_s=self._in_decode[1],
            num_refused=sum(getattr(sampler, "num_refused", 0) for sampler in self._samplers),
            texts=[reply.text for reply in replies],
        )

    def close(self) -> None:
        self._engine.close()


class OurWorker:
    """The same through `gguf_widgets.load`: texts in, texts out, the model in its own process."""

    def __init__(self, setup: Setup) -> None:
        from gguf_widgets.core.manager import ModelManager

        self._home = tempfile.TemporaryDirectory()
        os.environ["GGUF_WIDGETS_HOME"] = self._home.name
        self._manager = ModelManager(keep_alive=0)
        self._model = self._manager.load(Path(setup.path), **_load_settings(setup))

    def run(self, work: Work) -> Outcome:
        options: dict[str, Any] = {"temperature": 0, "max_tokens": work.max_tokens}
        if work.schema is not None:
            options["schema"] = work.schema
        watch = _Stopwatch(psutil.Process(self._model.pid))
        streams = [
            self._model.stream_completion(text, priority="batch", **options) for text in work.texts
        ]
        replies = [stream.result() for stream in streams]
        return Outcome(
            **watch.read(),
            num_rows=len(replies),
            num_new=sum(reply.usage.num_completion_tokens for reply in replies),
            texts=[reply.text for reply in replies],
        )

    def close(self) -> None:
        self._model.unload()
        self._manager.close()
        self._home.cleanup()


class OurMap(OurWorker):
    """`Model.map`: a table in, a table out, each row kept in the database as it ends.

    The template is the row's text and nothing else, so that the prompts are those of the others.
    """

    def run(self, work: Work) -> Outcome:
        self._model.use_chat_template("{{ messages[0].content }}")
        watch = _Stopwatch(psutil.Process(self._model.pid))
        run = self._model.map(
            {"text": work.texts},
            "{text}",
            schema=work.schema,
            max_tokens=work.max_tokens,
            progress=False,
        )
        frame = run.to_frame()
        times = watch.read()
        return Outcome(
            **times,
            num_rows=int((frame["status"] == "done").sum()),
            num_new=int(frame["num_completion_tokens"].sum()),
            texts=frame["reply"].tolist() if work.schema is None else [],
        )


class LlamaRows:
    """`llama_cpp.Llama`, one row after another; it keeps what a row begins with by itself."""

    def __init__(self, setup: Setup) -> None:
        import llama_cpp

        self._model = llama_cpp.Llama(
            setup.path,
            n_ctx=setup.n_row + 64,
            n_threads=setup.n_threads,
            n_threads_batch=setup.n_threads,
            flash_attn=True,
            verbose=False,
        )

    def run(self, work: Work) -> Outcome:
        if work.schema is not None:
            raise NotImplementedError("this one is not compared on JSON")
        watch = _Stopwatch()
        replies: list[Any] = [
            self._model.create_completion(prompt, max_tokens=work.max_tokens, temperature=0)
            for prompt in work.prompts
        ]
        return Outcome(
            **watch.read(),
            num_rows=len(replies),
            num_new=sum(reply["usage"]["completion_tokens"] for reply in replies),
            texts=[reply["choices"][0]["text"] for reply in replies],
        )

    def close(self) -> None:
        self._model.close()


class XllamacppServer:
    """llama.cpp's own server inside this process, as xllamacpp's wheel has it.

    As it does best here: a call for each row from a thread of its own, so that continuous batching
    keeps all slots busy; ``cache_prompt`` on, so that a slot keeps what its next row begins with
    (what another slot has computed it cannot take over); a KV cache for each slot, since with a
    unified one the attention of each row goes over the cells of all; and no copies in main memory
    of what slots have held, which nobody asks for again.
    """

    def __init__(self, setup: Setup) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = setup.path
        params.n_parallel = setup.n_slots
        params.n_ctx = setup.n_slots * -(-(setup.n_row + 64) // 256) * 256
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = setup.n_threads
        params.cont_batching = params.cache_prompt = True
        params.kv_unified = False
        params.cache_ram_mib = 0
        params.fit_params = False  # it may not change what it is told
        params.verbosity = 0
        self._server = xllamacpp.Server(params)
        self._pool = ThreadPoolExecutor(256)

    def run(self, work: Work) -> Outcome:
        def row(prompt: list[int]) -> Any:
            request = {
                "prompt": prompt,
                "max_tokens": work.max_tokens,
                "temperature": 0,
                "top_k": 1,  # the same token, and less to sort
                "cache_prompt": True,
            }
            if work.schema is not None:
                request["json_schema"] = work.schema
            return self._server.handle_completions(request)

        watch = _Stopwatch()
        replies = list(self._pool.map(row, work.prompts))
        times = watch.read()
        for reply in replies:
            if "usage" not in reply:
                raise RuntimeError(f"a row failed: {reply}")
        return Outcome(
            **times,
            num_rows=len(replies),
            num_new=sum(reply["usage"]["completion_tokens"] for reply in replies),
            texts=[reply["choices"][0]["text"] for reply in replies],
        )

    def close(self) -> None:
        self._pool.shutdown()
        del self._server


def _grammar(schema: dict[str, Any]) -> str:
    """Return the grammar that a request with this schema comes to the engine with."""
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    return str(json_schema_to_gbnf(json.dumps(schema)))


KINDS: dict[str, type[Any]] = {
    "engine": OurEngine,
    "worker": OurWorker,
    "map": OurMap,
    "llama": LlamaRows,
    "xllamacpp": XllamacppServer,
}
