"""``protosonic doctor``: every check on something that is right and on something that is really broken."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from protosonic.campaign.launch import workflow_folder
from protosonic.config import check_settings
from protosonic.errors import (
    ConfigError,
    ModelError,
    ResourceError,
    ServiceError,
    TransientError,
    VerificationError,
)
from protosonic.software import python_checks
from protosonic.software.campaign_checks import (
    check_endpoints,
    check_inputs,
    check_kernel,
    check_model,
    check_profile_of,
)
from protosonic.software.check import State, fail, ok, raise_worst, warn
from protosonic.software.disk_checks import check_folder, file_system_of
from protosonic.software.machine_checks import (
    Limits,
    check_clock,
    check_cores,
    check_memory,
    check_processor,
    read_limits,
)
from protosonic.software.python_checks import check_packages, check_python
from support.campaign import BIN, clean_environment, protosonic
from support.models import linear_weights, write_linear_model

ROOT = workflow_folder()
NOTHING = Limits(None, None)
HERE = len(os.sched_getaffinity(0))


def in_a_process(code: str, *, before: str = "", **environment: str) -> str:
    """Run a check in a process of its own, after shell commands that limit it."""
    imports = "from protosonic.software import disk_checks, machine_checks, python_checks\n"
    script = f'{before}\nexec "$0" -c "$1"'
    process = subprocess.run(
        ["sh", "-c", script, sys.executable, f"{imports}{code}"],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment() | environment,
    )
    return process.stdout


# Python


def test_this_python_is_right():
    assert check_python().state is State.OK


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Pretend that a package with these requirements is what is checked."""

    def install(*requirements: str) -> None:
        folder = tmp_path / "site" / "elsewhere-1.0.dist-info"
        folder.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", "Name: elsewhere", "Version: 1.0", "Requires-Python: <3"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
        (folder / "METADATA").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        monkeypatch.setattr(python_checks, "PACKAGE", "elsewhere")

    return install


def test_python_of_another_version_is_refused(package):
    package()
    check = check_python()
    assert (check.state, check.error, check.mend) == (State.FAIL, ConfigError, "Use a Python <3")


def test_missing_and_old_packages_are_named(package, tmp_path):
    package("numpy>=99", "no-such-thing", "never; extra == 'more'", "not-here; python_version < '3'")
    check = check_packages(tmp_path / "none.txt")
    assert check.state is State.FAIL
    assert "no-such-thing is not installed" in check.found
    assert "numpy>=99 is installed as " in check.found
    assert "never" not in check.found
    assert "not-here" not in check.found


def test_packages_of_other_versions_than_tested_are_named_but_no_failure(package, tmp_path):
    package("numpy", "h5py")
    (tmp_path / "pins.txt").write_text(f"# pins\nNumPy==0.1\nh5py=={__import__('h5py').__version__}\n")
    check = check_packages(tmp_path / "pins.txt")
    assert check.state is State.WARN
    assert f"numpy {np.__version__} (tested: 0.1)" in check.found
    assert "h5py" not in check.found


def test_own_packages_are_there():
    assert check_packages(ROOT / "envs" / "constraints.txt").state is not State.FAIL


