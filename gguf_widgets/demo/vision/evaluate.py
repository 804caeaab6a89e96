"""Measure the demo model's eye, as it is shipped: ``python -m gguf_widgets.demo.vision.evaluate``.

Promises: the drawings are none of training's, and come as PNG files of several sizes, most of them
not square; the questions are phrased as training never saw them; both files are run through
llama.cpp (mtmd), replies are greedy, and a reply counts only if all of it is right.

Leaves to others: drawings (`figures`), questions (`questions`).
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from gguf_widgets.demo import demo_projector_path
from gguf_widgets.demo.evaluate import Answerer, Score, same
from gguf_widgets.demo.sentences.base import Turn
from gguf_widgets.demo.vision import figures, questions

SIZES = ((64, 64), (224, 224), (400, 300), (300, 400), (640, 360), (120, 90), (1000, 1000))
_MARKER = b"<__picture__>"
_LONGEST = 24  # tokens of an answer; all right ones are shorter


@cache
def _silence() -> Any:
    """Return what llama.cpp logs to; kept for good, since the library goes on calling it."""
    import llama_cpp

    return llama_cpp.llama_log_callback(lambda *_: None)


class Onlooker(Answerer):
    """The model file and the projector, loaded by llama.cpp, answering greedily.

    Parameters
    ----------
    projector
        The projector's GGUF file; the bundled one unless told.
    path
        The model's GGUF file; the bundled one unless told.
    threads
        Processor threads.
    """

    def __init__(
        self, projector: Path | None = None, path: Path | None = None, threads: int = 2
    ) -> None:
        super().__init__(path, threads)
        import llama_cpp
        from llama_cpp import mtmd_cpp

        self._lib, self._mtmd = llama_cpp, mtmd_cpp
        mtmd_cpp.mtmd_helper_log_set(_silence(), ctypes.c_void_p(0))
        params = mtmd_cpp.mtmd_context_params_default()
        params.use_gpu, params.print_timings, params.warmup = False, False, False
        params.n_threads, params.media_marker = threads, _MARKER
        file = str(projector or demo_projector_path()).encode()
        self._sight: Any = mtmd_cpp.mtmd_init_from_file(file, self.llama.model, params)
        if not self._sight:
            raise SystemExit(f"llama.cpp could not load the projector {file.decode()}.")

    def close(self) -> None:
        """Free everything native."""
        if self._sight:
            self._mtmd.mtmd_free(self._sight)
            self._sight = None
        self.llama.close()

    def look(self, picture: bytes, asked: questions.Look) -> str:
        """Answer the last question of a conversation about a picture (PNG, JPEG ...)."""
        left, right = questions.before_and_after(asked, answers=False)
        text = left.encode() + _MARKER + right.encode()
        lib, context = self._lib, self.llama.ctx
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        past = self._read(picture, text)
        said: list[int] = []
        vocabulary = lib.llama_model_get_vocab(self.llama.model)
        size = lib.llama_vocab_n_tokens(vocabulary)
        while len(said) < _LONGEST:
            scores = lib.llama_get_logits_ith(context, -1)
            token = max(range(size), key=scores.__getitem__)
            if lib.llama_vocab_is_eog(vocabulary, token):
                break
            said.append(token)
            one = (lib.llama_token * 1)(token)
            if lib.llama_decode(context, lib.llama_batch_get_one(one, 1)):
                raise RuntimeError(f"llama.cpp could not go on at position {past + len(said)}")
        reply: str = self.llama.detokenize(said).decode("utf-8", "replace")
        return reply

    def embeddings(self, picture: bytes) -> list[list[float]]:
        """Return the image tokens that a picture becomes."""
        mtmd = self._mtmd
        with ExitStack() as frees:
            chunks = self._chunks(picture, _MARKER, frees)
            chunk = mtmd.mtmd_input_chunks_get(chunks, 0)
            if mtmd.mtmd_encode_chunk(self._sight, chunk):
                raise RuntimeError("llama.cpp could not encode the picture")
            count, width = mtmd.mtmd_input_chunk_get_n_tokens(chunk), self.llama.n_embd()
            found = mtmd.mtmd_get_output_embd(self._sight)
            return [found[i * width : (i + 1) * width] for i in range(count)]

    def _read(self, picture: bytes, text: bytes) -> int:
        """Compute a prompt and return its length."""
        with ExitStack() as frees:
            past = ctypes.c_int32(0)
            failed = self._mtmd.mtmd_helper_eval_chunks(
                self._sight, self.llama.ctx, self._chunks(picture, text, frees), 0, 0, 512, True,
                ctypes.byref(past),
            )  # fmt: skip
            if failed:
                raise RuntimeError(f"llama.cpp could not compute the prompt {text.decode()!r}")
            return past.value

    def _chunks(self, picture: bytes, text: bytes, frees: ExitStack) -> Any:
        mtmd = self._mtmd
        data = (ctypes.c_uint8 * len(picture)).from_buffer_copy(picture)
        bitmap = mtmd.mtmd_helper_bitmap_init_from_buf(self._sight, data, len(picture), False)
        if not bitmap:
            raise ValueError("llama.cpp cannot read this picture")
        frees.callback(mtmd.mtmd_bitmap_free, bitmap)
        chunks = mtmd.mtmd_input_chunks_init()
        frees.callback(mtmd.mtmd_input_chunks_free, chunks)
        told = mtmd.mtmd_input_text(
            text=text, text_len=len(text), add_special=True, parse_special=True
        )
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
        failed = mtmd.mtmd_tokenize(self._sight, chunks, ctypes.byref(told), bitmaps, 1)
        if failed:
            raise RuntimeError(f"llama.cpp could not tokenize the prompt (code {failed})")
        return chunks


def picture(seed: int, number: int) -> tuple[figures.Figure, bytes]:
    """Return a held-out drawing's figure, and the drawing as a PNG of one of several sizes."""
    drawn = figures.numbered(seed, number)
    width, height = SIZES[number % len(SIZES)]
    return drawn.figure, figures.png_bytes(figures.render(drawn, width, height))


