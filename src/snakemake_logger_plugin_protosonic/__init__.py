"""Snakemake logger plugin ``protosonic``: how a campaign goes, in place on a terminal or as a line now and then.

``protosonic run`` chooses it; with plain Snakemake: ``--logger protosonic --logger-protosonic-campaign NAME``. Snakemake's own
messages stay complete in ``.snakemake/log/``. Every start of Snakemake imports all plugins, so this module imports little.
"""

# ruff: noqa: I002
# Snakemake makes options from the types below, so they must not be strings.
from dataclasses import dataclass, field
from logging import LogRecord
from typing import TYPE_CHECKING, Optional, cast

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

if TYPE_CHECKING:
    from protosonic.reporting.run_view import RunView

__all__ = ["LogHandler", "LogHandlerSettings"]


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options of the plugin."""

    campaign: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "Name of the campaign in the working directory.", "required": True}
    )
    style: Optional[str] = field(  # noqa: UP045
        default="plain",
        metadata={
            "help": "'live' redraws in place on a terminal, 'plain' prints a line now and then.",
            "required": False,
        },
    )


class LogHandler(LogHandlerBase):
    """Passes what Snakemake logs on to the view."""

    _view: "RunView"

    def __post_init__(self) -> None:
        """Open the view."""
        from protosonic.campaign.layout import Layout
        from protosonic.reporting.run_view import open_view

        options = cast("LogHandlerSettings", self.settings)
        self._view = open_view(Layout(options.campaign or ""), options.style or "plain")

    def emit(self, record: LogRecord) -> None:
        """Show a record; a view that fails must not end a campaign."""
        try:
            self._view.see(record, self.format)
        except Exception:  # noqa: BLE001 (as every handler of logging)
            self.handleError(record)

    def close(self) -> None:
        """Close the view; Snakemake does it when everything has been seen."""
        self._view.close()
        super().close()

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False
