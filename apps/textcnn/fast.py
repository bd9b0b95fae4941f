"""Prediction without a convolution: the answer of a filter is a sum of table rows.

A filter of width k answers `b + sum over j of W_j . e(i + j)` at word i, so with the tables
`T_j = E @ W_j`, made once, a window costs k look-ups and additions, whatever the length of the
vectors. All windows that touch a text are tried, and one of padding alone; padding of any length
gives the same, so the result is that of the Keras network up to rounding.
"""

from collections.abc import Sequence

import numpy as np

from shared.parallel import kernel, over_rows

from .model import Parameters

LARGEST_TABLE = 512 * 2**20
"""Bytes up to which the rows of all words are kept; above, each call makes those that it needs."""


class TableNetwork:
    """A trained network as tables.

    Args:
        parameters: Of `model.parameters`.
        workers: Threads; all cores unless given.
        largest_table: See `LARGEST_TABLE`.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        workers: int | None = None,
        largest_table: int = LARGEST_TABLE,
    ):
        self.parameters, self.workers = parameters, workers
        self._widths = np.array(parameters.widths, np.int64)
        self._maps = len(parameters.biases[0])
        self._bias = np.concatenate(parameters.biases)
        # (d, offsets x maps): the offsets of the first width, then those of the second, …
        self._matrix = np.concatenate(
            [row for one in parameters.kernels for row in one], axis=1
        ).astype(np.float32)
        rows, columns = len(parameters.table), self._matrix.shape[1]
        self._keeps = 4 * rows * columns <= largest_table
        if self._keeps:
            # Pages of memory that no word of any text touches are never taken from the system.
            self._table = np.empty((rows, columns), np.float32)
            self._known = np.zeros(rows, bool)

    def logits(self, ids: Sequence[np.ndarray]) -> np.ndarray:
        """Return the logits `(n, K)`, float32.

        Args:
            ids: Word numbers of each of n texts, without padding.
        """
        return self.parameters.logits(self.largest(ids))

    def largest(self, ids: Sequence[np.ndarray]) -> np.ndarray:
        """Return the largest sum of each filter over time `(n, features)`, before activation."""
        out = np.empty((len(ids), len(self._bias)), np.float32)
        if not len(ids):
            return out
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        ends = np.cumsum(lengths)
        flat = np.concatenate(ids).astype(np.int64, copy=False)
        table, flat = self._rows(flat)

        def band(first: int, end: int) -> None:
            _largest(table, flat, ends - lengths, ends, self._widths, self._maps, out, first, end)

        over_rows(band, len(ids), self.workers)
        out += self._bias
        return out

    def _rows(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a table that holds the rows of all words, and the words' places in it."""
        if not self._keeps:
            unique, flat = np.unique(flat, return_inverse=True)
            return self.parameters.table[unique] @ self._matrix, flat
        new = flat[~self._known[flat]]
        if len(new):
            # Two threads may both fill a row, with the same values.
            new = np.unique(new)
            self._table[new] = self.parameters.table[new] @ self._matrix
            self._known[new] = True
        return self._table, flat


@kernel
def _largest(table, flat, starts, ends, widths, maps, out, first, end):
    """Write the largest window sums, without bias, of the texts `first` to `end`.

    Goes from word to word, since the table row of a word is one piece of memory; `open_sums` holds
    the sums of the windows that a filter has begun and not ended.
    """
    widest = widths.max()
    open_sums = np.zeros((len(widths), widest, maps), np.float32)
    for text in range(first, end):
        start, stop = starts[text], ends[text]
        out[text] = 0  # the window of padding alone
        for place in range(start, stop + widest - 1):
            column = 0
            for number in range(len(widths)):
                width = widths[number]
                if place < stop:
                    word = flat[place]
                    for offset in range(width):
                        # The word is number `offset` of the window that begins so far before it.
                        total = open_sums[number, (place - start - offset + width) % width]
                        row = table[word, column + offset * maps : column + (offset + 1) * maps]
                        for i in range(maps):
                            total[i] += row[i]
                if place < stop + width - 1:
                    total = open_sums[number, (place - start + 1) % width]
                    best = out[text, number * maps : (number + 1) * maps]
                    for i in range(maps):
                        best[i] = total[i] if total[i] > best[i] else best[i]
                        total[i] = 0
                column += width * maps
