"""How good scores are, on events whose truth is known. It knows arrays, not files, and no network."""
