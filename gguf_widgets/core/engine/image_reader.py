"""Encoding images in a thread of their own, and keeping what was encoded lately.

Encoding an image takes from a tenth of a second on a graphics card to many seconds on a processor.
The engine's thread does not wait for it: replies that are being written go on meanwhile (on a
processor they share its cores with the encoding, and are slower as long as it lasts). One image is
encoded at a time, those first that somebody is waiting for.

Promises: an image that several ask for is encoded once; what was encoded is kept for later askers,
up to `MAX_KEPT_BYTES`, the latest used; what nobody asks for any more is broken off; no more than
the images of running sequences are held besides. Leaves to others: who asks (`image_turns.py`), the
encoding (`vision.py`).

Threads: the engine's calls everything; the encoding runs in one thread, which ends with `close`.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections import OrderedDict

from gguf_widgets.core.engine.vision import Encoded, Vision
from gguf_widgets.core.errors import DecodeError, GgufWidgetsError
from gguf_widgets.core.images import Image

__all__ = ["MAX_KEPT_BYTES", "ImageReader", "Reading"]

_logger = logging.getLogger(__name__)

MAX_KEPT_BYTES = 256 * 2**20
"""Of encoded images: some hundred of usual size."""

_CLOSE_S = 60.0  # the longest that a layer of a projector takes on a slow machine, and more


class Reading:
    """One image on its way to vectors.

    Attributes
    ----------
    fraction : float
        How much is encoded.
    parts : list of Encoded or None
        Once it is.
    error : GgufWidgetsError or None
        Or why not.
    num_asking : int
        Sequences that want it.
    """

    __slots__ = ("error", "fraction", "image", "num_asking", "parts", "started")

    def __init__(self, image: Image) -> None:
        self.image = image
        self.fraction = 0.0
        self.parts: list[Encoded] | None = None
        self.error: GgufWidgetsError | None = None
        self.num_asking = 0
        self.started = False


class ImageReader:
    """Encodes images for one engine.

    Parameters
    ----------
    vision : Vision
    max_kept_bytes : int, optional
    """

    def __init__(self, vision: Vision, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self._vision = vision
        self._max_kept_bytes = max_kept_bytes
        self._kept: OrderedDict[str, list[Encoded]] = OrderedDict()
        self._num_kept_bytes = 0
        self._changed = threading.Condition()  # of all below
        self._queue: list[tuple[bool, int, Reading]] = []
        self._open: dict[str, Reading] = {}
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._news = threading.Event()
        self.num_encoded = 0

    # The engine's thread

    def ask(self, image: Image, *, is_batch: bool) -> Reading:
        """Have an image encoded, unless it is kept; `let_go` when it is not wanted any more."""
        kept = self._kept.get(image.digest)
        if kept is not None:
            self._kept.move_to_end(image.digest)
            done = Reading(image)
            done.fraction, done.parts = 1.0, kept
            return done
        with self._changed:
            reading = self._open.get(image.digest)
            is_new = reading is None
            if reading is None:
                reading = self._open[image.digest] = Reading(image)
                self._start()
            if is_new or not (is_batch or reading.started):
                # Perhaps once more, further ahead than for those who asked before.
                heapq.heappush(self._queue, (is_batch, next(self._order), reading))
            reading.num_asking += 1
            self._changed.notify_all()
        return reading

    def let_go(self, reading: Reading) -> None:
        """Say that one asker does not want it any more."""
        with self._changed:
            reading.num_asking -= 1
            if reading.num_asking <= 0 and self._open.get(reading.image.digest) is reading:
                # If it is being encoded, that notices; if it waits, it leaves: it may be large.
                del self._open[reading.image.digest]
                self._queue = [one for one in self._queue if one[2] is not reading]
                heapq.heapify(self._queue)

    def collect(self) -> None:
        """Take in what has been encoded since the last time."""
        self._news.clear()
        with self._changed:
            ended = [r for r in self._open.values() if r.parts is not None or r.error is not None]
            for reading in ended:
                del self._open[reading.image.digest]
        for reading in ended:
            if reading.parts is not None:
                self._keep(reading.image.digest, reading.parts)

    def wait(self, timeout_s: float) -> None:
        """Wait until there is news, or `wake` is called."""
        self._news.wait(timeout_s)

    def close(self) -> None:
        """Break off what is encoded, and end the thread."""
        with self._changed:
            self._closed = True
            self._open.clear()
            self._queue.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
            if self._thread.is_alive():
                raise DecodeError("The image that is being read did not stop.")
        self._kept.clear()

    def _keep(self, digest: str, parts: list[Encoded]) -> None:
        size = sum(part.num_bytes for part in parts)
        if digest in self._kept or size > self._max_kept_bytes:
            return
        self._kept[digest] = parts
        self._num_kept_bytes += size
        while self._num_kept_bytes > self._max_kept_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._num_kept_bytes -= sum(part.num_bytes for part in oldest)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="gguf-widgets-images", daemon=True
            )
            self._thread.start()

    # Any thread

    def wake(self) -> None:
        """End a `wait`."""
        self._news.set()

    # The thread that encodes

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                reading = heapq.heappop(self._queue)[2]
                if reading.started or not self._is_wanted(reading):
                    continue
                reading.started = True
            self._encode(reading)

    def _encode(self, reading: Reading) -> None:
        def report(fraction: float) -> bool:
            reading.fraction = min(fraction, 0.99)  # 1 is: it is there
            self._news.set()
            with self._changed:
                return self._is_wanted(reading)

        parts, failure = None, None
        try:
            parts = self._vision.encode(reading.image, report)
        except GgufWidgetsError as error:
            failure = error  # also that it stopped: whoever still waits is told
        except Exception as error:
            _logger.exception("an image could not be encoded")
            failure = DecodeError(f"The image could not be read ({type(error).__name__}: {error}).")
        with self._changed:
            self.num_encoded += parts is not None
            reading.parts, reading.error = parts, failure
            if parts is not None:
                reading.fraction = 1.0
        self._news.set()

    def _is_wanted(self, reading: Reading) -> bool:
        return not self._closed and self._open.get(reading.image.digest) is reading
