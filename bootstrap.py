#!/usr/bin/env python3
"""Build, start, stop and test the cluster of this folder.

    python3 bootstrap.py         build: .venv, cluster.toml, bin/, etc/
    python3 bootstrap.py up      build, start, take a first backup
    python3 bootstrap.py down    stop everything; data and backups stay
    python3 bootstrap.py test    install what the tests need, and run them

Needs Python 3.11, 3.12 or 3.13 and nothing else.  Every step can be interrupted
and run again.  What each step printed is in var/log/bootstrap.log.
"""

import argparse
import configparser
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin/python"
FINGERPRINT = ENVIRONMENT / "tidstorage-fingerprint"
LOG = ROOT / "var/log/bootstrap.log"
CLUSTER = ROOT / "bin/cluster"
DESCRIPTION = ROOT / "cluster.toml"
DEFAULT_DESCRIPTION = ROOT / "cluster.default.toml"
SUPPORTED = ((3, 11), (3, 12), (3, 13))
#: What builds the others has to be there first, in the versions of the others.
BUILDERS = ("pip", "setuptools", "wheel")
#: Lines of a failed step's output that are shown; the log has all.
SHOWN_LINES = 15
#: {program that tests need: Debian's packages that have it}
TEST_PROGRAMS = {
    "cron": "cron",
    "crontab": "cron",
    "cc": "gcc libc6-dev",
    "faketime": "faketime",
}
INTERRUPTED = 130


class StepFailed(Exception):
    """What failed, and what to do; ``status`` is the exit status."""

    def __init__(self, what, hint, status=1):
        super().__init__(what)
        self.hint = hint
        self.status = status


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=("build", "up", "down", "test"),
        default="build",
        help="what to do (default: build)",
    )
    action = parser.parse_args().action
    try:
        check_python()
        {"build": build, "up": up, "down": down, "test": test}[action]()
    except StepFailed as failure:
        print(f"error: {failure}\nhint: {failure.hint}", file=sys.stderr)
        return failure.status
    except KeyboardInterrupt:
        print(
            "\ninterrupted; the same command goes on where it stopped", file=sys.stderr
        )
        return INTERRUPTED
    return 0


def check_python():
    if sys.version_info[:2] not in SUPPORTED:
        raise StepFailed(
            f"this is Python {sys.version.split()[0]}",
            "Run it with Python 3.11, 3.12 or 3.13, as in: python3.11 bootstrap.py",
        )


# The steps


def build():
    """The environment, the description and what buildout makes of it."""
    make_environment()
    if not DESCRIPTION.exists():
        # Renamed into place, so that an interruption leaves no half of it.
        beside = DESCRIPTION.with_suffix(".toml.new")
        shutil.copyfile(DEFAULT_DESCRIPTION, beside)
        beside.rename(DESCRIPTION)
        print("cluster.toml: copied from cluster.default.toml")
    buildout = ROOT / "bin/buildout"
    if not works(buildout):
        run(
            "bin/buildout",
            [ENVIRONMENT / "bin/buildout", "-o", "buildout:parts=", "bootstrap"],
            "See the log; a full disk and a wrong owner of this folder are common.",
        )
    before = generated()
    run(
        "bin/buildout: etc/ and bin/ from cluster.toml",
        # Goes to the index for nothing but eggs that cluster.toml asks for.
        [buildout],
        "Correct what it names and run this again.",
    )
    if before == generated():
        print("Nothing had to be built: everything is as cluster.toml says.")


def up():
    build()
    call([CLUSTER, "init"])
    call([CLUSTER, "start"])
    if not has_backup():
        call([CLUSTER, "backup"])
    call([CLUSTER, "status"])
    print("\nZope:", *urls())
    print(
        "The password of user admin is in var/admin-password.  Next:\n"
        "  bin/cluster demo             what a backup is worth without this, and with\n"
        "  bin/cluster backups          the backups there are\n"
        "  bin/cluster cron --install   take one every night"
    )


