"""The client library: four steps, and the pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import protosonic.inference
from integration.faults.scripted_server import ScriptedServer
from integration.serving import sparse_patches
from protosonic.errors import DataError
from protosonic.inference import SCORE_NAMES, Client, EndpointOptions
from support.clients import Gate, assert_scores_equal, options_for

Patches = NDArray[np.float32]
SIZES = (3, 0, 50, 1, 7, 120)


def test_four_steps_give_the_scores_of_the_model(
    server: ScriptedServer, model: Path, score: Callable[[Patches], Patches]
) -> None:
    patches = sparse_patches(30)
    with Client(options_for(server), model) as client:
        prepared = client.prepare(patches)
        pending = client.send(prepared)
        scores = pending.retrieve()
    assert_scores_equal(scores, score(patches))
    assert scores.shape == (30, len(SCORE_NAMES))
    assert len(prepared) == len(pending) == 30


def test_prepared_patches_are_a_copy_and_can_be_sent_again(
    client: Client, score: Callable[[Patches], Patches]
) -> None:
    patches = sparse_patches(5)
    expected = score(patches)
    prepared = client.prepare(patches)
    patches[:] = 0
    assert_scores_equal(client.send(prepared).retrieve(), expected)
    assert_scores_equal(client.send(prepared).retrieve(), expected)


def test_scores_are_retrieved_in_any_order_and_any_number_of_times(
    client: Client, score: Callable[[Patches], Patches]
) -> None:
    batches = [sparse_patches(n, seed) for seed, n in enumerate(SIZES)]
    pending = [client.send(client.prepare(batch)) for batch in batches]
    for one, batch in reversed(list(zip(pending, batches, strict=True))):
        assert_scores_equal(one.retrieve(), score(batch))
        assert one.retrieve() is one.retrieve()


def test_sending_does_not_wait_for_the_scores(server: ScriptedServer, client: Client) -> None:
    client.infer(sparse_patches(1))
    gate = Gate()
    server.reply("ModelInfer", gate)
    pending = client.send(client.prepare(sparse_patches(2)))
    assert not pending.is_done
    gate.open.set()
    pending.retrieve()
    assert pending.is_done


@pytest.mark.parametrize("n", [0, 1, 18, 19, 500])
def test_any_number_of_patches_is_cut_into_requests_that_the_endpoint_takes(
    server: ScriptedServer, client: Client, score: Callable[[Patches], Patches], n: int
) -> None:
    patches = sparse_patches(n, seed=n)
    assert_scores_equal(client.infer(patches), score(patches) if n else np.empty((0, 4), np.float32))
    assert max((call.patches for call in server.received("ModelInfer")), default=0) <= 20
    assert client.statistics.patches == n


def test_an_endpoint_that_takes_less_than_asked_for_gets_less(
    model: Path, score: Callable[[Patches], Patches]
) -> None:
    patches = sparse_patches(40)
    with (
        ScriptedServer(model, max_batch_size=5) as server,
        Client(EndpointOptions(server.url), model) as client,
    ):
        assert_scores_equal(client.infer(patches), score(patches))
        assert max(call.patches for call in server.received("ModelInfer")) == 5


def test_numbers_of_other_types_are_taken(client: Client, score: Callable[[Patches], Patches]) -> None:
    patches = sparse_patches(3)
    assert_scores_equal(client.infer(patches.astype(np.float64)), score(patches))


@pytest.mark.parametrize("shape", [(48, 48), (2, 48, 48, 1), (2, 44, 48), (0,)])
def test_patches_of_another_shape_are_refused(client: Client, shape: tuple[int, ...]) -> None:
    patches = np.zeros(shape, np.float32)
    for use in (client.prepare, client.infer, lambda patches: next(client.stream([patches]))):
        with pytest.raises(ValueError, match=r"must have the shape \[n, 48, 48\]"):
            use(patches)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_finite_is_not_sent(server: ScriptedServer, client: Client, value: float) -> None:
    patches = sparse_patches(5)
    patches[3, 47, 0] = value
    with pytest.raises(DataError, match=r"patch 3: 1 of 5 patches have a pixel that is not finite") as caught:
        client.infer(patches)
    assert caught.value.code == "not-finite"
    assert server.received("ModelInfer") == []


def test_a_stream_gives_the_scores_of_every_batch_in_order(
    client: Client, score: Callable[[Patches], Patches]
) -> None:
    batches = [sparse_patches(n, seed) for seed, n in enumerate(SIZES)]
    found = list(client.stream(iter(batches)))
    assert [len(scores) for scores in found] == list(SIZES)
    for scores, batch in zip(found, batches, strict=True):
        assert_scores_equal(scores, score(batch) if len(batch) else np.empty((0, 4), np.float32))


def test_an_array_may_be_filled_anew_for_the_next_batch(
    client: Client, score: Callable[[Patches], Patches]
) -> None:
    array = np.empty((10, 48, 48), np.float32)

    def batches() -> Iterator[Patches]:
        for seed in range(20):
            array[:] = sparse_patches(10, seed)
            yield array

    for seed, scores in enumerate(client.stream(batches())):
        assert_scores_equal(scores, score(sparse_patches(10, seed)))


def test_a_stream_overlaps_and_holds_a_bounded_number_of_batches(server: ScriptedServer, model: Path) -> None:
    """The server answers nothing: batches are taken until as much is under way as may be."""
    with Client(options_for(server, max_in_flight=3), model) as client:
        client.infer(sparse_patches(1))
        gate = Gate()
        server.reply("ModelInfer", gate)
        taken: list[int] = []
        is_full = threading.Event()

        def batches() -> Iterator[Patches]:
            for number in range(50):
                taken.append(number)
                yield sparse_patches(18, number)

        waits = client._receive

        def receive(condition: Callable[[], bool]) -> None:
            if not condition():
                is_full.set()
            waits(condition)

        client._receive = receive  # type: ignore[method-assign]
        found: list[Patches] = []
        thread = threading.Thread(target=lambda: found.extend(client.stream(batches())))
        thread.start()
        assert is_full.wait(60)
        held = len(taken)
        gate.open.set()
        thread.join(60)
    assert 3 <= held <= 8
    assert len(found) == 50
    assert max(len(call) for call in found) == 18


def test_a_stream_that_is_left_does_not_disturb_what_comes_next(
    client: Client, score: Callable[[Patches], Patches]
) -> None:
    stream = client.stream(sparse_patches(30, seed) for seed in range(50))
    next(stream)
    stream.close()
    patches = sparse_patches(9, seed=99)
    assert_scores_equal(client.infer(patches), score(patches))


def test_threads_share_a_client(client: Client, score: Callable[[Patches], Patches]) -> None:
    wrong: list[int] = []

    def use(seed: int) -> None:
        for n in (1, 30, 5):
            patches = sparse_patches(n, 100 * seed + n)
            if not np.allclose(client.infer(patches), score(patches), rtol=0, atol=1e-6):
                wrong.append(seed)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_a_description_says_what_is_served(server: ScriptedServer, client: Client) -> None:
    served = client.describe()
    assert served.version == "1"
    assert served.max_batch_size == 1024
    assert served.tensors.input == "main_input"
    assert served.deviation == 0
    assert len(server.received("ModelInfer")) == 1


def test_nothing_is_connected_before_it_is_needed(server: ScriptedServer, model: Path) -> None:
    with Client(options_for(server), model) as client:
        client.prepare(sparse_patches(2))
    assert server.calls == []


def test_the_package_exports_lazily() -> None:
    assert protosonic.inference.Client is Client
    assert set(protosonic.inference.__all__) == {
        "SCORE_NAMES",
        "Client",
        "EndpointOptions",
        "HitsOnImage",
        "ImageBatch",
    }
    assert protosonic.inference.ImageBatch([]).images() == ()
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        _ = protosonic.inference.Missing
