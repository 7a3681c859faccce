"""Plane images and patches exactly as LArSoft's DataProviderAlg and EmTrackMichelId make them."""

from __future__ import annotations