def test_locale_that_cannot_name_files_is_refused():
    code = "print(python_checks.check_encoding().found)"
    assert in_a_process(code, LC_ALL="C.UTF-8") == "UTF-8\n"
    found = in_a_process(code, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert found == "names of files are ascii here\n"


# Machine


def groups(folder: Path, version: int, **files: str) -> Limits:
    (folder / "root" / "a" / "b").mkdir(parents=True)
    (folder / "own").write_text("0::/a/b\n" if version == 2 else "3:cpu,cpuacct:/a/b\n2:memory:/a/b\n")
    for name, text in files.items():
        path = folder / "root" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_limits(folder / "root", folder / "own")


def test_limits_of_outer_control_groups_count(tmp_path):
    files = {"a__cpu_DOT_max": "150000 100000\n", "a__b__cpu_DOT_max": "max 100000\n"}
    memory = {"a__memory_DOT_max": "max\n", "a__b__memory_DOT_max": "3000000000\n"}
    assert groups(tmp_path, 2, **files, **memory) == Limits(1.5, 3000)


def test_limits_of_the_first_version_are_read(tmp_path):
    files = {"cpu__a__cpu_DOT_cfs_quota_us": "-1", "cpu__a__b__cpu_DOT_cfs_quota_us": "400000"}
    files["cpu__a__b__cpu_DOT_cfs_period_us"] = "100000"
    files["memory__a__memory_DOT_limit_in_bytes"] = "9223372036854771712"
    files["memory__memory_DOT_limit_in_bytes"] = "2000000000"
    assert groups(tmp_path, 1, **files) == Limits(4.0, 2000)


def test_machine_without_control_groups_has_no_limits(tmp_path):
    assert read_limits(tmp_path, tmp_path / "none") == NOTHING


def test_less_time_than_cores_is_pointed_at():
    assert check_cores(NOTHING).state is State.OK
    check = check_cores(Limits(0.5, None))
    assert check.state is State.WARN
    assert "--cores 1" in check.mend


def test_cores_that_the_process_may_use_count():
    code = "print(machine_checks.check_cores(machine_checks.Limits(None, None)).found)"
    assert in_a_process(f"import os; os.sched_setaffinity(0, {{0}})\n{code}").startswith("1 of ")


def test_too_little_memory_is_refused():
    check = check_memory(Limits(None, 1000), needed_mb=1500, jobs=1)
    assert (check.state, check.error) == (State.FAIL, ResourceError)
    assert "1000 MB (its control group)" in check.found


def test_memory_for_fewer_jobs_than_cores_is_pointed_at():
    check = check_memory(Limits(None, 1000), needed_mb=300, jobs=16)
    assert check.state is State.WARN
    assert "--cores 3" in check.mend or "--cores 2" in check.mend or "--cores 1" in check.mend
    assert check_memory(NOTHING, needed_mb=1, jobs=1).state is State.OK


def test_ulimit_of_memory_counts():
    code = "print(machine_checks.check_memory(machine_checks.Limits(None, None), 10**5, 1).found)"
    assert in_a_process(code, before="ulimit -v 3000000").startswith("3072 MB (ulimit -v)")


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        ("sse4_2 popcnt avx2 fma avx512f", "ok"),
        ("sse4_2 popcnt avx2 fma", "ok"),
        ("sse4_2 popcnt", "warn"),
        ("sse2", "fail"),
    ],
)
def test_processor_is_judged_by_its_instructions(tmp_path, flags, state, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "cpuinfo").write_text(
        f"processor : 0\nflags\t\t: fpu {flags}\n\nprocessor : 1\nflags : fpu\n"
    )
    assert check_processor(tmp_path / "cpuinfo").state == state


def test_few_open_files_are_pointed_at():
    code = "check = machine_checks.check_files(); print(check.state, check.found, check.mend)"
    assert in_a_process(code, before="ulimit -S -n 200").startswith(
        "warn 200 at a time Large campaigns need 1024: ulimit -n"
    )


def test_clock_that_is_behind_the_software_is_refused():
    assert check_clock().state is State.OK
    assert check_clock(time.mktime((2001, 1, 1, 0, 0, 0, 0, 0, 0))).error is ResourceError


# Disks


def by_name(folder: Path, **options) -> dict[str, object]:
    options = {"needs_locks": True} | options
    return {check.name.removeprefix("disk: "): check for check in check_folder("disk", folder, **options)}


def test_folder_that_is_right_is_left_as_it_was(tmp_path):
    checks = by_name(tmp_path)
    assert set(checks) == {"room", "file system", "speed", "clock", "locks"}
    assert {name for name, check in checks.items() if check.state is State.FAIL} == set()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_there_yet_is_judged_by_the_one_around_it(tmp_path):
    checks = by_name(tmp_path / "a" / "b")
    assert str(tmp_path) in checks["room"].found
    assert not (tmp_path / "a").exists()


