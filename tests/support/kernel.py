"""Another kernel, for tests: a process of its own that loads the model and does what it is told."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.worker import attach

manager = ModelManager(keep_alive=float(sys.argv[1]))
attach.ANSWER_TIMEOUT_S = float(sys.argv[2])
print("started", flush=True)
model = None
streams = []
for line in sys.stdin:
    what, answer = line.strip(), "done"
    try:
        if what == "load":
            model = manager.load()
            answer = model.pid
        elif what == "chat":
            answer = model.chat("Hello", max_tokens=5).text
        elif what == "stream":
            streams.append(model.stream("Tell me a story"))
            answer = next(streams[-1]).text
        elif what == "unload":
            answer = model.unload()
        elif what == "close":
            manager.close()
    except GgufWidgetsError as error:
        answer = f"{type(error).__name__}: {error}"
    print(answer, flush=True)
"""


class Kernel:
    """One such process, in the data folder of the test.

    Parameters
    ----------
    keep_alive : float, default 0
    answer_timeout_s : float, default 10
        How long a worker may take to answer before it counts as stuck.
    """

    def __init__(self, keep_alive: float = 0, answer_timeout_s: float = 10.0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(keep_alive), str(answer_timeout_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_started(self) -> None:
        assert self.read() == "started"

    def do(self, what: str) -> str:
        """Have something done; return what came of it."""
        self.write(what)
        return self.read()

    def write(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
