"""What ``protosonic run`` shows while it runs: on a terminal, in the log of a batch job, and when it is interrupted."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from protosonic.errors import INTERRUPTED, AcceptanceError
from support.campaign import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.campaign import CampaignRun


class Terminal:
    """A run with a terminal of its own, a session leader as a shell makes it, so that Ctrl-C reaches it."""

    def __init__(self, campaign: CampaignRun, *arguments: str, term: str = "xterm-256color") -> None:
        self.shown = b""
        command = campaign.command(*arguments)
        self._pid, self._terminal = pty.fork()
        if not self._pid:
            os.execve(command[0], command, clean_environment() | {"TERM": term, "COLUMNS": "100"})  # noqa: S606

    def until(self, text: bytes) -> None:
        while text not in self.shown:
            self.shown += os.read(self._terminal, 65536)

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def end(self) -> tuple[int, str]:
        # A terminal whose last writer is gone gives an error, not an end.
        with suppress(OSError):
            while more := os.read(self._terminal, 65536):
                self.shown += more
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1]), self.shown.decode()


@pytest.fixture
def campaign(make_campaign: Callable[..., CampaignRun], simulated) -> CampaignRun:
    campaign = make_campaign(inputs=[{"path": f"{simulated}/*.h5"}])
    campaign.view = "auto"
    return campaign


def test_a_batch_log_gets_few_plain_lines(campaign):
    output = campaign.run()
    assert "\x1b" not in output
    assert "jobs, 3 of 3 partitions, " in output
    assert "100% by onnxruntime" in output
    assert "\ndataset   " in output
    for word in ("Select jobs", "rule infer", "Finished jobid"):
        assert word not in output
    [log] = (campaign.workdir / ".snakemake/log").glob("*.snakemake.log")
    assert "Finished jobid" in log.read_text()


def test_a_finished_campaign_says_that_nothing_is_to_be_done(campaign):
    campaign.run()
    assert "Nothing to be done" in campaign.run()


def test_a_terminal_is_redrawn_in_place_and_left_clean(campaign):
    terminal = Terminal(campaign)
    terminal.until(b"running     ")
    code, shown = terminal.end()
    assert code == 0
    for word in ("━", "catalog 3", " on ", "hits  ", "dataset   "):
        assert word in shown
    # The cursor was hidden, and is there again.
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") > 0


def test_a_terminal_that_cannot_redraw_gets_plain_lines(campaign):
    code, shown = Terminal(campaign, term="dumb").end()
    assert code == 0
    assert "\x1b[?25l" not in shown
    assert "jobs, 3 of 3 partitions, " in shown


@pytest.mark.parametrize("argument", ["-n", "--summary", "--verbose"])
def test_arguments_that_ask_for_messages_of_snakemake_get_them(campaign, argument):
    assert "--logger" not in campaign.run(argument)


@pytest.mark.parametrize("on_terminal", [True, False])
def test_failed_jobs_are_shown_with_their_logs(campaign, on_terminal):
    broken = campaign.workdir / "broken.h5"
    broken.write_bytes(b"")
    campaign.config["inputs"] = [*campaign.config["inputs"], {"path": str(broken)}]
    if on_terminal:
        code, shown = Terminal(campaign).end()
    else:
        code, shown = AcceptanceError.exit_code, campaign.run(expect=AcceptanceError.exit_code)
    assert code == AcceptanceError.exit_code
    assert "Error in rule accept" in shown
    assert "quarantined" in shown.partition("Error in rule accept")[2]


def test_ctrl_c_ends_the_jobs_and_the_same_command_goes_on(campaign):
    campaign.config["partition"] = {"target_hits": 1}  # so that it does not end by itself meanwhile
    terminal = Terminal(campaign)
    terminal.until(b"running     ")
    terminal.type(b"\x03")
    code, shown = terminal.end()
    assert code == INTERRUPTED, shown
    assert "interrupted; the same command goes on where it ended" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")
    campaign.run()
    campaign.verify()


def test_sigterm_ends_a_batch_job_in_the_same_way(campaign):
    process = subprocess.Popen(
        campaign.command(),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not list((campaign.workdir / "work/test/catalog").glob("*.json")):
        assert process.poll() is None, "the run ended before it was seen"
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == INTERRUPTED, output
    assert "interrupted; the same command goes on where it ended" in output
    campaign.run()
    campaign.verify()
