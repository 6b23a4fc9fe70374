"""The cluster's entries in a user's crontab: a block of its own, all else kept."""

import os
import re
import subprocess
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import DescriptionError, EngineFailed, PartMissing

_BEGIN = "# BEGIN tidstorage, cluster "
_END = "# END tidstorage, cluster "
_NO_CRONTAB = re.compile(r"no crontab for ", re.IGNORECASE)


def without_block(text: str, owner: Path) -> str:
    """The crontab without the blocks of the cluster whose file is ``owner``.

    ValueError where a block does not end: what follows may be the user's.
    """
    before, after = _around_block(text, owner)
    return before + after


def with_block(text: str, entries: str, owner: Path) -> str:
    """The crontab with these entries in the cluster's block, where it stood.

    A new block goes to the end.  Without an entry there is to be no block.
    """
    before, after = _around_block(text, owner)
    if not has_entry(entries):
        return before + after
    return (
        _as_lines(before)
        + f"{_BEGIN}{owner}\n{_as_lines(entries)}{_END}{owner}\n"
        + after
    )


def _around_block(text: str, owner: Path) -> tuple[str, str]:
    """What stands before the first block, and what is outside blocks after it."""
    before: list[str] = []
    after: list[str] = []
    outside = before
    inside = False
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        if bare == f"{_BEGIN}{owner}":
            if inside:
                raise ValueError("a block begins inside another")
            inside = True
            outside = after
        elif bare == f"{_END}{owner}" and inside:
            inside = False
        elif not inside:
            outside.append(line)
    if inside:
        raise ValueError("a block has no end")
    return "".join(before), "".join(after)


def _as_lines(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def has_entry(entries: str) -> bool:
    """Whether there is a line that is neither empty nor a comment."""
    lines = (line.strip() for line in entries.splitlines())
    return any(line and not line.startswith("#") for line in lines)


def schedules(cluster: Cluster) -> dict[str, str | None]:
    """{verb: five crontab fields, or None where cron does not run it}"""
    return {
        "backup": cluster.backup.schedule,
        "verify": cluster.verify.schedule,
        "prune": cluster.retention.schedule,
        "pack": cluster.pack.schedule,
    }


def rendered(cluster: Cluster) -> Path:
    """Where the entries are, as they go into a user's crontab."""
    return cluster.etc_directory / "crontab"


def rendered_for_system(cluster: Cluster) -> Path:
    """Where they are as a file for /etc/cron.d, which names the user."""
    return cluster.etc_directory / "crontab.system"


def entries_of(cluster: Cluster) -> str:
    """What is rendered for the cluster; DescriptionError where nothing is yet."""
    path = rendered(cluster)
    try:
        return path.read_text()
    except OSError as error:
        raise DescriptionError(
            f"{path}: {error.strerror}", "bin/buildout makes it."
        ) from error


def read(cluster: Cluster) -> str:
    """The user's crontab; empty where there is none."""
    result = _crontab(cluster, "-l")
    if result.returncode == 0:
        return result.stdout
    if _NO_CRONTAB.search(result.stderr):
        return ""
    raise EngineFailed(
        f"crontab -l: {result.stderr.strip()}", "May this user have a crontab?"
    )


def installed(cluster: Cluster, text: str) -> str:
    """The crontab ``text`` with the cluster's present entries."""
    try:
        return with_block(text, entries_of(cluster), cluster.file)
    except ValueError as error:
        raise _broken(cluster, error) from error


def removed(cluster: Cluster, text: str) -> str:
    """The crontab ``text`` without the cluster's entries."""
    try:
        return without_block(text, cluster.file)
    except ValueError as error:
        raise _broken(cluster, error) from error


def _broken(cluster: Cluster, error: ValueError) -> DescriptionError:
    return DescriptionError(
        f"in the crontab, {error}",
        f'Mend it by hand (crontab -e): "{_BEGIN}{cluster.file}" needs its'
        f' "{_END}{cluster.file}".',
    )


def write(cluster: Cluster, text: str) -> None:
    """Replace the user's crontab; the old one stays where cron refuses it."""
    argument = "-" if text.strip() else "-r"
    result = _crontab(cluster, argument, text)
    if result.returncode != 0:
        raise DescriptionError(
            f"cron refuses the crontab: {result.stderr.strip()}",
            "Is each schedule in cluster.toml right? Nothing has been changed.",
        )


def _crontab(
    cluster: Cluster, argument: str, text: str = ""
) -> "subprocess.CompletedProcess[str]":
    command = ["crontab"]
    if cluster.user is not None and os.geteuid() == 0:
        command += ["-u", cluster.user]
    try:
        return subprocess.run(
            [*command, argument],
            input=text,
            capture_output=True,
            encoding="utf-8",
            # Whatever else is in it goes back as it came.
            errors="surrogateescape",
        )
    except FileNotFoundError as error:
        raise PartMissing(
            "there is no crontab program here", "apt-get install cron"
        ) from error
