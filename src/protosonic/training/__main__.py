"""``python -m protosonic.training``: train where only NumPy, SciPy, h5py, ONNX and PyTorch are installed."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path


def main() -> None:
    """Simulate, train and export."""
    # Here: the processes that simulate import this module, and need no PyTorch.
    from protosonic.training.run import TrainingPlan, train

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="folder for the model and its figures")
    parser.add_argument("--events", type=int, default=40, help="simulated events to train on")
    parser.add_argument("--validation-events", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--validation-hits", type=int, default=20_000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(TrainingPlan(**vars(options)))


if __name__ == "__main__":
    main()