def _shape_of(reply: str) -> str:
    return reply.rstrip(".").rpartition(" ")[2]


def _colour_of(reply: str) -> str:
    return reply.removeprefix("An ").removeprefix("A ").partition(" ")[0]


Check = Callable[[str, str], bool]
CHECKS: dict[str, tuple[questions.Kind, bool, Check]] = {
    "what it is: shape": (
        "what", False, lambda right, reply: _shape_of(right) == _shape_of(reply)
    ),
    "what it is: colour": (
        "what", False, lambda right, reply: _colour_of(right) == _colour_of(reply)
    ),
    "what it is: both, word for word": ("what", False, same),
    "what it is, picture after the words": ("what", True, same),
    "which colour": ("colour", False, same),
    "which shape": ("shape", False, same),
    "is it this shape": ("is shape", False, same),
    "is it this colour": ("is colour", False, same),
}  # fmt: skip


def measure(onlooker: Onlooker, n: int = 300, seed: int = 0) -> list[Score]:
    """Show drawings, ask about each, and count right answers.

    Parameters
    ----------
    onlooker
        The loaded model and projector.
    n
        Drawings; each is asked about in every way.
    seed
        Decides drawings and questions.
    """
    scores = {name: Score(name) for name in (*CHECKS, "then, in a second question")}
    for number in range(n):
        figure, png = picture(seed, number)
        rng = Random(f"questions {seed} {number}")
        replies: dict[tuple[questions.Kind, bool], tuple[Turn, str]] = {}
        for name, (kind, last, check) in CHECKS.items():
            if (kind, last) not in replies:
                turn = questions.turn(rng, figure, kind, "held_out")
                reply = onlooker.look(png, questions.Look((turn,), picture_last=last))
                replies[kind, last] = turn, reply
            turn, reply = replies[kind, last]
            _count(scores[name], turn, reply, check)
        kinds: Iterable[questions.Kind] = rng.sample(("what", "colour", "shape"), 2)
        turns = tuple(questions.turn(rng, figure, kind, "held_out") for kind in kinds)
        reply = onlooker.look(png, questions.Look(turns))
        _count(scores["then, in a second question"], turns[-1], reply, same)
    return list(scores.values())


def _count(score: Score, turn: Turn, reply: str, check: Check) -> None:
    score.total += 1
    if check(turn.answer, reply):
        score.right += 1
    else:
        score.wrong.append((turn.user, turn.answer, reply))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description="Measure the demo model's eye on drawings and questions it never saw."
    )
    parser.add_argument(
        "--projector", type=Path, default=None, help="another GGUF file than the bundled one"
    )
    parser.add_argument("-n", type=int, default=300, help="drawings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--wrong", type=int, default=0, help="show this many wrong answers of each kind"
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    began = time.perf_counter()
    onlooker = Onlooker(arguments.projector, threads=arguments.threads)
    print("Drawings and phrasings that training never saw; greedy replies.\n")
    for score in measure(onlooker, arguments.n, arguments.seed):
        print(f"{score.kind:<40}{score.right:>4} of {score.total:<4} {score.share:>7.1%}")
        for question, expected, reply in score.wrong[: arguments.wrong]:
            print(f"    asked    {question!r}\n    expected {expected!r}\n    got      {reply!r}")
    print(f"\n{time.perf_counter() - began:.0f} s")
    onlooker.close()


if __name__ == "__main__":
    main()
