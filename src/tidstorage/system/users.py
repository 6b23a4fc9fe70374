"""The user a cluster belongs to: commands that root types run as that user.

Otherwise a backup or a start by root would leave files that the cluster's own
user, whom cron and supervisor run as, cannot read or replace.
"""

import grp
import os
import pwd
from collections.abc import Iterable, Iterator
from pathlib import Path

from tidstorage.errors import DescriptionError


def become(user: str | None, group: str | None = None) -> None:
    """Run as another user and group, by name or number, for good.

    None: as now; with a user and no group, as that user's own group.

    Raises: DescriptionError: where one is unknown, or this process may not.
    """
    if user is None and group is None:
        return
    number = None if user is None else _user(user)
    try:
        if group is not None:
            group_number = _group(group)
        elif number is not None:
            group_number = pwd.getpwuid(number).pw_gid
        if (os.getgid(), os.getegid()) != (group_number, group_number):
            if number is not None:
                os.initgroups(pwd.getpwuid(number).pw_name, group_number)
            else:
                os.setgroups([group_number])
            os.setgid(group_number)
        if number is not None and (os.getuid(), os.geteuid()) != (number, number):
            os.setuid(number)
    except PermissionError as error:
        raise DescriptionError(
            f"only root can become user {user or 'itself'}, group {group or 'its own'}",
            "Start it as root, or as that user without --user and --group.",
        ) from error
    except KeyError as error:
        raise DescriptionError(f"there is no user {user!r}") from error


def leave_root(user: str | None) -> None:
    """Change a process of root's to the user, for good; others stay what they are.

    None: nothing is done.

    Raises: DescriptionError: where there is no such user.
    """
    if user is None or os.geteuid() != 0:
        return
    entry = _entry(user)
    # Also where root has the user's group: none of root's other groups is kept.
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
    """Give paths to the user, where root runs this; else nothing is done.

    None: nothing is done.

    Raises: DescriptionError: where there is no such user.
    """
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


def give_like(paths: Iterable[Path], like: Path) -> None:
    """Give the paths that exist, folders with all in them, to the owner of ``like``.

    Nothing is done where root does not run this, or ``like`` does not exist.
    """
    if os.geteuid() != 0 or not like.exists():
        return
    owner = like.stat()
    for path in paths:
        for owned in _list_tree(path):
            os.chown(owned, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _list_tree(path: Path) -> Iterator[Path]:
    if os.path.lexists(path):
        yield path
    if path.is_dir() and not path.is_symlink():
        yield from path.rglob("*")


def _user(user: str) -> int:
    try:
        return int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise DescriptionError(f"there is no user {user!r}") from None


def _group(group: str) -> int:
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise DescriptionError(f"there is no group {group!r}") from None
