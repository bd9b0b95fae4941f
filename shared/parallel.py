"""Compiled per-pixel loops: numba kernels that release the interpreter, spread over row bands."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numba

# Contraction to fused multiply-adds and reordering of sums; NaN and infinity keep their meaning.
_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


def kernel(function: Callable) -> Callable:
    """Compile a per-pixel loop at its first call and keep the machine code on disk.

    Numba's own threads are not used: its default layer must not be entered from two Python threads
    at once, which a web page does. `over_rows` spreads kernels instead.
    """
    try:
        return numba.njit(nogil=True, cache=True, fastmath=_FASTMATH)(function)
    except RuntimeError:  # no folder can be written: compile again in every process
        return numba.njit(nogil=True, fastmath=_FASTMATH)(function)


def threads() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="rows")


def over_rows(band: Callable[[int, int], None], height: int, workers: int | None = None) -> None:
    """Call `band(first_row, end_row)` for bands that cover a picture, on several threads.

    Args:
        band: calls a kernel; must release the interpreter to gain anything.
        height: rows of the picture.
        workers: threads; all cores by default, 1 stays on the calling thread.
    """
    workers = min(workers or threads(), height)
    if workers <= 1:
        band(0, height)
        return
    # Twice as many bands as threads, so that a core that is busy elsewhere does fewer of them.
    edges = [height * i // (2 * workers) for i in range(2 * workers + 1)]
    list(_pool(workers).map(band, edges[:-1], edges[1:]))