def down():
    if not CLUSTER.exists():
        print("Nothing is built here, so nothing runs.")
        return
    call([CLUSTER, "stop"])
    print(
        "Stopped.  What stays: the data (var/storage), the backups, the logs and"
        " cluster.toml.\n`python3 bootstrap.py up` starts it again."
    )


def test():
    make_environment()
    install_test_programs()
    # Below it lie unix sockets, whose paths the kernel wants short: not TMPDIR.
    scratch = tempfile.mkdtemp(prefix="t-", dir="/tmp")
    commands = (
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        # Which package may import which: the contracts in pyproject.toml.
        ["lint-imports", "--no-cache"],
        # Tests wait for servers more than they compute: six at a time keep two
        # processors busy.  On a machine that others use too, what fails is tried once
        # more.  It is named in the summary all the same, and tests/first_failures.py
        # keeps what it said.
        [
            *("pytest", "-n", "6", "--dist", "loadfile", "--basetemp", scratch),
            # In the order of the folders: the long modules have few tests, would
            # come last, and leave the other processes with nothing to do.
            "--no-loadscope-reorder",
            *("--reruns", "1", "-r", "R"),
        ],
    )
    try:
        run_all(commands)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run_all(commands):
    for command in commands:
        print(f"\n$ {' '.join(command)}", flush=True)
        program, *arguments = command
        status = subprocess.run(
            [ENVIRONMENT / "bin" / program, *arguments], cwd=ROOT
        ).returncode
        if status:
            raise StepFailed(
                f"{command[0]} ended with status {status}",
                "What it found stands above.",
                status,
            )


# The virtual environment


def make_environment():
    """Make .venv what versions.cfg says, or see that it is."""
    wanted = fingerprint()
    if works(PYTHON) and FINGERPRINT.is_file() and FINGERPRINT.read_text() == wanted:
        return
    FINGERPRINT.unlink(missing_ok=True)
    if not environment_fits():
        require_venv()
        run(
            ".venv: a virtual environment",
            [sys.executable, "-m", "venv", "--clear", ENVIRONMENT],
            "See the log; a full disk and a wrong owner of this folder are common.",
        )
    remove_half_installed()
    pins = read_pins()
    network = "Is a package index reachable?  pip's own configuration says which."
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check"]
    builders = [f"{name}=={pins.pop(name)}" for name in BUILDERS]
    run(f"pip: {', '.join(BUILDERS)}", [*pip, *builders], network)
    everything = [f"{name}=={version}" for name, version in pins.items()]
    run(f"pip: {len(everything)} pinned distributions", [*pip, *everything], network)
    run(
        "pip: this project",
        [*pip, "--no-build-isolation", "--no-deps", "-e", ".", "-e", "recipes"],
        "See the log.",
    )
    FINGERPRINT.write_text(wanted)


