"""What an engine does beside the generation: vectors (`embedding`) and scores (`scoring`).

Promises: both as one, under the engine's rules for threads; in a step one of them computes one
batch, in turns, so that running replies wait for one batch and not for two. Leaves to others: the
requests themselves.
"""

from __future__ import annotations

from gguf_widgets.core.engine.backend import Backend
from gguf_widgets.core.engine.embedding import EmbeddingQueue
from gguf_widgets.core.engine.scoring import ScoringQueue

__all__ = ["Beside"]


class Beside:
    """The queues of one engine.

    Parameters
    ----------
    backend : Backend

    Attributes
    ----------
    embedding : EmbeddingQueue
    scoring : ScoringQueue
    """

    def __init__(self, backend: Backend) -> None:
        self.embedding = EmbeddingQueue(backend.embedder)
        self.scoring = ScoringQueue(backend.scorer, can_write=backend.can_write)
        self._both = (self.embedding, self.scoring)
        self._num_steps = 0

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do."""
        return self.embedding.has_work or self.scoring.has_work

    def step(self, *, busy: bool) -> None:
        """Compute one batch; `busy` says that replies are being written."""
        ready = [queue for queue in self._both if queue.has_work]
        if ready:
            self._num_steps += 1
            ready[self._num_steps % len(ready)].step(busy=busy)

    def abort(self, request_id: str) -> bool:
        """End a request; False if there is no such request."""
        return sum(queue.abort(request_id) for queue in self._both) > 0

    def abort_client(self, client_id: str) -> int:
        """End all requests of a client; return how many."""
        return sum(queue.abort_client(client_id) for queue in self._both)

    def interrupt(self) -> None:
        """Make what is computed now return soon; any thread may."""
        for queue in self._both:
            queue.interrupt()

    def close(self) -> None:
        """Free what is native; may be called twice."""
        for queue in self._both:
            queue.close()
