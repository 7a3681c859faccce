"""The hits of a job on their way: those that wait, and the scores that have come, each hit once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protosonic.inference.contract import SCORE_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from protosonic.inference.hits import HitBatch

__all__ = ["Piece", "PieceQueue", "ScoreCollector"]


@dataclass(eq=False)
class Piece:
    """Consecutive hits that are scored together.

    Attributes
    ----------
    first
        Number of the first hit, counted from the beginning of the job.
    hits
        The hits.
    tries
        How often it was sent to an endpoint in vain.
    is_done
        Whether its hits have scores; what comes later is discarded.
    whole
        The piece that this one is a second attempt at a part of.
    parts
        The second attempts at this piece.
    """

    first: int
    hits: HitBatch
    tries: int = 0
    is_done: bool = False
    whole: Piece | None = None
    parts: list[Piece] = field(default_factory=list)
    scores: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.hits)

    @property
    def is_needed(self) -> bool:
        """Whether scores are still wanted."""
        return not self.is_done and (self.whole is None or not self.whole.is_done)

    def cut(self, first: int, n: int) -> Piece:
        """Give the `n` hits from the `first` of this piece on as a piece."""
        return Piece(self.first + first, self.hits.cut(first, n), self.tries)

    def attempt_again(self, size: int) -> Iterator[Piece]:
        """Cut the piece into second attempts of `size` hits; together they stand for it."""
        for first in range(0, len(self), size):
            part = self.cut(first, size)
            part.whole = self
            self.parts.append(part)
            yield part


class PieceQueue:
    """Pieces that wait, in the order of their hits; taken from both ends, in sizes that the taker chooses."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()

    def __len__(self) -> int:
        return len(self._pieces)

    def append(self, piece: Piece) -> None:
        """Add a piece at the end."""
        self._pieces.append(piece)

    def put_back(self, piece: Piece) -> None:
        """Put a piece back to the front, so that it is taken next."""
        self._pieces.appendleft(piece)

    def take_first(self, most: int) -> Piece:
        """Take the first hits, at most so many."""
        piece = self._pieces.popleft()
        if len(piece) <= most:
            return piece
        self._pieces.appendleft(piece.cut(most, len(piece) - most))
        return piece.cut(0, most)

    def take_last(self, most: int) -> Piece:
        """Take the last hits, at most so many."""
        piece = self._pieces.pop()
        if len(piece) <= most:
            return piece
        rest = len(piece) - most
        self._pieces.append(piece.cut(0, rest))
        return piece.cut(rest, most)


class ScoreCollector:
    """Puts the scores of pieces into the order of the hits."""

    def __init__(self) -> None:
        self._next = 0
        self._waiting: dict[int, tuple[NDArray[np.float32], str]] = {}

    def add(self, first: int, scores: NDArray[np.float32], backend: str) -> None:
        """Add scores, float32 [n, 4], of the hits from `first` on.

        Raises
        ------
        AssertionError
            They were there already; whoever adds makes sure that this cannot happen.
        """
        assert first >= self._next, "hits were scored twice"
        assert first not in self._waiting, "hits were scored twice"
        assert scores.shape[1] == len(SCORE_NAMES)
        self._waiting[first] = (scores, backend)

    def take(self) -> Iterator[tuple[NDArray[np.float32], str]]:
        """Take the scores that are next in order, as far as they are there."""
        while (entry := self._waiting.pop(self._next, None)) is not None:
            self._next += len(entry[0])
            yield entry