def fingerprint():
    """Changes whenever what is installed in .venv would."""
    parts = [str(sys.version_info[:2]), str(ROOT)]
    for name in ("versions.cfg", "pyproject.toml", "recipes/pyproject.toml"):
        parts.append((ROOT / name).read_text())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def environment_fits():
    """Whether .venv works and is of the Python that runs this."""
    probe = "import pip, sys; print(sys.version_info[:2])"
    try:
        found = subprocess.run(
            [PYTHON, "-c", probe], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return found.stdout.strip() == str(sys.version_info[:2])


def remove_half_installed():
    """Let pip install again what an interruption left incomplete.

    pip takes a distribution for installed once its metadata are there, and adds
    its own files to the list of its files last.
    """
    for metadata in ENVIRONMENT.glob("lib/python3*/site-packages/*.dist-info"):
        record = metadata / "RECORD"
        if not record.is_file() or "INSTALLER" not in record.read_text():
            shutil.rmtree(metadata)


def require_venv():
    """Debian takes apart what other Pythons have: say so, or install it."""
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return
    package = f"python3.{sys.version_info[1]}-venv"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise StepFailed(
            "this Python has no venv", f"Install it, as in: apt-get install {package}"
        )
    install_packages([package])


def read_pins():
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str
    parser.read(ROOT / "versions.cfg")
    return dict(parser["versions"])


# What is on the machine


def install_test_programs():
    """cron, a C compiler, faketime: installed when root, named when not."""
    lacking = [names for program, names in TEST_PROGRAMS.items() if not find(program)]
    missing = sorted({package for names in lacking for package in names.split()})
    if not missing:
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        install_packages(missing)
    elif os.environ.get("CI") == "true":
        raise StepFailed(
            f"the tests need {', '.join(missing)}",
            f"As root: apt-get install {' '.join(missing)}",
        )
    else:
        print(
            f"warning: tests that need {', '.join(missing)} will be skipped;"
            f" as root: apt-get install {' '.join(missing)}",
            file=sys.stderr,
        )


def find(program):
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return shutil.which(program, path=path)


def install_packages(packages):
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    hint = f"Install it by hand: apt-get install {' '.join(packages)}"
    # Others may be installing, and a server may be busy, just now.
    apt = ["apt-get", "-o", "Acquire::Retries=5", "-o", "DPkg::Lock::Timeout=300"]
    run("apt-get update", [*apt, "update"], hint, quiet)
    run(
        f"apt-get install {' '.join(packages)}",
        [*apt, "install", "-y", "--no-install-recommends", *packages],
        hint,
        quiet,
    )


def generated():
    """(inode, time of change) of every generated file; the same: not touched."""
    found = {}
    for folder in ("bin", "etc"):
        for path in sorted((ROOT / folder).glob("*")):
            status = path.stat()
            found[path] = (status.st_ino, status.st_mtime_ns)
    return found


def has_backup():
    sets = subprocess.run(
        [CLUSTER, "backups", "--json"], capture_output=True, text=True
    )
    return sets.returncode == 0 and sets.stdout.strip() not in ("", "[]")


def urls():
    status = subprocess.run(
        [CLUSTER, "status", "--json"], capture_output=True, text=True, check=True
    )
    parts = json.loads(status.stdout)["parts"]
    return [f"http://{part['address']}/" for part in parts if part["kind"] == "zope"]


def works(program):
    """Whether a script is there and its interpreter too (the folder may be moved)."""
    try:
        return (
            subprocess.run(
                [program, "--version"], capture_output=True, cwd=ROOT
            ).returncode
            == 0
        )
    except OSError:
        return False


# Running a step


def run(title, command, hint, extra=None):
    """Run a step with its output in the log; show that it goes on."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(map(str, command))}\n".encode())
        log.flush()
        start = log.tell()
        ended = threading.Event()
        ticker = threading.Thread(target=tick, args=(title, began, ended))
        ticker.start()
        try:
            status = subprocess.run(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **(extra or {})},
            ).returncode
        except OSError as error:
            log.write(f"{error}\n".encode())
            status = 127
        finally:
            ended.set()
            ticker.join()
    seconds = time.monotonic() - began
    if status:
        print(f"\r{title}: failed after {seconds:.0f} s")
        with LOG.open("rb") as log:
            log.seek(start)
            lines = log.read().decode(errors="replace").splitlines()
        print("\n".join(f"  {line}" for line in lines[-SHOWN_LINES:]))
        raise StepFailed(f"{title} failed (all of it: {LOG})", hint)
    print(f"\r{title}: done ({seconds:.1f} s)", flush=True)


def tick(title, began, ended):
    """On a terminal count the seconds; elsewhere say once what begins."""
    if not sys.stdout.isatty():
        print(f"{title}...", flush=True)
        return
    while not ended.is_set():
        print(f"\r{title}... {time.monotonic() - began:.0f} s", end="", flush=True)
        ended.wait(0.5)


def call(command):
    """Run one of our own commands, which tell by themselves what they do."""
    status = subprocess.run([str(part) for part in command], cwd=ROOT).returncode
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        name = " ".join(["bin/cluster", *map(str, command[1:])])
        raise StepFailed(
            f"{name} ended with status {status}",
            "What it said stands above; after mending it run this again.",
            status,
        )


if __name__ == "__main__":
    sys.exit(main())
