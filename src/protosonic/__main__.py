"""``python -m protosonic``: the same as the ``protosonic`` command."""

from __future__ import annotations

from protosonic.cli import main

if __name__ == "__main__":
    main()
