"""A gallery in memory, so that a process that searches often compares vectors itself, exactly, and knows what
it finds.

A vector that was read once is never read again. Each has a stamp, a random number that is drawn when it is
written and stays when the database moves the row. After a change, `VectorMemory.refresh` reads all rows'
stamps, 8 bytes each, and the vectors of the stamps that are new. What else a row says belongs to its number:
the database never changes a row, but writes another one. `RowMemory` therefore reads rows with new numbers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Vectors of one block. Blocks are filled one after the other and never moved, so memory grows by a block.
BLOCK = 16_384
#: Space of vectors that are gone is reused once they are this share of all.
_WASTED = 0.25
#: So many pieces of columns are put together.
_MOST_PIECES = 32


@dataclass(frozen=True)
class Kept:
    """What a table held at one version.

    Attributes:
        blocks: (BLOCK, D) float32 each; later versions only add vectors behind the ones in use here.
        rows: (N,) int64: the row of each vector in use, −1 where it is gone.
    """

    blocks: tuple[np.ndarray, ...]
    rows: np.ndarray

    def best(
        self, vector: np.ndarray, top: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the `top` vectors with the largest inner product, and the products, best first.

        Args:
            vector: (D,) float32.
            top: How many.
            allowed: Look only among these rows, int64 in ascending order; None for all.
        """
        scores = np.empty(len(self.rows), np.float32)
        for number, block in enumerate(self.blocks):
            part = scores[number * BLOCK : (number + 1) * BLOCK]
            np.matmul(block[: len(part)], vector, out=part)
        usable = self.rows >= 0
        if allowed is not None and len(allowed):
            at = np.minimum(np.searchsorted(allowed, self.rows), len(allowed) - 1)
            usable = allowed[at] == self.rows
        elif allowed is not None:
            usable[:] = False
        scores[~usable] = -np.inf
        top = min(top, int(usable.sum()))
        best = np.argpartition(-scores, top - 1)[:top] if top else np.empty(0, np.int64)
        best = best[np.lexsort((self.rows[best], -scores[best]))]
        return self.rows[best], scores[best]


class VectorMemory:
    """Vectors by their stamps. One thread at a time may refresh it; a `Kept` may be used by many.

    Args:
        dimension: D.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._blocks: list[np.ndarray] = []
        self._stamps = np.empty(0, np.int64)  # of every vector in the blocks, in their order

    def refresh(
        self,
        stamps: np.ndarray,
        rows: np.ndarray,
        read: Callable[[np.ndarray], Iterable[tuple[np.ndarray, np.ndarray]]],
    ) -> Kept:
        """Bring the memory to a version of the table.

        Args:
            stamps: (N,) int64 of all its rows.
            rows: (N,) int64, the rows' numbers.
            read: Gives, in pieces, the stamps (M,) and vectors (M, D) of the rows with these numbers.
        """
        order = np.argsort(self._stamps, kind="stable")
        at = _places(self._stamps, order, stamps)
        wanted = rows[at < 0]
        gone = len(self._stamps) - (len(rows) - len(wanted))
        if gone > max(BLOCK, _WASTED * len(self._stamps)):
            self._compact(np.sort(at[at >= 0]))
        for new, vectors in read(wanted) if len(wanted) else ():
            self._append(new, vectors)
        at = _places(self._stamps, np.argsort(self._stamps, kind="stable"), stamps)
        found = np.full(len(self._stamps), -1, np.int64)
        found[at[at >= 0]] = rows[at >= 0]
        return Kept(tuple(self._blocks), found)

    def _append(self, stamps: np.ndarray, vectors: np.ndarray) -> None:
        used = len(self._stamps)
        done = 0
        while done < len(vectors):
            number, start = divmod(used + done, BLOCK)
            if number == len(self._blocks):
                self._blocks.append(np.empty((BLOCK, self.dimension), np.float32))
            size = min(BLOCK - start, len(vectors) - done)
            self._blocks[number][start : start + size] = vectors[done : done + size]
            done += size
        self._stamps = np.concatenate([self._stamps, stamps])

    def _compact(self, used: np.ndarray) -> None:
        """Keep only the vectors at these places. Blocks in use elsewhere stay as they are."""
        old, stamps = self._blocks, self._stamps
        self._blocks, self._stamps = [], np.empty(0, np.int64)
        for start in range(0, len(used), BLOCK):
            places = used[start : start + BLOCK]
            self._append(stamps[places], np.stack([old[place // BLOCK][place % BLOCK] for place in places]))


@dataclass(frozen=True)
class KeptRows:
    """Columns of rows.

    Attributes:
        table: An Arrow table.
        known: (N,) int64, ascending: the numbers of its rows.
        places: (N,) int64: where each of them is in `table`.
    """

    table: Any
    known: np.ndarray
    places: np.ndarray

    def take(self, rows: np.ndarray) -> Any:
        """These rows as an Arrow table, in their order. All of them are there."""
        return self.table.take(self.places[np.searchsorted(self.known, rows)])


class RowMemory:
    """Columns of a table's rows by the rows' numbers. One thread at a time may refresh it.

    The columns lie in pieces, one for each refresh, and are put together when there are many pieces or much
    of them is gone.
    """

    def __init__(self) -> None:
        self._pieces: list[Any] = []
        self._numbers = np.empty(0, np.int64)  # of every row in the pieces, in their order

    def refresh(self, rows: np.ndarray, read: Callable[[np.ndarray], Any]) -> KeptRows:
        """Bring the memory to a version of the table.

        Args:
            rows: (N,) int64, the numbers of all its rows.
            read: Gives the rows with these numbers, ascending, as an Arrow table in their order.
        """
        import pyarrow as pa

        wanted = np.setdiff1d(rows, self._numbers)
        if len(wanted) or not self._pieces:
            self._pieces.append(read(wanted))
            self._numbers = np.concatenate([self._numbers, wanted])
        table = pa.concat_tables(self._pieces)
        gone = len(self._numbers) - len(rows)
        if len(self._pieces) > _MOST_PIECES or gone > max(BLOCK, _WASTED * len(self._numbers)):
            used = np.flatnonzero(np.isin(self._numbers, rows))
            table, self._numbers = table.take(used).combine_chunks(), self._numbers[used]
            self._pieces = [table]
        order = np.argsort(self._numbers)
        return KeptRows(table, self._numbers[order], order)


def _places(known: np.ndarray, order: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each wanted stamp is among the known ones, −1 where it is not; `order` sorts the known ones."""
    if not len(known):
        return np.full(len(wanted), -1, np.int64)
    ranked = known[order]
    at = np.minimum(np.searchsorted(ranked, wanted), len(known) - 1)
    return np.where(ranked[at] == wanted, order[at], -1)
