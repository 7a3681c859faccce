"""Training of the published network: from events with truth to an ONNX file with its figures.

:mod:`~protosonic.training.sampling` alone reads events; the rest needs no more than NumPy, h5py, ONNX and PyTorch, so that
``python -m protosonic.training`` runs where nothing else of protosonic is installed, on a borrowed GPU say.
"""

from __future__ import annotations
