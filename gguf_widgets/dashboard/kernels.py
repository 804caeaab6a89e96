"""Which Python a page runs in, and when its process is ended.

Promises: every kernel is this very Python environment, whatever kernel specs are installed on the
machine; a kernel whose page has gone away is ended after `DashboardKernelManager.cull_idle_timeout`
seconds, one whose page is open or whose answer is still running never is. Leaves to others: HTTP
(`handlers`), the server's life (`app`).
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ipykernel.kernelspec import RESOURCES
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets import Unicode, default

__all__ = ["DashboardKernelManager", "ThisPythonKernelSpecs", "ThisPythonOnly", "started_kernels"]

# A page request collects here the ids of the kernels that were started for it.
started_kernels: ContextVar[list[str] | None] = ContextVar("started_kernels", default=None)


class ThisPythonKernelSpecs(KernelSpecManager):
    """Kernel specs in which "python3" is always the running interpreter.

    A "python3" spec that another installation left in the user's folders would start a Python that
    lacks this package. The other specs stay as they are.
    """

    def find_kernel_specs(self) -> dict[str, str]:
        """Return the folders by name, ours in the place of any other "python3"."""
        found: dict[str, str] = super().find_kernel_specs()
        return {NATIVE_KERNEL_NAME: RESOURCES} | {
            name: folder for name, folder in found.items() if name != NATIVE_KERNEL_NAME
        }

    def _find_spec_directory(self, kernel_name: str) -> str | None:
        # With ipykernel's own folder the spec is made for `sys.executable`.
        if kernel_name == NATIVE_KERNEL_NAME:
            return str(RESOURCES)
        return super()._find_spec_directory(kernel_name)


class ThisPythonOnly(ThisPythonKernelSpecs):
    """The one spec that the dashboard needs; no other kernel can be asked for."""

    def find_kernel_specs(self) -> dict[str, str]:
        """Return our own spec alone."""
        return {NATIVE_KERNEL_NAME: RESOURCES}

    def _find_spec_directory(self, kernel_name: str) -> str | None:
        return str(RESOURCES) if kernel_name == NATIVE_KERNEL_NAME else None


class DashboardKernelManager(AsyncMappingKernelManager):
    """Starts a page's kernel where the program was started, and ends it when it is left alone.

    Idle means: no message from the kernel for `cull_idle_timeout` seconds. An answer that is being
    written sends messages all the time, so that it is never cut off, and an open page keeps its
    kernel whatever it does.
    """

    start_folder = Unicode(help="The folder that kernels start in; the current one by default.")

    @default("start_folder")
    def _default_start_folder(self) -> str:
        return str(Path.cwd())

    @default("cull_idle_timeout")
    def _default_cull_idle_timeout(self) -> int:
        return 600

    @default("cull_interval")
    def _default_cull_interval(self) -> int:
        return 60

    def cwd_for_path(self, path: str, **kwargs: Any) -> str:  # noqa: ARG002  # the notebook's own
        """Return the folder for a new kernel.

        It is not the notebook's: that may be inside the installed package, whose modules would then
        be importable by the wrong names.
        """
        return self.start_folder if os.path.isdir(self.start_folder) else str(Path.home())  # noqa: PTH112

    async def start_kernel(  # type: ignore[override]  # as its own base class does, too
        self, **kwargs: Any
    ) -> str:
        """Start a kernel, and note it for the page request that asked for it."""
        kernel_id: str = await super().start_kernel(**kwargs)
        noted = started_kernels.get()
        if noted is not None:
            noted.append(kernel_id)
        return kernel_id
