"""The training loop: balanced batches, a cosine schedule, averaged weights, and stopping when nothing gets better."""

from __future__ import annotations

import copy
import ctypes
import logging
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from protosonic.detectors.geometry import PLANE_NAMES
from protosonic.evaluation.roc import area_under_curve
from protosonic.events.truth import HitTruth
from protosonic.inference.architecture import eight_bit_steps
from protosonic.training.calibration import calibrate
from protosonic.training.export import weights_of
from protosonic.training.network import HitNetwork, published_loss
from protosonic.training.patches import Augmentation, BalancedBatches, PatchStore

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from protosonic.training.set_file import TrainingSet

__all__ = ["Fit", "FitOptions", "fit"]

log = logging.getLogger(__name__)

_WARM_UP_STEPS, _MEASURED_STEPS = 10, 40


@dataclass(frozen=True)
class FitOptions:
    """How the network is trained.

    Attributes
    ----------
    steps
        Batches; ``None``: as many as fit into `minutes`, found by measurement, and anew at each check.
    minutes
        Wall time for the steps, where their number is not given.
    batch_size
        Patches of a batch.
    learning_rate, weight_decay
        Of AdamW; the rate falls to zero along a cosine after a short warm-up.
    shares
        How often track, em, none (hits of noise), michel and places without charge come in a batch.
    augmentation
        What is done to the patches.
    average
        Decay of the running average of the weights, which is what is kept.
    checks
        How often the validation set is scored, evenly over the steps.
    patience
        Checks without a better loss after which training ends.
    validation_hits
        Most hits of the validation set that are scored.
    seed
        Seeds everything; equal seeds, steps and machines give equal networks.
    device
        ``cpu``, ``cuda``, or ``auto``: a GPU where there is one.
    """

    steps: int | None = None
    minutes: float = 20.0
    batch_size: int = 256
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    shares: tuple[float, ...] = (0.36, 0.38, 0.08, 0.14, 0.04)
    augmentation: Augmentation = field(default_factory=Augmentation)
    average: float = 0.998
    checks: int = 12
    patience: int = 6
    validation_hits: int = 20_000
    seed: int = 1
    device: str = "auto"


@dataclass(frozen=True)
class Fit:
    """A trained, calibrated network and how it came about.

    Attributes
    ----------
    network
        On the CPU.
    history
        One entry for each check: step, seconds, loss of training and validation, and AUCs.
    facts
        Options, number of steps, calibration, what the sets were made from.
    """

    network: HitNetwork
    history: list[dict[str, float]]
    facts: dict[str, Any]


def fit(training: TrainingSet, validation: TrainingSet, options: FitOptions) -> Fit:
    """Train the network.

    Parameters
    ----------
    training
        What it learns from.
    validation
        Other events, mixed as in nature: they decide when to stop, and calibrate the scores.
    options
        How.
    """
    name = options.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(device.type == "cpu")
    if device.type == "cpu":
        _keep_memory()
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    generator = torch.Generator(device).manual_seed(options.seed)
    batches = BalancedBatches(PatchStore(training, device), options.shares, generator)
    checker = _Checker(PatchStore(validation, device), options)
    network = HitNetwork().to(device)
    averaged = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
    )
    start = time.monotonic()
    steps = options.steps
    history: list[dict[str, float]] = []
    warm = start
    best, best_loss, running, since = copy.deepcopy(averaged.state_dict()), np.inf, 0.0, 0
    step = checked = 0
    while steps is None or step < steps:
        if step == _WARM_UP_STEPS:
            warm = time.monotonic()
        if steps is None and step == _WARM_UP_STEPS + _MEASURED_STEPS:
            steps = _steps_in_budget(step, time.monotonic(), start, warm, options)
            log.info("%d steps fit into %.1f minutes", steps, options.minutes)
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * _schedule(step, steps)
        patches, label = batches.draw(options.batch_size, options.augmentation)
        network.train()
        with torch.autocast(device.type, torch.bfloat16):
            loss = published_loss(network(patches), label)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        step += 1
        _average(averaged, network, min(options.average, step / (step + 10)))
        if step % 10 == 0:  # waits for the device
            value = float(loss.detach())
            running = value if running == 0.0 else 0.95 * running + 0.05 * value
        if steps is not None and (step * options.checks) // steps > checked:
            checked = (step * options.checks) // steps
            entry = checker.check(averaged)
            history.append(
                {"step": step, "seconds": time.monotonic() - start, "training_loss": running, **entry}
            )
            log.info("%s", {name: round(number, 4) for name, number in history[-1].items()})
            if entry["validation_loss"] < best_loss:
                best, best_loss = copy.deepcopy(averaged.state_dict()), entry["validation_loss"]
                since = 0
            else:
                since += 1
                if since >= options.patience:
                    log.info("no better for %d checks", since)
                    break
            if options.steps is None and step < steps:  # the machine may have become slower or faster
                steps = _steps_in_budget(step, time.monotonic(), start, warm, options)
    averaged.load_state_dict(best)
    calibration = calibrate(averaged, *checker.logits(averaged))
    figures = {"float32": checker.check(averaged), "eight bits": checker.check(_rounded(averaged))}
    log.info("%s", figures)
    facts = {
        "options": asdict(options) | {"steps": steps},
        "steps_done": step,
        "seconds": time.monotonic() - start,
        "calibration": calibration,
        "figures": figures,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "profile": training.profile,
        "training": {"events": len(training.events), "places": training.counts(), **training.header},
        "validation": {"events": len(validation.events), "places": validation.counts(), **validation.header},
    }
    return Fit(averaged.cpu(), history, facts)


