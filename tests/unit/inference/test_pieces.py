"""However hits are cut, put back and delivered, each comes once and in its place."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from protosonic.inference.dispatcher import Dispatcher
from protosonic.inference.endpoint_options import EndpointOptions
from protosonic.inference.hits import PatchBatch
from protosonic.inference.pieces import Piece, PieceQueue, ScoreCollector

Numbers = NDArray[np.float32]


def hits(first: int, n: int) -> PatchBatch:
    """Patches that carry the numbers of their hits; one pixel is enough for that."""
    return PatchBatch(np.arange(first, first + n, dtype=np.float32).reshape(n, 1, 1))


def scores_of(piece: Piece) -> Numbers:
    return np.repeat(piece.hits.patches()[:, :, 0], 4, axis=1)


def numbers(piece: Piece) -> list[int]:
    return [int(number) for number in piece.hits.patches().ravel()]


def queue_of(*sizes: int) -> PieceQueue:
    queue, first = PieceQueue(), 0
    for n in sizes:
        queue.append(Piece(first, hits(first, n)))
        first += n
    return queue


def test_pieces_are_taken_from_both_ends_in_the_size_that_is_asked_for() -> None:
    queue = queue_of(5, 5)
    assert numbers(queue.take_first(3)) == [0, 1, 2]
    assert numbers(queue.take_last(4)) == [6, 7, 8, 9]
    assert numbers(queue.take_first(3)) == [3, 4]
    assert numbers(queue.take_last(3)) == [5]
    assert len(queue) == 0


@pytest.mark.parametrize("take", [PieceQueue.take_first, PieceQueue.take_last])
def test_a_piece_that_is_small_enough_is_given_whole(take) -> None:
    queue = PieceQueue()
    piece = Piece(0, hits(0, 4))
    queue.append(piece)
    assert take(queue, 4) is piece


def test_what_is_put_back_is_next() -> None:
    queue = queue_of(4, 4)
    piece = queue.take_first(4)
    queue.put_back(piece)
    assert numbers(queue.take_first(2)) == [0, 1]
    assert numbers(queue.take_first(9)) == [2, 3]


def test_parts_inherit_how_often_their_piece_failed() -> None:
    queue = PieceQueue()
    queue.append(Piece(10, hits(10, 6), tries=2))
    parts = [queue.take_first(2), queue.take_last(2), queue.take_first(9)]
    assert [(part.first, part.tries) for part in parts] == [(10, 2), (14, 2), (12, 2)]


@pytest.mark.parametrize("size", [1, 3, 7, 10])
def test_second_attempts_stand_for_the_whole_piece(size: int) -> None:
    piece = Piece(20, hits(20, 7))
    parts = list(piece.attempt_again(size))
    assert parts == piece.parts
    assert [number for part in parts for number in numbers(part)] == numbers(piece)
    assert all(part.is_needed for part in parts)
    piece.is_done = True
    assert not any(part.is_needed for part in [piece, *parts])


def test_a_part_that_is_done_leaves_the_others_needed() -> None:
    piece = Piece(0, hits(0, 6))
    first, second = piece.attempt_again(3)
    first.is_done = True
    assert (first.is_needed, second.is_needed, piece.is_needed) == (False, True, True)


def test_scores_come_out_as_soon_as_all_before_them_are_there() -> None:
    collector = ScoreCollector()
    collector.add(3, scores_of(Piece(3, hits(3, 2))), "triton")
    assert list(collector.take()) == []
    collector.add(0, scores_of(Piece(0, hits(0, 3))), "onnxruntime")
    taken = list(collector.take())
    assert [backend for _, backend in taken] == ["onnxruntime", "triton"]
    assert np.concatenate([scores for scores, _ in taken])[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert list(collector.take()) == []


@pytest.mark.parametrize("is_taken", [False, True])
def test_scores_that_are_there_already_are_a_mistake(is_taken: bool) -> None:
    collector = ScoreCollector()
    collector.add(0, np.zeros((2, 4), np.float32), "triton")
    if is_taken:
        list(collector.take())
    with pytest.raises(AssertionError, match="hits were scored twice"):
        collector.add(0, np.zeros((2, 4), np.float32), "triton")


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.data(),
)
def test_every_hit_is_scored_once_and_in_order_whatever_is_cut_and_put_back(
    sizes: list[int], data: st.DataObject
) -> None:
    """Takers at both ends, in any size; some pieces fail and are put back, the others come in any order."""
    queue, collector = queue_of(*sizes), ScoreCollector()
    under_way: list[Piece] = []
    delivered: Counter[int] = Counter()
    out: list[float] = []
    while len(queue) or under_way:
        steps = ["first", "last"] if len(queue) else []
        steps += ["deliver", "fail"] if under_way else []
        step = data.draw(st.sampled_from(steps))
        if step in {"first", "last"}:
            take = queue.take_first if step == "first" else queue.take_last
            most = data.draw(st.integers(1, 50))
            under_way.append(take(most))
            assert 0 < len(under_way[-1]) <= most
            continue
        piece = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
        if step == "fail" and piece.tries < 2:
            piece.tries += 1
            queue.put_back(piece)
            continue
        delivered.update(numbers(piece))
        collector.add(piece.first, scores_of(piece), "triton")
        out += [number for scores, _ in collector.take() for number in scores[:, 0].tolist()]
        assert out == list(range(len(out)))
    assert delivered == Counter(range(sum(sizes)))
    assert out == list(range(sum(sizes)))


@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_of_a_race_between_a_piece_and_its_second_attempts_each_hit_counts_once(
    n: int, size: int, data: st.DataObject
) -> None:
    dispatcher = Dispatcher("endpoint-only", [EndpointOptions("grpc://127.0.0.1:1")], None)
    piece = Piece(0, hits(0, n))
    racers = data.draw(st.permutations([piece, *piece.attempt_again(size)]))
    for racer in racers:
        dispatcher.deliver(racer, scores_of(racer), "triton" if racer is piece else "onnxruntime")
    chunks = dispatcher.take()
    dispatcher.close()
    assert np.concatenate([scores for scores, _ in chunks])[:, 0].tolist() == list(range(n))
    backends = {backend for _, backends in chunks for backend in backends}
    assert backends == {"onnxruntime" if racers[-1] is piece else "triton"}
