"""What was published, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from protosonic.stages.publish import Publication

__all__ = ["print_publication"]


def print_publication(publication: Publication) -> None:
    """Print where a publication lies and what is left to do."""
    console = Console(highlight=False)
    what = "published" if publication.is_new else "published before, unchanged"
    console.print(
        f"{escape(str(publication.folder))}: {what}: {publication.files} files, {publication.size:,} bytes",
        soft_wrap=True,
    )
    if publication.missing:
        console.print(
            f"[yellow]DUNE's MetaCat also requires {', '.join(publication.missing)}[/yellow]: give them with --metadata",
            soft_wrap=True,
        )
    console.print(
        "Nothing was sent to a catalog: declare.sh in that folder has the command lines", soft_wrap=True
    )
