"""What NVIDIA cards do, if there are any and the optional package nvidia-ml-py is installed.

Promises: without the package, the driver or a card there are no figures and no error; `problem`
says why there are none. A figure that a card does not tell is None. Leaves to others: other makers'
cards, when to look (`sampler`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

from gguf_widgets.core.monitor.values import GpuSample

__all__ = ["INSTALL_LINE", "Gpus"]

INSTALL_LINE: Final = 'pip install "gguf-widgets[gpu]"'
_AGAIN_S: Final = 60.0


class Gpus:
    """Looks at all NVIDIA cards of the machine.

    Attributes
    ----------
    problem : str
        Why there are no figures: a sentence; "" if there are.
    """

    def __init__(self) -> None:
        self._nvml: Any = None
        self._cards: list[tuple[str, Any]] = []
        self._not_before = float("-inf")
        self.problem = "NVIDIA cards have not been looked at yet."

    def measure(self, clock: float) -> tuple[GpuSample, ...]:
        """Return a sample of each card."""
        if self._nvml is None:
            if clock < self._not_before:
                return ()
            self._open(clock)
            if self._nvml is None:
                return ()
        try:
            return tuple(self._sample(name, handle) for name, handle in self._cards)
        except self._nvml.NVMLError as error:  # a card is gone, or the driver was taken away
            self.close()
            self.problem = f"The NVIDIA driver does not answer any more: {error}."
            self._not_before = clock + _AGAIN_S
            return ()

    def close(self) -> None:
        """Let go of the driver."""
        nvml, self._nvml, self._cards = self._nvml, None, []
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except nvml.NVMLError as error:
                self.problem = f"The NVIDIA driver was not let go of: {error}."

    def _open(self, clock: float) -> None:
        try:
            nvml: Any = importlib.import_module("pynvml")
        except ImportError:
            self.problem = (
                "The use of NVIDIA cards needs the package nvidia-ml-py, which is not installed. "
                f"Install it: {INSTALL_LINE}."
            )
            self._not_before = float("inf")
            return
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            self.problem = f"No NVIDIA card can be looked at here: {error}."
            self._not_before = clock + _AGAIN_S
            return
        self._nvml = nvml
        try:
            for number in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(number)
                name = nvml.nvmlDeviceGetName(handle)
                self._cards.append(
                    (name.decode(errors="replace") if isinstance(name, bytes) else name, handle)
                )
            self.problem = "" if self._cards else "This machine has no NVIDIA card."
        except nvml.NVMLError as error:
            self.close()
            self.problem = f"No NVIDIA card can be looked at here: {error}."
            self._not_before = clock + _AGAIN_S

    def _sample(self, name: str, handle: Any) -> GpuSample:
        nvml = self._nvml

        def told(ask: Callable[[Any], Any]) -> Any:
            try:
                return ask(handle)
            except nvml.NVMLError_NotSupported:  # a part of a card (MIG), or an older one
                return None

        memory = told(nvml.nvmlDeviceGetMemoryInfo)
        rates = told(nvml.nvmlDeviceGetUtilizationRates)
        milliwatts = told(nvml.nvmlDeviceGetPowerUsage)
        return GpuSample(
            name=name,
            use_percent=None if rates is None else float(rates.gpu),
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            power_w=None if milliwatts is None else milliwatts / 1000,
        )