def test_full_file_system_that_cannot_be_written_is_refused():
    checks = by_name(Path("/proc/self"))
    assert checks["room"].error is ResourceError
    assert checks["writing"].state is State.FAIL
    assert "speed" not in checks


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no file system in memory here")
def test_file_system_in_memory_is_pointed_at():
    assert by_name(Path("/dev/shm"))["file system"].found == "tmpfs, which is memory"


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "fuse.sshfs", "ceph"])
def test_file_system_over_the_network_is_pointed_at(tmp_path, kind):
    mounts = tmp_path / "mounts"
    place = str(tmp_path.parent).replace(" ", "\\040")
    mounts.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / {place} rw shared:1 - {kind} server:/x rw\n"
    )
    check = by_name(tmp_path, mounts=mounts)["file system"]
    assert (check.state, check.found) == (State.WARN, f"{kind}, over the network")
    assert file_system_of(Path("/"), mounts) == "ext4"


def test_slow_disk_is_pointed_at(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: time.sleep(0.06))
    assert by_name(tmp_path)["speed"].state is State.WARN


def test_clock_of_a_file_server_that_differs_is_refused(tmp_path, monkeypatch):
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 100)
    assert by_name(tmp_path)["clock"].error is TransientError


def test_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert "No locks available" in by_name(tmp_path)["locks"].found
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert by_name(tmp_path)["locks"].found == "a lock does not keep others out"
    assert "locks" not in by_name(tmp_path, needs_locks=False)


def test_cache_that_cannot_be_written_is_refused(tmp_path):
    code = "check = disk_checks.check_cache(); print(check.state, check.mend)"
    (tmp_path / "file").touch()
    assert in_a_process(code, XDG_CACHE_HOME=str(tmp_path / "new" / "cache")) == "ok \n"
    assert in_a_process(code, XDG_CACHE_HOME=str(tmp_path / "file" / "cache")) == (
        "fail Set XDG_CACHE_HOME to a folder of this user\n"
    )
    assert not (tmp_path / "new").exists()


# The campaign


def settings(**sections):
    return check_settings({"inputs": [{"path": "a.h5"}]} | sections)


def test_kernel_that_cannot_be_loaded_is_pointed_at(tmp_path):
    (tmp_path / "kernel.so").write_text("no library")
    check = check_kernel(tmp_path / "kernel.so")
    assert check.state is State.WARN
    assert "sparse_engine.build" in check.mend


def test_bundled_model_scores():
    assert check_model(None, Path()).state is State.OK


def test_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "cnn.onnx").write_text("no model")
    assert check_model(settings(model={"path": "cnn.onnx"}), tmp_path).error is ModelError


def test_model_that_gives_no_probabilities_is_refused(tmp_path):
    write_linear_model(tmp_path / "nan.onnx", np.full_like(linear_weights(), np.nan))
    check = check_model(settings(model={"path": "nan.onnx"}), tmp_path)
    assert check.error is ModelError


def test_inputs_are_found_from_the_working_directory(tmp_path):
    (tmp_path / "a.h5").touch()
    before = Path.cwd()
    assert check_inputs(settings(), tmp_path).found == "1 files"
    assert check_inputs(settings(inputs=[{"path": "b.h5"}]), tmp_path).error is ConfigError
    assert Path.cwd() == before


def test_listed_files_that_are_missing_are_pointed_at(tmp_path):
    (tmp_path / "a.h5").touch()
    (tmp_path / "list.txt").write_text("a.h5\ngone.h5\n")
    check = check_inputs(settings(inputs=[{"path": "@list.txt"}]), tmp_path)
    assert check.state is State.WARN
    assert "1 of 2 files cannot be read, the first is gone.h5" in check.found


