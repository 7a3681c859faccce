"""Tests of the event model, the readers and the hit finder."""
