"""Which backend scores a batch, and how batches are prepared ahead; with fake backends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from protosonic.errors import ConfigError, ModelError, ServiceError
from protosonic.inference.dispatcher import Dispatcher, Fallback, Policy, prefetch

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
    ) -> None:
        self.name = name
        self.batch_size = batch_size
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
    scores, name = dispatcher.infer(PATCHES)
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
    dispatcher.infer(PATCHES)
    dispatcher.infer(PATCHES)
    assert calls == ["endpoint"]


def test_cpu_only_never_asks_an_endpoint() -> None:
    dispatcher = Dispatcher("cpu-only", [forbidden], cpu)
    assert dispatcher.infer(PATCHES)[1] == "onnxruntime"


@pytest.mark.parametrize("error", [ServiceError("it has died"), ModelError("a score is not finite")])
def test_a_batch_that_fails_goes_whole_to_the_next_endpoint_and_then_to_the_cpu(error: Exception) -> None:
    first, second = endpoint(1, batches=2, error=error), endpoint(2, batches=1, error=error)
    dispatcher = Dispatcher("endpoint-first", [lambda: first, lambda: second], cpu)
    answers = [dispatcher.infer(PATCHES) for _ in range(5)]
    assert [scores[:, 0].tolist() for scores, _ in answers] == [[mark] * 3 for mark in (1, 1, 2, 0, 0)]
    assert [name for _, name in answers] == ["triton"] * 3 + ["onnxruntime"] * 2
    assert dispatcher.fallbacks == [Fallback(6, str(error)), Fallback(9, str(error))]
    assert [backend.name for backend in dispatcher.used] == ["triton", "triton", "onnxruntime"]


def test_an_endpoint_that_was_given_up_is_not_asked_again() -> None:
    first = endpoint(1, batches=0)
    dispatcher = Dispatcher("endpoint-first", [lambda: first], cpu)
    for _ in range(3):
        dispatcher.infer(PATCHES)
    assert len(dispatcher.fallbacks) == 1


def test_endpoint_only_names_every_endpoint_when_none_is_left() -> None:
    dying = endpoint(1, batches=1)
    dispatcher = Dispatcher("endpoint-only", [unreachable("first"), lambda: dying], forbidden)
    dispatcher.infer(PATCHES)
    for _ in range(2):
        with pytest.raises(ServiceError, match="endpoint-only forbids the CPU") as caught:
            dispatcher.infer(PATCHES)
        assert "first: it cannot be reached; triton: it has died" in str(caught.value)


def test_an_error_of_the_cpu_is_final() -> None:
    dispatcher = Dispatcher(
        "endpoint-first",
        [unreachable("first")],
        lambda: cpu(batches=0, error=ModelError("a score is not finite")),
    )
    with pytest.raises(ModelError, match="not finite"):
        dispatcher.infer(PATCHES)
    assert len(dispatcher.fallbacks) == 1


def test_a_bug_in_a_backend_is_no_reason_to_fall_back() -> None:
    dispatcher = Dispatcher(
        "endpoint-first", [lambda: endpoint(1, batches=0, error=KeyError("bug"))], forbidden
    )
    with pytest.raises(KeyError):
        dispatcher.infer(PATCHES)


def test_the_batch_size_is_that_of_the_present_backend() -> None:
    dispatcher = Dispatcher(
        "endpoint-first", [lambda: endpoint(1, batches=0, batch_size=1024)], lambda: cpu(batch_size=128)
    )
    assert dispatcher.batch_size == 1024
    dispatcher.infer(PATCHES)
    assert dispatcher.batch_size == 128


def test_closing_closes_every_backend_that_was_connected() -> None:
    first, second = endpoint(1, batches=0), cpu()
    dispatcher = Dispatcher("endpoint-first", [unreachable("other"), lambda: first], lambda: second)
    dispatcher.infer(PATCHES)
    dispatcher.close()
    assert (first.closed, second.closed) == (1, 1)


def prefetching() -> Sequence[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 50])
def test_prefetch_gives_every_item_in_order(n: int) -> None:
    assert list(prefetch(range(n))) == list(range(n))
    assert prefetching() == []


def test_prefetch_gives_items_that_are_none() -> None:
    assert list(prefetch([None, 1, None])) == [None, 1, None]


def test_prefetch_makes_the_next_item_while_the_present_one_is_used() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    iterator = prefetch(items(), depth=2)
    assert next(iterator) == 0
    # Two wait and one is in the thread's hands.
    assert [event.wait(60) for event in made] == [True] * 4
    assert list(iterator) == [1, 2, 3]


def test_prefetch_holds_no_more_items_than_its_depth() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    for number in prefetch(items(), depth=2):
        # Used, waiting, and in the thread's hands.
        assert len(made) <= number + 1 + 2 + 1


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_an_error_in_the_thread_comes_where_its_item_would_have(error: BaseException) -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    iterator = prefetch(items())
    assert [next(iterator), next(iterator)] == [1, 2]
    with pytest.raises(type(error)) as caught:
        next(iterator)
    assert caught.value is error
    assert prefetching() == []


def test_leaving_early_ends_the_thread_and_makes_no_more_items() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        while True:
            made.append(len(made))
            yield made[-1]

    iterator = prefetch(items())
    assert next(iterator) == 0
    iterator.close()
    assert prefetching() == []
    count = len(made)
    assert count <= 5
    assert list(iterator) == []
    assert len(made) == count


def test_an_error_of_whoever_uses_the_items_ends_the_thread() -> None:
    iterator = prefetch(iter(int, 1))
    with pytest.raises(ServiceError):
        use(iterator)
    iterator.close()
    assert prefetching() == []


def use(items: Iterator[int]) -> None:
    for _ in items:
        raise ServiceError("no endpoint can serve")
