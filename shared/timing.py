"""Times of functions beside each other.

Methods take turns and ratios are medians over the turns: what else the machine does touches all of
them alike, so ratios carry over from machine to machine where times do not.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def turns(
    functions: Sequence[Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> np.ndarray:
    """Time functions in turn, after one call of each; every second round goes backwards.

    Returns:
        Seconds of `clock`, `(repeats, functions)`.
    """
    for function in functions:
        function()
    seconds = np.empty((repeats, len(functions)))
    for turn in range(repeats):
        order = range(len(functions))
        for which in order if turn % 2 == 0 else reversed(order):
            start = clock()
            functions[which]()
            seconds[turn, which] = clock() - start
    return seconds


def ratio(seconds: np.ndarray, above: int, below: int) -> float:
    """Return the median over the turns of one function's time divided by another's."""
    return float(np.median(seconds[:, above] / seconds[:, below]))
