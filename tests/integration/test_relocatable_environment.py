"""The packed environment runs where nothing else is: whole campaigns, without the environment that it was made of."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from support.campaign import CampaignRun, assert_same_hits, protosonic

WHAT_IS_LOADED = """
import sys
import h5py, numpy, onnxruntime, pyarrow, snakemake.cli, sqlite3, ssl, zlib
import protosonic.cli
for module in list(sys.modules.values()):
    print(getattr(module, "__file__", None) or "")
with open("/proc/self/maps") as maps:
    for line in maps:
        print(line.split(maxsplit=5)[5].strip() if len(line.split()) > 5 else "")
"""
# What a node must have besides the kernel: glibc and the libraries that belong to it, a shell, and a few programs.
PROGRAMS = ("sh", "bash", "dirname", "readlink", "ls", "cat")
LIBRARIES = (
    *(
        "libc.so.6",
        "libm.so.6",
        "libdl.so.2",
        "libpthread.so.0",
        "librt.so.1",
        "libutil.so.1",
        "libresolv.so.2",
    ),
    *("libgcc_s.so.1", "libstdc++.so.6"),
)
OF_THE_SYSTEM = re.compile(r"(ld-linux.*|lib(c|m|dl|pthread|rt|util|resolv|gcc_s|stdc\+\+))\.so.*")
ISOLATED = ["unshare", "--map-root-user", "--mount", "--pid", "--fork", "sh", "-ec"]
ENTER = """
mount --rbind /dev "$0/dev"
mount -t proc proc "$0/proc"
exec chroot "$0" "$@"
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("archive") / "protosonic.tar.gz"
    output = protosonic("environment", "pack", str(file))
    assert re.search(
        r"\d+ MB, Python 3\.\d+\.\d+ with \d+ packages; needs \w+ with glibc 2\.\d+ or later", output
    )
    return file


@pytest.fixture(scope="module")
def node(archive, tmp_path_factory) -> Path:
    """The root of a node that has nothing but a shell, glibc and the unpacked archive."""
    root = tmp_path_factory.mktemp("node")
    for name in ("dev", "proc", "tmp", "etc", "data", "usr/bin", "opt/some site"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "etc/passwd").write_text("root:x:0:0::/data:/bin/sh\n")
    needed = {Path(found) for name in PROGRAMS if (found := shutil.which(name))}
    assert len(needed) == len(PROGRAMS)
    cache = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    needed |= {
        Path(cache.partition(f"\t{name} ")[2].partition(" => ")[2].splitlines()[0]) for name in LIBRARIES
    }
    for file in list(needed):
        listed = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=True).stdout
        needed |= {Path(path) for path in re.findall(r"(/\S+) \(0x", listed)}
    for file in needed:
        target = root / file.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file.resolve(), target)
    with tarfile.open(archive) as tar:
        tar.extractall(root / "opt/some site", filter="data")
    return root


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> CampaignRun:
    """The same campaign with the environment that runs the tests."""
    workdir = tmp_path_factory.mktemp("expected")
    protosonic(
        "simulate", str(workdir / "data"), "--files", "1", "--events", "2", "--hits", "300", "--seed", "5"
    )
    campaign = CampaignRun(workdir, {"inputs": [{"path": "data/*.h5"}]})
    campaign.run()
    return campaign


def test_nothing_of_the_original_is_loaded(node):
    """Also where the node is set up for other software, with libraries and packages of the same names."""
    packed = node / "opt/some site/protosonic"
    wrong = node / "tmp" / "wrong"
    (wrong / "numpy").mkdir(parents=True)
    (wrong / "numpy/__init__.py").write_text("raise ImportError('the numpy of the node')")
    for library in packed.glob("lib/*.so*"):
        (wrong / library.name).write_text("no library")
    variables = {
        "LD_LIBRARY_PATH": str(wrong),
        "PATH": os.defpath,
        "PYTHONHOME": str(wrong),
        "PYTHONPATH": str(wrong),
    }
    code = f"import sys; sys.argv = ['x', '--version']; exec({WHAT_IS_LOADED!r})"
    launcher = (packed / "bin/protosonic").read_text().replace("from protosonic.cli import main", code)
    (packed / "bin/what-is-loaded").write_text(launcher.replace("sys.exit(main())", ""))
    (packed / "bin/what-is-loaded").chmod(0o755)
    process = subprocess.run(
        [str(packed / "bin/what-is-loaded")], capture_output=True, text=True, check=False, env=variables
    )
    assert process.returncode == 0, process.stderr
    loaded = {Path(line) for line in process.stdout.splitlines() if line.startswith("/")}
    code_files = {path for path in loaded if path.suffix == ".py" or ".so" in path.name}
    assert len(code_files) > 500
    elsewhere = {path for path in code_files if not path.is_relative_to(packed)}
    assert {path.name for path in elsewhere if not OF_THE_SYSTEM.fullmatch(path.name)} == set()
    originals = (Path(sys.prefix), Path(__file__).parents[2])
    assert not [path for path in loaded if any(path.is_relative_to(original) for original in originals)]


def test_whole_campaign_runs_on_a_bare_node(node, expected):
    enter = [*ISOLATED, ENTER, str(node)]
    may = [*ISOLATED, 'mount --rbind /dev "$0/dev"', str(node)]
    if subprocess.run(may, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let its users make namespaces")

    def on_the_node(*command: str) -> str:
        process = subprocess.run(
            [*enter, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/data", "LC_ALL": "C.UTF-8"},
        )
        assert process.returncode == 0, process.stdout
        return process.stdout

    assert on_the_node("/bin/ls", "/").split() == sorted(path.name for path in node.iterdir())
    shutil.copytree(expected.workdir / "data", node / "data" / "data")
    campaign = CampaignRun(node / "data", {"inputs": [{"path": "data/*.h5"}]})
    campaign.write_config()
    command = "/opt/some site/protosonic/bin/protosonic"
    output = on_the_node(command, "run", "/data/config.yaml", "--workdir", "/data", "--cores", "2")
    assert "2 done, 0 quarantined" in output
    on_the_node(command, "verify", "/data", "--campaign", "test", "--inputs")
    assert "0 fail" in on_the_node(command, "doctor", "/data/config.yaml", "--workdir", "/data")
    assert_same_hits(campaign.hits(), expected.hits())
    assert (campaign.results / "report.html").stat().st_size > 10_000


def test_record_says_what_the_node_must_have(node):
    record = json.loads((node / "opt/some site/protosonic/environment.json").read_text())
    assert record["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert "onnxruntime" in record["packages"]
    assert re.fullmatch(r"2\.\d+", record["glibc"])
