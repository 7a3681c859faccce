"""Many client processes at one Triton server: fairness, the queue, overload, and cooperation with the CPU.

The server is the genuine one with a model that takes a known time per patch without using the CPU, as a GPU would. The
peer of every figure is measured in the same run: plain requests at the best number under way, or the server with as
many clients as it can serve. Needs the test environment (`make test`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from common import report
from integration.faults.clients import (
    QueueWatch,
    best_by_hand,
    rate,
    run_clients,
    throttled_server,
    write_costly_model,
)
from support.models import linear_weights, write_linear_model

if TYPE_CHECKING:
    from integration.faults.clients import Share

MOST_QUEUED = 8
OVERLOADED: dict[str, dict[str, int]] = {
    "long queue": {},
    # A request that Triton refuses does not wake its batcher: one instance alone idles while its queue is full.
    "short queue": {"max_queue_size": MOST_QUEUED, "instances": 2},
}
"""Server → options."""


def row(what: str, shares: list[Share], seconds: float, queue: QueueWatch | None = None) -> dict[str, Any]:
    """Sum up what clients got."""
    hits = [share.hits for share in shares]
    return {
        "what": what,
        "clients": len(shares),
        "hits/s": round(sum(hits) / seconds),
        "slowest / fastest": min(hits) / max(hits),
        "refused": sum(share.overloads for share in shares),
        "other failures": sum(share.failures - share.overloads for share in shares),
        "hits on CPU": sum(share.on_cpu for share in shares),
        "longest queue": queue.longest if queue else float("nan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--capacity", type=float, default=3000.0, help="patches/s of the server")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_linear_model(folder / "linear.onnx", linear_weights())
        (folder / "shared").mkdir()
        with throttled_server(folder / "shared", model, options.capacity) as server:
            by_hand = best_by_hand(server.url, 5.0)
            with QueueWatch(server) as queue:
                shares = run_clients(options.clients, server.url, model, options.seconds)
            rows.append(row("shared", shares, options.seconds, queue))
        for queue_name, server_options in OVERLOADED.items():
            own = folder / queue_name.split()[0]
            own.mkdir()
            with throttled_server(own, model, options.capacity, **server_options) as server:
                for n in (MOST_QUEUED, 3 * MOST_QUEUED):
                    with QueueWatch(server) as queue:
                        shares = run_clients(n, server.url, model, options.seconds / 3)
                    rows.append(row(f"{queue_name}, {n}", shares, options.seconds / 3, queue))
        (folder / "slow").mkdir()
        costly = folder / "costly.onnx"
        write_costly_model(costly, model)
        with throttled_server(folder / "slow", model, options.capacity / 2) as server:
            rates = {
                policy: rate(policy, server.url, costly, int(options.seconds * 200))
                for policy in ("cpu-only", "endpoint-only", "cooperative")
            }
    together = rates["cooperative"]
    report(
        f"Clients at a server of {options.capacity:,.0f} patches/s",
        rows,
        options.json,
        by_hand=by_hand,
        # Two canaries go with every 126 hits.
        shared_over_by_hand=rows[0]["hits/s"] * 128 / 126 / by_hand,
        **{
            f"overload of {name} over peak": rows[2 * number + 2]["hits/s"] / rows[2 * number + 1]["hits/s"]
            for number, name in enumerate(OVERLOADED)
        },
        **{f"{policy} [hits/s]": value for policy, value in rates.items()},
        cooperative_over_faster=together / max(rates["cpu-only"], rates["endpoint-only"]),
        cooperative_over_sum=together / (rates["cpu-only"] + rates["endpoint-only"]),
    )


if __name__ == "__main__":
    main()
