"""Patches cut from a training set on the device that trains, and what is done to them.

All images lie on the device as one array with a margin around each; a batch of patches is one gather.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from protosonic.events.truth import HitTruth
from protosonic.images.profiles import PATCH_SIZE
from protosonic.training.set_file import EMPTY, VALUE_STEP

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from protosonic.training.set_file import TrainingSet

__all__ = ["Augmentation", "BalancedBatches", "PatchStore"]

HALF = PATCH_SIZE // 2
MARGIN = HALF + 1


class PatchStore:
    """The images and places of a training set on a device.

    Parameters
    ----------
    training_set
        The set; its network input is zero where there is no charge.
    device
        Where it lies; images take 2 bytes a pixel.
    """

    def __init__(self, training_set: TrainingSet, device: torch.device) -> None:
        images, points = training_set.images, training_set.points
        stride = images.n_columns.astype(np.int64) + 2 * MARGIN
        size = stride * (images.n_wires + 2 * MARGIN)
        base = np.concatenate([[0], np.cumsum(size)])
        of_image = np.repeat(np.arange(len(images)), images.n_pixels)
        row, column = np.divmod(training_set.pixel, images.n_columns[of_image])
        place = base[of_image] + (row + MARGIN) * stride[of_image] + column + MARGIN
        self.device = device
        self._flat = torch.zeros(int(base[-1]), dtype=torch.float16, device=device)
        values = (training_set.value * np.float32(VALUE_STEP)).astype(np.float16)
        self._flat[torch.from_numpy(place).to(device)] = torch.from_numpy(values).to(device)
        middle = (
            base[points.image]
            + (points.row.astype(np.int64) + MARGIN) * stride[points.image]
            + points.column
            + MARGIN
        )
        self._middle = torch.from_numpy(middle).to(device)
        self._stride = torch.from_numpy(stride[points.image]).to(device)
        self.label = torch.from_numpy(points.label).to(device)
        self.plane: NDArray[np.int16] = images.plane[points.image]
        self.is_hit = points.kind != EMPTY
        self._line = torch.arange(PATCH_SIZE, device=device) - HALF

    def __len__(self) -> int:
        return len(self._middle)

    def cut(self, index: Tensor, mirror: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Cut patches around places.

        Parameters
        ----------
        index
            int64 [N].
        mirror
            Two int64 [N] of 1 or −1: the direction of wires and of drift; the place itself stays at [24][24].

        Returns
        -------
        float32 [N, 48, 48]: network input.
        """
        wires = drift = self._line[None]
        if mirror is not None:
            wires, drift = wires * mirror[0][:, None], drift * mirror[1][:, None]
        rows = self._middle[index][:, None] + wires * self._stride[index][:, None]
        patches: Tensor = self._flat[rows[:, :, None] + drift[:, None, :]].float()
        return patches


@dataclass(frozen=True)
class Augmentation:
    """How patches are changed while training, so that the network does not lean on one detector's details.

    Attributes
    ----------
    scale
        The charge of a patch is multiplied by a factor of up to 1 ± this, flat in the logarithm.
    smear
        Largest share of a pixel that each of its neighbours in drift gets; half of the patches are smeared.
    threshold
        Pixels below a level are emptied; the level of a patch is up to this, in network input.
    noise
        Largest standard deviation of noise on pixels with charge, network input.
    crumbs
        Largest share of the empty pixels that get a little charge.
    dead
        Chance of each wire of a quarter of the patches to be empty.
    """

    scale: float = 0.3
    smear: float = 0.25
    threshold: float = 0.15
    noise: float = 0.15
    crumbs: float = 0.004
    dead: float = 0.06

    def apply(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        """Change patches [N, 48, 48], each in its own way."""
        n, device = len(patches), patches.device

        def draw(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=device)

        patches = patches * torch.exp(np.log1p(self.scale) * (2 * draw(n, 1, 1) - 1))
        share = self.smear * draw(n, 1, 1) * (draw(n, 1, 1) < 0.5)
        beside = torch.nn.functional.pad(patches, (1, 1))
        patches = patches * (1 - 2 * share) + share * (beside[:, :, :-2] + beside[:, :, 2:])
        normal = torch.randn(patches.shape, generator=generator, device=device)
        has_charge = patches.abs() > 1e-3
        patches = patches + has_charge * normal * self.noise * draw(n, 1, 1)
        crumb = ~has_charge & (draw(*patches.shape) < self.crumbs * draw(n, 1, 1))
        patches = torch.where(crumb, normal.abs() * 0.25, patches)
        patches = torch.where(
            patches.abs() < self.threshold * draw(n, 1, 1), torch.zeros_like(patches), patches
        )
        dead = (draw(n, PATCH_SIZE) < self.dead) & (draw(n, 1) < 0.25)
        dead[:, HALF] = False  # the wire of the hit itself has charge
        patches = patches * ~dead[:, :, None]
        return patches.clamp(-5.0, 15.0)


class BalancedBatches:
    """Draws places by class, each class as often as it should come, whatever its share of the hits.

    Parameters
    ----------
    store
        The places.
    shares
        How often track, em, none (hits), michel and places without charge come; classes without any place are left out.
    generator
        Random numbers, on the device of the store.
    """

    def __init__(self, store: PatchStore, shares: tuple[float, ...], generator: torch.Generator) -> None:
        label = store.label.cpu().numpy()
        groups = [np.flatnonzero((label == index) & store.is_hit) for index in range(len(HitTruth.LABELS))]
        groups.append(np.flatnonzero(~store.is_hit))
        present = [(group, share) for group, share in zip(groups, shares, strict=True) if len(group)]
        self._store, self._generator = store, generator
        device = store.device
        self._places = torch.from_numpy(np.concatenate([group for group, _ in present])).to(device)
        sizes = np.array([len(group) for group, _ in present])
        self._first = torch.from_numpy(np.cumsum(sizes) - sizes).to(device)
        self._size = torch.from_numpy(sizes).to(device)
        self._share = torch.tensor([share for _, share in present], device=device)

    def draw(self, n: int, augmentation: Augmentation | None) -> tuple[Tensor, Tensor]:
        """Give `n` patches and their labels."""
        device, generator = self._store.device, self._generator
        group = torch.multinomial(self._share, n, replacement=True, generator=generator)
        within = torch.rand(n, generator=generator, device=device, dtype=torch.float64) * self._size[group]
        index = self._places[self._first[group] + within.long()]
        mirror = 1 - 2 * torch.randint(0, 2, (2, n), generator=generator, device=device)
        if augmentation is None:
            return self._store.cut(index), self._store.label[index]
        patches = self._store.cut(index, (mirror[0], mirror[1]))
        return augmentation.apply(patches, generator), self._store.label[index]
