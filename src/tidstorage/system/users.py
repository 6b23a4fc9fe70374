"""The user a cluster belongs to: commands that root types run as that user.

Otherwise a backup or a start by root would leave files that the cluster's own
user, whom cron and supervisor run as, cannot read or replace.
"""

import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from tidstorage.errors import DescriptionError


def become(user: str | None) -> None:
    """Change this process, when it is root's, to the user; for good.

    None, or not being root: nothing is done.  DescriptionError for an unknown
    user.
    """
    if user is None or os.geteuid() != 0:
        return
    entry = _entry(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)


def owner(path: Path) -> str:
    """Whom a file or folder belongs to: a name, or a number where it has none."""
    number = path.stat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def hand_over(user: str | None, paths: Iterable[Path]) -> None:
    """Give paths to the user, when root made them; as `become` otherwise."""
    if user is None or os.geteuid() != 0:
        return
    entry = _entry(user)
    for path in paths:
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise DescriptionError(
            f"there is no user {user}", "Make it, or correct [cluster] user."
        ) from None
