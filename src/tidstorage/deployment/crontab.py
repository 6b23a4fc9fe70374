"""The cluster's entries in a user's crontab: a block of its own, all else kept."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tidstorage.cluster.cluster import Cluster
from tidstorage.errors import DescriptionError, PartMissing, ProgramFailed

_BEGIN = "# BEGIN tidstorage, cluster "
_END = "# END tidstorage, cluster "
_NO_CRONTAB = re.compile(r"no crontab for ", re.IGNORECASE)


def remove_block(text: str, owner: Path) -> str:
    """The crontab without the blocks of the cluster whose description is ``owner``.

    Raises: ValueError: where a block does not end: what follows may be the user's.
    """
    before, after = _around_block(text, owner)
    return before + after


def put_block(text: str, entries: str, owner: Path) -> str:
    """The crontab with these entries in the cluster's block, where the block was.

    A new block is put at the end.  Without any entry there is no block.

    Raises: ValueError: where a block does not end.
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


def list_schedules(cluster: Cluster) -> dict[str, str | None]:
    """{verb: five crontab fields, or None where cron does not run it}"""
    return {
        "backup": cluster.backup.schedule,
        "verify": cluster.verify.schedule,
        "prune": cluster.retention.schedule,
        "pack": cluster.pack.schedule,
    }


def user_file(cluster: Cluster) -> Path:
    """The generated file of the entries, as they are put into a user's crontab."""
    return cluster.etc_directory / "crontab"


def system_file(cluster: Cluster) -> Path:
    """The generated file of the entries for /etc/cron.d, where each names the user."""
    return cluster.etc_directory / "crontab.system"


def read_entries(cluster: Cluster) -> str:
    """The generated entries of the cluster.

    Raises: DescriptionError: where they have not been generated.
    """
    path = user_file(cluster)
    try:
        return path.read_text()
    except OSError as error:
        raise DescriptionError(
            f"{path}: {error.strerror}", "bin/buildout makes it."
        ) from error


def read_crontab(cluster: Cluster) -> str:
    """The user's crontab; empty where there is none.

    Raises:
      EngineFailed: where cron does not show it.
      PartMissing: where there is no cron.
    """
    result = _crontab(cluster, "-l")
    if result.returncode == 0:
        return result.stdout
    if _NO_CRONTAB.search(result.stderr):
        return ""
    raise ProgramFailed(
        f"crontab -l: {result.stderr.strip()}", "May this user have a crontab?"
    )


@dataclass(frozen=True, slots=True)
class CrontabChange:
    """The user's crontab as it is, and as it would be."""

    cluster: Cluster
    before: str
    after: str

    @property
    def is_needed(self) -> bool:
        """Whether the crontab is not yet as it should be."""
        return self.before != self.after

    def perform(self) -> None:
        """Replace the crontab, where that is needed.

        Raises:
          DescriptionError: where cron refuses it; the old one then stays.
          PartMissing: where there is no cron.
        """
        if self.is_needed:
            write_crontab(self.cluster, self.after)


def plan_installation(cluster: Cluster) -> CrontabChange:
    """What puts the cluster's entries into the crontab, as they are generated now.

    Raises:
      DescriptionError: where they are not there, or a block does not end.
      EngineFailed: where cron does not show the crontab.
      PartMissing: where there is no cron.
    """
    entries = read_entries(cluster)
    before = read_crontab(cluster)
    try:
        return CrontabChange(cluster, before, put_block(before, entries, cluster.file))
    except ValueError as error:
        raise _broken(cluster, error) from error


def plan_removal(cluster: Cluster) -> CrontabChange:
    """What takes the cluster's entries out of the crontab.

    Raises: as `plan_installation`; the entries need not have been generated.
    """
    before = read_crontab(cluster)
    try:
        return CrontabChange(cluster, before, remove_block(before, cluster.file))
    except ValueError as error:
        raise _broken(cluster, error) from error


def _broken(cluster: Cluster, error: ValueError) -> DescriptionError:
    return DescriptionError(
        f"in the crontab, {error}",
        f'Mend it by hand (crontab -e): "{_BEGIN}{cluster.file}" needs its'
        f' "{_END}{cluster.file}".',
    )


def write_crontab(cluster: Cluster, text: str) -> None:
    """Replace the user's crontab; the old one stays where cron refuses the new one.

    Raises:
      DescriptionError: where cron refuses it.
      PartMissing: where there is no cron.
    """
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
