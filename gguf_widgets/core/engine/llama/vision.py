"""Seeing, on llama.cpp's mtmd: the one owner of the native projector.

Promises: an image is decoded, encoded and handed to the model as mtmd's own helpers do it; what
mtmd says of positions and of attention that is not causal is kept to; whatever it refuses becomes
an error in words. An encoding tells how far it is, and can be broken off. Everything native is
freed by `close`. Leaves to others: when (`engine.image_turns`), which thread (`engine.vision`),
whether the file belongs to the model (`gguf_projector`).

mtmd tells nothing while it encodes. But it lets somebody look at the tensors of its graph
(``cb_eval``): the names of most end in the number of their layer, so the first of each layer is
asked for; that is how far it is, and answering no there ends the computation.

Without mtmd (a library of its own beside llama.cpp's) nothing but seeing is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.llama.library import log, native_log
from gguf_widgets.core.engine.vision import Encoded, ImageBatch, ImageChunk, OnEncoding
from gguf_widgets.core.errors import (
    DecodeError,
    ImageError,
    MissingDependencyError,
    MmprojFileError,
    ModelLoadError,
    RequestCancelledError,
)
from gguf_widgets.core.images import Image
from gguf_widgets.core.types import LoadSettings

__all__ = ["LlamaVision"]

_OF_LAYER = re.compile(rb"-(\d+)$")

# Nothing on any system: where mtmd looks for ffmpeg, to which it would hand what it cannot decode.
_NOWHERE = os.fsencode(Path(os.devnull) / "nothing")


class LlamaVision:
    """The `Vision` protocol on mtmd; see there for what each method does.

    Parameters
    ----------
    path : Path
        The projector, judged (`gguf_projector`).
    model, context : native handles
        They outlive this.
    settings : LoadSettings
        The effective ones.
    num_blocks : int
        Layers of its encoder, for telling how far it is.

    Raises
    ------
    MissingDependencyError
        If mtmd is not there.
    ModelLoadError
        With llama.cpp's reason.
    MmprojFileError
        If it cannot see.
    """

    def __init__(
        self, path: Path, model: Any, context: Any, settings: LoadSettings, num_blocks: int
    ) -> None:
        self._mtmd = _load_library()
        self._context = context
        self._num_blocks = max(1, num_blocks)
        self._on_progress: OnEncoding | None = None
        self._progress = (0, 1)  # the part that is encoded now, and how many there are
        self._layer = -1
        self._cancelled = False
        self._tensor_name = _tensor_name_function()
        self._callback = lib.ggml_backend_sched_eval_callback(self._look)
        self._native: Any = self._open(path, model, settings)
        if not self._mtmd.mtmd_support_vision(self._native):
            self.close()
            raise MmprojFileError(
                f"{path.name} has no encoder for images, so the model cannot see with it.",
                path=str(path),
            )
        self._n_embd = int(lib.llama_model_n_embd_inp(model))
        self.n_pos = 4 if self._mtmd.mtmd_decode_use_mrope(self._native) else 1
        n_batch, n_ubatch = settings.n_batch or 1, settings.n_ubatch or 1
        self._not_causal = bool(self._mtmd.mtmd_decode_use_non_causal(self._native, None))
        self.max_whole = min(n_batch, n_ubatch) if self._not_causal else None
        self.batch = ImageBatch.empty(n_batch, self._n_embd, self.n_pos)
        self._native_batch = _NativeImageBatch(self.batch)

    def _open(self, path: Path, model: Any, settings: LoadSettings) -> Any:
        self._mtmd.mtmd_helper_log_set(native_log(), ctypes.c_void_p(0))
        log.forget()
        params = self._mtmd.mtmd_context_params_default()
        params.use_gpu = settings.n_gpu_layers != 0
        params.print_timings = False
        params.n_threads = settings.n_threads or 1
        if self._tensor_name is not None:
            params.cb_eval = self._callback
        native = self._mtmd.mtmd_init_from_file(os.fsencode(path), model, params)
        if not native:
            raise ModelLoadError(
                f"llama.cpp could not load the image companion {path.name}:"
                f" {log.reason.removeprefix('error: ').rstrip('.') or 'it gave no reason'}.",
                path=str(path),
                reason=log.reason,
            )
        return native

    # Any thread

    def layout(self, image: Image) -> list[list[int] | ImageChunk]:
        """See `Vision.layout`."""
        # Without pixels: it counts, and computes nothing.
        with (
            self._bitmap(image.width, image.height, None) as bitmap,
            self._chunks(bitmap, image) as chunks,
        ):
            pieces = [self._piece(chunk) for chunk in chunks]
        for piece in pieces:
            if self.max_whole is not None and isinstance(piece, ImageChunk):
                self._check_whole(image, piece.num_tokens)
        return pieces

    def _check_whole(self, image: Image, num_tokens: int) -> None:
        if num_tokens > (self.max_whole or 0):
            raise ImageError(
                f"The image of {image.width} x {image.height} pixels becomes {num_tokens:,} tokens,"
                f" which this model has to compute in one go, and {self.max_whole:,} is the most:"
                f" load the model with n_batch={num_tokens} and n_ubatch={num_tokens}, or send a"
                " smaller image.",
                problem="size",
                num_tokens=num_tokens,
                limit=self.max_whole,
            )

    def _piece(self, chunk: Any) -> list[int] | ImageChunk:
        mtmd = self._mtmd
        kind = mtmd.mtmd_input_chunk_get_type(chunk)
        if kind == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
            count = ctypes.c_size_t(0)
            tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
            return list(tokens[: count.value])
        return ImageChunk(
            int(mtmd.mtmd_input_chunk_get_n_tokens(chunk)),
            int(mtmd.mtmd_input_chunk_get_n_pos(chunk)),
        )

    # The thread that encodes

    def encode(self, image: Image, on_progress: OnEncoding) -> list[Encoded]:
        """See `Vision.encode`."""
        pixels = self._pixels(image)
        height, width, _ = pixels.shape
        data = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        with self._bitmap(width, height, data) as bitmap, self._chunks(bitmap, image) as chunks:
            text = self._mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT
            parts = [c for c in chunks if self._mtmd.mtmd_input_chunk_get_type(c) != text]
            encoded = []
            for number, part in enumerate(parts):
                self._progress = (number, len(parts))
                encoded.append(self._encode(part, on_progress))
            return encoded

    def _encode(self, chunk: Any, on_progress: OnEncoding) -> Encoded:
        mtmd = self._mtmd
        num_tokens = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
        self._on_progress, self._layer = on_progress, -1
        self._cancelled = not on_progress(self._progress[0] / self._progress[1])
        log.forget()
        try:
            code = 0 if self._cancelled else mtmd.mtmd_encode_chunk(self._native, chunk)
        finally:
            self._on_progress = None
        if self._cancelled:
            raise RequestCancelledError("Reading the image was stopped.")
        if code != 0:
            raise DecodeError(
                f"The image could not be computed: {log.reason or 'llama.cpp gave no reason'}."
                " The model is still loaded; try again, or with a smaller image.",
                status="encode",
            )
        output = mtmd.mtmd_get_output_embd(self._native)
        vectors = np.ctypeslib.as_array(output, (num_tokens, self._n_embd)).copy()
        if self.n_pos == 1:
            return Encoded(vectors)
        return Encoded(vectors, (self._places(chunk, 0), self._places(chunk, 1)))

    def _places(self, chunk: Any, first: int) -> NDArray[np.int32]:
        """Return the positions of a part's tokens if that of the first one is `first`."""
        mtmd = self._mtmd
        num_tokens = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
        places = (mtmd.mtmd_decoder_pos * num_tokens)()
        tokens = mtmd.mtmd_input_chunk_get_tokens_image(chunk)
        mtmd.mtmd_helper_image_get_decoder_pos(tokens, first, places)
        t, x, y, z = np.frombuffer(places, np.uint32).reshape(num_tokens, 4).T.astype(np.int32)
        return np.stack([t, y, x, z])  # as its own helper orders them

    def _look(self, tensor: int, asks: bool, _: int | None) -> bool:
        """Say whether a tensor is of interest, and, once it is computed, whether to go on."""
        try:
            report = self._on_progress
            if report is None or self._tensor_name is None:
                return not asks
            match = _OF_LAYER.search(self._tensor_name(tensor) or b"")
            layer = int(match[1]) if match is not None else -1
            if asks:
                return self._layer < layer < self._num_blocks
            self._layer = layer
            part, num_parts = self._progress
            if not report((part + (layer + 1) / (self._num_blocks + 1)) / num_parts):
                self._cancelled = True
        except BaseException:  # noqa: BLE001 - it must not unwind through C
            self._cancelled = True
        return not self._cancelled

    def _pixels(self, image: Image) -> NDArray[np.uint8]:
        """Decode an image file, and turn it as its camera was held."""
        mtmd = self._mtmd
        data = (ctypes.c_uint8 * len(image.data)).from_buffer_copy(image.data)
        options = mtmd.mtmd_helper_init_opt_default()
        options.video_params.ffmpeg_bin_dir = _NOWHERE
        made = mtmd.mtmd_helper_bitmap_init_from_buf_wrapper(
            self._native, data, len(image.data), False, options
        )
        try:
            native = mtmd.mtmd_bitmap_get_data(made.bitmap) if made.bitmap else None
            if not native or made.video_ctx or mtmd.mtmd_bitmap_is_audio(made.bitmap):
                raise _damaged(image, "its pixels cannot be decoded")
            width = int(mtmd.mtmd_bitmap_get_nx(made.bitmap))
            height = int(mtmd.mtmd_bitmap_get_ny(made.bitmap))
            if mtmd.mtmd_bitmap_get_n_bytes(made.bitmap) != 3 * width * height:
                raise _damaged(image, "it has other pixels than it says")
            pixels = np.ctypeslib.as_array(native, (height, width, 3)).copy()
        finally:
            if made.bitmap:
                mtmd.mtmd_bitmap_free(made.bitmap)
            if made.video_ctx:
                mtmd.mtmd_helper_video_free(made.video_ctx)
        pixels = _upright(pixels, image.turn)
        if pixels.shape[:2] != (image.height, image.width):
            raise _damaged(image, "it has other pixels than it says")
        return np.ascontiguousarray(pixels)

    @contextlib.contextmanager
    def _bitmap(self, width: int, height: int, data: Any) -> Iterator[Any]:
        bitmap = self._mtmd.mtmd_bitmap_init(width, height, data)
        try:
            yield bitmap
        finally:
            self._mtmd.mtmd_bitmap_free(bitmap)

    @contextlib.contextmanager
    def _chunks(self, bitmap: Any, image: Image) -> Iterator[list[Any]]:
        """Give what mtmd makes of a bitmap, to be freed behind."""
        mtmd = self._mtmd
        part = mtmd.mtmd_input_part(None, bitmap)
        parts = (ctypes.POINTER(mtmd.mtmd_input_part) * 1)(ctypes.pointer(part))
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            code = mtmd.mtmd_tokenize_from_parts(self._native, chunks, parts, 1, False)
            if code != 0:
                raise ImageError(
                    f"The model's image companion cannot take an image of {image.width} x"
                    f" {image.height} pixels. Send one of another size or shape.",
                    problem="size",
                    width=image.width,
                    height=image.height,
                )
            count = mtmd.mtmd_input_chunks_size(chunks)
            yield [mtmd.mtmd_input_chunks_get(chunks, index) for index in range(count)]
        finally:
            mtmd.mtmd_input_chunks_free(chunks)

    # The engine's thread

    def decode(self, num_rows: int) -> int:
        """See `Vision.decode`."""
        if not self._not_causal:
            return int(lib.llama_decode(self._context, self._native_batch.first(num_rows)))
        lib.llama_set_causal_attn(self._context, False)
        try:
            return int(lib.llama_decode(self._context, self._native_batch.first(num_rows)))
        finally:
            lib.llama_set_causal_attn(self._context, True)

    def close(self) -> None:
        """See `Vision.close`."""
        native, self._native = self._native, None
        if native:
            self._mtmd.mtmd_free(native)


