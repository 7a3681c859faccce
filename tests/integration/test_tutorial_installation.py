"""The commands with which docs/tutorial.md installs protosonic, in a copy of the repository."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.pages import DOCS, examples, missing_line, read_page, run_session

ROOT = DOCS.parent


def test_the_tutorial_installs_what_runs(tmp_path: Path) -> None:
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    for name in filter(None, files.split("\0")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shown = examples(read_page("tutorial.md").partition("\n## Events\n")[0])
    commands = [example.command for example in shown] + ["command -v protosonic"]
    *done, where = run_session(commands, tmp_path)
    for example, outcome in zip(shown, done, strict=True):
        assert outcome.status == 0, outcome.printed
        assert missing_line(example.output, outcome.printed) is None, outcome.printed
    assert where.printed.strip() == str(tmp_path / ".venv/bin/protosonic")