def _keep_memory() -> None:
    """Let the C library keep freed memory: each step takes 100 MB, and getting it anew takes half of its time."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not every C library has it
    if mallopt is not None:
        trim_threshold, map_threshold = -1, -3
        mallopt(map_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)


def _steps_in_budget(done: int, now: float, start: float, warm: float, options: FitOptions) -> int:
    """Give how many steps the minutes hold, from the time of those that are done; a tenth is for the checks."""
    left = 0.9 * (options.minutes * 60 - (now - start))
    ahead = int(left * (done - _WARM_UP_STEPS) / (now - warm))
    return done + max(ahead, _WARM_UP_STEPS + _MEASURED_STEPS - done, 0)


def _schedule(step: int, steps: int | None) -> float:
    warm = min(1.0, (step + 1) / 100)
    return warm if steps is None else warm * 0.5 * (1 + float(np.cos(np.pi * step / steps)))


@torch.no_grad()
def _average(averaged: HitNetwork, network: HitNetwork, decay: float) -> None:
    for mine, its in zip(averaged.parameters(), network.parameters(), strict=True):
        mine.lerp_(its, 1 - decay)


def _rounded(network: HitNetwork) -> HitNetwork:
    """Give the network with the first dense layer as a file in 8 bits holds it."""
    rounded = copy.deepcopy(network)
    steps, scale = eight_bit_steps(weights_of(network)["dense_1_w"])
    with torch.no_grad():
        rounded.dense_1.weight.copy_(torch.from_numpy((steps * scale).T))
    return rounded


class _Checker:
    """Scores the hits of a validation set."""

    def __init__(self, store: PatchStore, options: FitOptions) -> None:
        rng = np.random.default_rng(options.seed)
        hits = np.flatnonzero(store.is_hit)
        if len(hits) > options.validation_hits:
            hits = np.sort(rng.choice(hits, options.validation_hits, replace=False))
        self._store = store
        self._index = torch.from_numpy(hits).to(store.device)
        self._batch_size = max(options.batch_size, 1024)
        self.label = store.label[self._index]
        self.plane: NDArray[np.int16] = store.plane[hits]

    @torch.no_grad()
    def logits(self, network: HitNetwork) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Give the outputs and the labels."""
        network.eval()
        parts = [network(self._store.cut(index)) for index in torch.split(self._index, self._batch_size)]
        return (
            torch.cat([part[0].float() for part in parts]),
            torch.cat([part[1].float() for part in parts]),
        ), self.label

    def check(self, network: HitNetwork) -> dict[str, float]:
        """Give the loss with classes weighted alike, and the areas under the ROC curves."""
        logits, label = self.logits(network)
        present = [index for index in range(len(HitTruth.LABELS)) if bool((label == index).any())]
        losses = [
            published_loss((logits[0][label == index], logits[1][label == index]), label[label == index])
            for index in present
        ]
        figures = {"validation_loss": float(torch.stack(losses).mean())}
        kind = label.cpu().numpy()
        track, em, _, michel = range(4)
        shower = (logits[0][:, em] - logits[0][:, track]).cpu().numpy()
        either = (kind == track) | (kind == em)
        areas = {
            f"auc_shower_{name}": area_under_curve(shower[here], kind[here] == em)
            for name, here in (
                (name, either & (self.plane == plane)) for plane, name in enumerate(PLANE_NAMES)
            )
        }
        areas["auc_michel"] = area_under_curve(logits[1].cpu().numpy(), kind == michel)
        figures |= {name: area for name, area in areas.items() if area is not None}
        return figures