@pytest.fixture
def nobody():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"grpc://127.0.0.1:{holder.getsockname()[1]}"


@pytest.mark.parametrize(
    ("policy", "error"), [("endpoint-first", None), ("cooperative", None), ("endpoint-only", ServiceError)]
)
def test_endpoint_that_is_down_stops_only_what_cannot_do_without(nobody, policy, error, tmp_path):
    (check,) = check_endpoints(
        settings(inference={"policy": policy, "endpoints": [{"url": nobody}]}), tmp_path
    )
    assert check.error is error
    assert check.state is (State.FAIL if error else State.WARN)
    assert "Connection refused" in check.found


def test_endpoints_are_not_asked_when_only_the_cpu_works(nobody, tmp_path):
    inference = {"policy": "cpu-only", "endpoints": [{"url": nobody}]}
    assert list(check_endpoints(settings(inference=inference), tmp_path)) == []


def test_token_that_is_not_there_is_a_fault_of_the_configuration(nobody, tmp_path):
    inference = {"endpoints": [{"url": nobody, "token_env": "NO_SUCH_TOKEN"}]}
    (check,) = check_endpoints(settings(inference=inference), tmp_path)
    assert check.error is ConfigError
    assert "NO_SUCH_TOKEN" in check.found + check.mend


def test_profile_and_its_tools_are_checked(tmp_path, monkeypatch):
    (check,) = check_profile_of("default", ROOT)
    assert check.state is State.OK
    shutil.copytree(ROOT / "workflow" / "profiles" / "kubernetes", tmp_path / "mine")
    file = tmp_path / "mine" / "profile.v9+.yaml"
    file.write_text(file.read_text().replace("runtime:", "run_time:").replace("latency-wait", "latency-weit"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "site")
    checks = list(check_profile_of(str(tmp_path / "mine"), ROOT))
    found = {f"{check.state} {check.name}: {check.found}" for check in checks}
    assert "fail site tools: kubectl not found" in found
    assert any(text.startswith("warn other profile") for text in found)
    assert any("did you mean latency-wait?" in text for text in found)
    assert any(text.startswith("warn profile: default-resources.run_time") for text in found)


def test_unknown_profile_is_a_failed_check():
    (check,) = check_profile_of("defualt", ROOT)
    assert (check.error, check.mend) == (ConfigError, "Did you mean 'default'?")


# The command


def test_what_must_be_mended_first_gives_the_exit_code():
    checks = [
        ok("a", ""),
        warn("b", "", ""),
        fail("c", "", "", ServiceError),
        fail("d", "", "", ResourceError),
    ]
    raise_worst(checks[:2])
    with pytest.raises(ResourceError, match=r"2 of 4 checks failed \(found c, d\)"):
        raise_worst(checks)


def test_failure_of_any_class_is_raised():
    with pytest.raises(VerificationError):
        raise_worst([fail("a", "", "", VerificationError)])


def test_command_tells_everything_and_writes_it_down(tmp_path):
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump({"inputs": [{"path": "none.h5"}], "partition": {"zebra": 1}})
    )
    record = tmp_path / "doctor.json"
    output = protosonic(
        "doctor",
        str(tmp_path / "config.yaml"),
        *("--workdir", str(tmp_path / "run"), "--profile", "nowhere", "--json", str(record)),
        expect=ConfigError.exit_code,
    )
    assert "there is no profile" in output
    checks = {check["name"]: check for check in json.loads(record.read_text())["checks"]}
    assert checks["configuration"]["state"] == "fail"
    assert "zebra" in checks["configuration"]["found"]
    assert checks["profile"]["exit_code"] == ConfigError.exit_code
    assert checks["workdir: locks"]["state"] == "ok"
    assert not (tmp_path / "run").exists()


def test_sound_node_exits_with_zero(tmp_path):
    process = subprocess.run(
        [str(BIN / "protosonic"), "doctor", "--workdir", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert process.returncode == 0, process.stdout
    assert "0 fail" in process.stdout
