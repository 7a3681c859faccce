"""What a device itself can do: patches/s of the network in PyTorch, from patches and from plane images on the device.

    python benchmarks/device.py [--device cuda] [--json FILE]

It is the ceiling for any server on that device: no network, no requests, no queue. It needs NumPy, SciPy, h5py, ONNX and
PyTorch only, so that it runs on a borrowed GPU (``PYTHONPATH=src``). Scores in every precision are compared with those of
single precision on the CPU.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch
from onnx import numpy_helper

from protosonic.detectors import load_detector
from protosonic.events.model import EventId
from protosonic.inference.bundled import bundled_model
from protosonic.inference.folding import fold_constants
from protosonic.simulation.generator import simulate_event
from protosonic.training.network import HitNetwork
from protosonic.training.patches import PatchStore
from protosonic.training.sampling import Sampling, sample_event

if TYPE_CHECKING:
    from collections.abc import Callable

FLOP_PER_PATCH = 28.4e6
# Dense, without sparsity, from the data sheets: single precision, TF32, bfloat16.
PEAK_FLOPS = {
    "NVIDIA H200": (67e12, 495e12, 989e12),
    "NVIDIA H100 80GB HBM3": (67e12, 495e12, 989e12),
    "NVIDIA T4": (8.1e12, 8.1e12, 65e12),
    "NVIDIA A100-SXM4-80GB": (19.5e12, 156e12, 312e12),
}
PRECISIONS = ("float32", "tf32", "bfloat16")
BATCH_SIZES = (256, 1024, 4096, 16384)


def bundled_network() -> HitNetwork:
    """Give the bundled network in PyTorch."""
    model = fold_constants(onnx.load(bundled_model()))
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    network = HitNetwork().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            layer, kind = name.split(".")
            array = arrays[f"{layer}_{kind[0]}"]
            parameter.copy_(torch.from_numpy(array.T.copy() if array.ndim == 2 else array.copy()))
    return network


def scores(network: HitNetwork, patches: torch.Tensor, precision: str) -> torch.Tensor:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    with (
        torch.no_grad(),
        torch.autocast(patches.device.type, torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        three, one = network(patches)
        return torch.cat([torch.softmax(three.float(), 1), torch.sigmoid(one.float())[:, None]], dim=1)


def rate(run: Callable[[], object], n: int, device: torch.device, seconds: float = 1.0) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        run()
    wait()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(5):
            run()
        wait()
        done += 5 * n
    return done / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--hits", type=int, default=50_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    event = simulate_event(load_detector("protodune-sp"), EventId(1, 0, 1), 0, options.hits, 1)
    part = sample_event(event, Sampling(empty=0.0))
    on_host, on_device = PatchStore(part, torch.device("cpu")), PatchStore(part, device)
    network, reference = bundled_network().to(device), bundled_network()
    index = torch.arange(min(2048, len(on_host)))
    expected = scores(reference, on_host.cut(index), "float32")
    rows = []
    for precision in PRECISIONS:
        if device.type == "cpu" and precision == "tf32":
            continue
        deviation = float(
            (scores(network, on_device.cut(index.to(device)), precision).cpu() - expected).abs().max()
        )
        for batch_size in BATCH_SIZES:
            batch = torch.arange(batch_size, device=device) % len(on_device)
            patches = on_device.cut(batch)
            from_patches = rate(partial(scores, network, patches, precision), batch_size, device)

            def cut_and_score(batch: torch.Tensor = batch, precision: str = precision) -> torch.Tensor:
                return scores(network, on_device.cut(batch), precision)

            from_images = rate(cut_and_score, batch_size, device)
            row = {
                "precision": precision,
                "batch": batch_size,
                "patches/s": round(from_patches),
                "from images/s": round(from_images),
                "deviation": f"{deviation:.1e}",
            }
            if name in PEAK_FLOPS:
                peak = PEAK_FLOPS[name][PRECISIONS.index(precision)]
                row["share of peak"] = f"{100 * from_patches * FLOP_PER_PATCH / peak:.1f} %"
            rows.append(row)
            print(row, flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"device": name, "torch": torch.__version__, "rows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
