"""Running a graph where the user's scheduler is, with a bar for people who look on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask.delayed import Delayed

__all__ = ["run"]


def run(work: Delayed, progress: bool | None) -> Any:
    """Compute `work` on the scheduler in force.

    Parameters
    ----------
    work : Delayed
    progress : bool or None
        Whether to show a bar; None: in a terminal or a notebook.
    """
    shown = _somebody_looks_on() if progress is None else progress
    client = _client()
    if client is None:
        return work.compute() if not shown else _with_bar(work, 0.0 if progress else 1.0)
    future = client.compute(work)
    try:
        if shown:
            from distributed.diagnostics.progressbar import progress as bar

            bar(future, notebook=False)
        return future.result()
    except BaseException:  # an interrupt stops the workers too
        future.cancel()
        raise


def _with_bar(work: Delayed, seconds: float) -> Any:
    from dask.diagnostics.progress import ProgressBar

    # what nobody asked for does not flash by
    with ProgressBar(minimum=seconds, out=sys.stderr):
        return work.compute()


def _client() -> Any:
    """The distributed client that dask would use, or None."""
    if "distributed" not in sys.modules:
        return None
    from dask.base import get_scheduler

    owner = getattr(get_scheduler(), "__self__", None)
    from distributed import Client

    return owner if isinstance(owner, Client) else None


def _somebody_looks_on() -> bool:
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
