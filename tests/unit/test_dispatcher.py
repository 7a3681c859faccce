"""Which backend scores a batch, and how batches are kept under way; with fake backends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from protosonic.errors import ConfigError, ModelError, ServiceError
from protosonic.inference.dispatcher import Dispatcher, Fallback, Policy
from support.scoring import score_batch

Patches = NDArray[np.float32]
PATCHES = np.zeros((3, 48, 48), np.float32)


class FakeBackend:
    """Gives every patch its own mark as scores, until it fails.

    Parameters
    ----------
    name
        Name of the backend.
    mark
        The score that it gives.
    batches
        Batches that it scores before it fails; all by default.
    error
        How it fails.
    """

    def __init__(
        self,
        name: str,
        mark: float,
        *,
        batches: int = 1000,
        error: Exception | None = None,
        batch_size: int = 3,
        concurrency: int = 1,
    ) -> None:
        self.name = name
        self.batch_size = batch_size
        self.concurrency = concurrency
        self.closed = 0
        self.batches = 0
        self._mark = mark
        self._last = batches
        self._error = error or ServiceError("it has died", file=name)

    def infer(self, patches: Patches) -> Patches:
        if self.batches == self._last:
            raise self._error
        self.batches += 1
        return np.full((len(patches), 4), self._mark, np.float32)

    def close(self) -> None:
        self.closed += 1


def cpu(mark: float = 0, **options: object) -> FakeBackend:
    return FakeBackend("onnxruntime", mark, **options)


def endpoint(mark: float, **options: object) -> FakeBackend:
    return FakeBackend("triton", mark, **options)


def unreachable(name: str) -> Callable[[], FakeBackend]:
    def connect() -> FakeBackend:
        raise ServiceError("it cannot be reached", file=name)

    return connect


def forbidden() -> FakeBackend:
    pytest.fail("this backend must not be asked")


def connections(names: str) -> list[Callable[[], FakeBackend]]:
    """``-`` stands for an endpoint that cannot be reached, a digit for one that serves with it as mark."""
    return [
        unreachable(f"endpoint {index}") if name == "-" else lambda mark=float(name): endpoint(mark)
        for index, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("policy", "endpoints", "mark", "backend", "given_up"),
    [
        ("endpoint-first", "1", 1, "triton", 0),
        ("endpoint-first", "12", 1, "triton", 0),
        ("endpoint-first", "-2", 2, "triton", 1),
        ("endpoint-first", "-", 0, "onnxruntime", 1),
        ("endpoint-first", "--", 0, "onnxruntime", 2),
        ("endpoint-only", "1", 1, "triton", 0),
        ("endpoint-only", "--3", 3, "triton", 2),
        ("cpu-only", "1", 0, "onnxruntime", 0),
        ("cpu-only", "-", 0, "onnxruntime", 0),
        ("cpu-only", "", 0, "onnxruntime", 0),
    ],
)
def test_the_policy_chooses_the_backend(
    policy: Policy, endpoints: str, mark: float, backend: str, given_up: int
) -> None:
    dispatcher = Dispatcher(policy, connections(endpoints), cpu)
    scores, name = score_batch(dispatcher, PATCHES)
    assert scores.tolist() == [[mark] * 4] * 3
    assert name == backend
    assert dispatcher.fallbacks == [
        Fallback(0, f"endpoint {index}: it cannot be reached") for index in range(given_up)
    ]


@pytest.mark.parametrize(("policy", "endpoints"), [("endpoint-first", ""), ("endpoint-only", "")])
def test_a_policy_that_needs_an_endpoint_refuses_to_be_without(policy: Policy, endpoints: str) -> None:
    with pytest.raises(ConfigError, match=policy):
        Dispatcher(policy, connections(endpoints), cpu)


def test_nothing_is_connected_before_it_is_needed_and_then_once() -> None:
    calls: list[str] = []

    def connect() -> FakeBackend:
        calls.append("endpoint")
        return endpoint(1)

    dispatcher = Dispatcher("endpoint-first", [connect], forbidden)
    assert calls == []
    assert dispatcher.batch_size == 3
    score_batch(dispatcher, PATCHES)
    score_batch(dispatcher, PATCHES)
    assert calls == ["endpoint"]


def test_cpu_only_never_asks_an_endpoint() -> None:
    dispatcher = Dispatcher("cpu-only", [forbidden], cpu)
    assert score_batch(dispatcher, PATCHES)[1] == "onnxruntime"


@pytest.mark.parametrize("error", [ServiceError("it has died"), ModelError("a score is not finite")])
def test_a_batch_that_fails_goes_whole_to_the_next_endpoint_and_then_to_the_cpu(error: Exception) -> None:
    first, second = endpoint(1, batches=2, error=error), endpoint(2, batches=1, error=error)
    dispatcher = Dispatcher("endpoint-first", [lambda: first, lambda: second], cpu)
    answers = [score_batch(dispatcher, PATCHES) for _ in range(5)]
    assert [scores[:, 0].tolist() for scores, _ in answers] == [[mark] * 3 for mark in (1, 1, 2, 0, 0)]
    assert [name for _, name in answers] == ["triton"] * 3 + ["onnxruntime"] * 2
    assert dispatcher.fallbacks == [Fallback(6, str(error)), Fallback(9, str(error))]
    assert [backend.name for backend in dispatcher.used] == ["triton", "triton", "onnxruntime"]


def test_an_endpoint_that_was_given_up_is_not_asked_again() -> None:
    first = endpoint(1, batches=0)
    dispatcher = Dispatcher("endpoint-first", [lambda: first], cpu)
    for _ in range(3):
        score_batch(dispatcher, PATCHES)
    assert len(dispatcher.fallbacks) == 1


def test_endpoint_only_names_every_endpoint_when_none_is_left() -> None:
    dying = endpoint(1, batches=1)
    dispatcher = Dispatcher("endpoint-only", [unreachable("first"), lambda: dying], forbidden)
    score_batch(dispatcher, PATCHES)
    for _ in range(2):
        with pytest.raises(ServiceError, match="endpoint-only forbids the CPU") as caught:
            score_batch(dispatcher, PATCHES)
        assert "first: it cannot be reached; triton: it has died" in str(caught.value)


def test_an_error_of_the_cpu_is_final() -> None:
    dispatcher = Dispatcher(
        "endpoint-first",
        [unreachable("first")],
        lambda: cpu(batches=0, error=ModelError("a score is not finite")),
    )
    with pytest.raises(ModelError, match="not finite"):
        score_batch(dispatcher, PATCHES)
    assert len(dispatcher.fallbacks) == 1


def test_a_bug_in_a_backend_is_no_reason_to_fall_back() -> None:
    dispatcher = Dispatcher(
        "endpoint-first", [lambda: endpoint(1, batches=0, error=KeyError("bug"))], forbidden
    )
    with pytest.raises(KeyError):
        score_batch(dispatcher, PATCHES)


def test_the_batch_size_is_that_of_the_present_backend() -> None:
    dispatcher = Dispatcher(
        "endpoint-first", [lambda: endpoint(1, batches=0, batch_size=1024)], lambda: cpu(batch_size=128)
    )
    assert dispatcher.batch_size == 1024
    score_batch(dispatcher, PATCHES)
    assert dispatcher.batch_size == 128


def test_closing_closes_every_backend_that_was_connected() -> None:
    first, second = endpoint(1, batches=0), cpu()
    dispatcher = Dispatcher("endpoint-first", [unreachable("other"), lambda: first], lambda: second)
    score_batch(dispatcher, PATCHES)
    dispatcher.close()
    assert (first.closed, second.closed) == (1, 1)


def numbered(n: int) -> list[Patches]:
    """Batches of different lengths, filled with their number."""
    return [np.full((1 + number % 3, 48, 48), number, np.float32) for number in range(n)]


class Echo(FakeBackend):
    """Gives the first pixel of every patch as its scores; calls wait until as many are under way as it takes."""

    def __init__(self, name: str, concurrency: int, *, fails_at: frozenset[int] = frozenset()) -> None:
        super().__init__(name, 0, concurrency=concurrency)
        self.together = threading.Barrier(concurrency)
        self._fails_at = fails_at

    def infer(self, patches: Patches) -> Patches:
        self.together.wait(60)
        if patches[0, 0, 0] in self._fails_at:
            raise ServiceError(f"it has died at {patches[0, 0, 0]:.0f}", file=self.name)
        return np.repeat(patches[:, 0, :1], 4, axis=1)


@pytest.mark.parametrize("concurrency", [1, 2, 4])
def test_as_many_calls_as_the_backend_takes_are_under_way_and_answers_keep_the_order(
    concurrency: int,
) -> None:
    dispatcher = Dispatcher("cpu-only", [], lambda: Echo("onnxruntime", concurrency))
    batches = numbered(3 * concurrency)
    for batch, (scores, backends) in zip(batches, dispatcher.score(batches), strict=True):
        np.testing.assert_array_equal(scores, batch[:, 0, :4])
        assert backends.tolist() == ["onnxruntime"] * len(batch)
    dispatcher.close()


def test_batches_are_made_ahead_but_only_as_many_as_are_needed() -> None:
    made: list[int] = []

    def batches() -> Iterator[Patches]:
        for number, batch in enumerate(numbered(20)):
            made.append(number)
            yield batch

    dispatcher = Dispatcher("cpu-only", [], lambda: Echo("onnxruntime", 2))
    for number, _ in enumerate(dispatcher.score(batches())):
        assert min(number + 3, 20) <= len(made) <= number + 4
    assert len(made) == 20
    dispatcher.close()


def test_batches_that_fail_together_give_the_endpoint_up_once_and_are_all_scored() -> None:
    dispatcher = Dispatcher(
        "endpoint-first",
        [lambda: Echo("triton", 2, fails_at=frozenset({2, 3}))],
        lambda: Echo("onnxruntime", 1),
    )
    batches = numbered(9)
    found = list(dispatcher.score(batches))
    for batch, (scores, backends) in zip(batches, found, strict=True):
        np.testing.assert_array_equal(scores, batch[:, 0, :4])
        assert len(set(backends)) == 1
    assert [backends[0] for _, backends in found] == ["triton"] * 2 + ["onnxruntime"] * 2 + (
        [backends[0] for _, backends in found[4:]]
    )
    assert found[-1][1][0] == "onnxruntime"
    [fallback] = dispatcher.fallbacks
    assert "it has died at 2" in fallback.reason
    dispatcher.close()


def test_an_empty_batch_and_no_batch_are_scored() -> None:
    dispatcher = Dispatcher("cpu-only", [], cpu)
    [(scores, backends)] = dispatcher.score([PATCHES[:0]])
    assert scores.shape == (0, 4)
    assert backends.shape == (0,)
    assert list(dispatcher.score([])) == []
    dispatcher.close()


def test_closing_in_the_middle_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    dispatcher = Dispatcher("cpu-only", [], lambda: Echo("onnxruntime", 2))
    next(dispatcher.score(numbered(20)))
    dispatcher.close()
    assert set(threading.enumerate()) <= before


def test_an_error_while_a_batch_is_made_ends_the_scoring() -> None:
    def batches() -> Iterator[Patches]:
        yield PATCHES
        raise KeyError("broken")

    dispatcher = Dispatcher("cpu-only", [], cpu)
    with pytest.raises(KeyError, match="broken"):
        list(dispatcher.score(batches()))
    dispatcher.close()