class _NativeImageBatch:
    """A `llama_batch` of vectors over some arrays, in which each row belongs to one sequence."""

    def __init__(self, arrays: ImageBatch) -> None:
        self.arrays = arrays  # the addresses below are theirs
        count = len(arrays.seq_ids)
        self._ones = np.ones(count, np.int32)
        addresses = arrays.seq_ids.ctypes.data + 4 * np.arange(count, dtype=np.uint64)
        self._seq_id_pointers = addresses.astype(np.uintp)
        int32 = ctypes.POINTER(ctypes.c_int32)
        self._native = lib.llama_batch(
            n_tokens=0,
            token=None,
            embd=arrays.vectors.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            pos=arrays.positions.ctypes.data_as(int32),
            n_seq_id=self._ones.ctypes.data_as(int32),
            seq_id=self._seq_id_pointers.ctypes.data_as(ctypes.POINTER(int32)),
            logits=arrays.logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def first(self, num_rows: int) -> Any:
        """Return the native batch of the first `num_rows` rows."""
        self._native.n_tokens = num_rows
        return self._native


def _upright(pixels: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Undo what EXIF's orientation says was done to a picture."""
    if turn in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _load_library() -> Any:
    try:
        return importlib.import_module("llama_cpp.mtmd_cpp")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise MissingDependencyError(
            f"Images cannot be read here: llama.cpp's library for them (mtmd) is not part of this"
            f" installation of llama-cpp-python ({error}). Text works. Install llama-cpp-python"
            " again: pip install --force-reinstall --no-cache-dir 'gguf-widgets[llama]'",
            library="mtmd",
        ) from error


def _tensor_name_function() -> Any:
    """Return ggml's function that names a tensor; None where it cannot be reached."""
    folder = Path(lib.__file__).with_name("lib")
    for name in ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll"):
        with contextlib.suppress(OSError, AttributeError):
            function = ctypes.CDLL(str(folder / name)).ggml_get_name
            function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
            return function
    return None


def _damaged(image: Image, what: str) -> ImageError:
    return ImageError(
        f"The {image.format.upper()} image is damaged: {what}. Open it in another program and save"
        " it again.",
        problem="damaged",
        format=image.format,
    )
