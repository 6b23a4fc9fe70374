"""Refuses files that somebody else could read, replace or redirect."""

import logging
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tidstorage.errors import NotPermitted, Unprotected

logger = logging.getLogger(__name__)

#: (class of users, its right to read a file, its right to pass through a folder)
_CLASSES = (
    ("group", stat.S_IRGRP, stat.S_IXGRP),
    ("others", stat.S_IROTH, stat.S_IXOTH),
)


def refuse_other_owner(folder: Path) -> None:
    """Refuse a folder of another user, who could replace everything in it.

    A folder of root's is as good as ours.  Root is refused too: it would follow the
    links that the owner puts there.

    Raises: NotPermitted: where the folder is neither ours nor root's.
    """
    owner = folder.stat().st_uid
    if owner not in (0, os.geteuid()):
        raise NotPermitted(
            f"{folder} belongs to {_name(owner)}, not to {_name(os.geteuid())}",
            "Run it as that user ([cluster] user, where root runs it), or give the"
            " folder to the one who runs it.",
        )


def _name(user: int) -> str:
    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user {user}"


def refuse_links(paths: Iterable[Path]) -> None:
    """Refuse symbolic links: what is written would go elsewhere.

    Raises: Unprotected: where one of the paths is a symbolic link.
    """
    for path in paths:
        if path.is_symlink():
            raise _is_link(path)


def refuse_links_in(folder: Path) -> None:
    """Refuse symbolic links in a folder, as `refuse_links` does.

    The folder tells which of its entries are links: one that cannot be looked at
    itself, on a disk that fails, is none.
    """
    with os.scandir(folder) as entries:
        links = [Path(entry.path) for entry in entries if entry.is_symlink()]
    for path in links:
        raise _is_link(path)


def _is_link(path: Path) -> Unprotected:
    return Unprotected(
        f"{path} is a symbolic link, to {path.readlink()}",
        "No program of ours made it: find out who did, then remove it.",
    )


def refuse_more_readable(top: Path, copies: Path, data_file: Path) -> None:
    """Refuse copies that can be read by users who cannot read the data.

    copies: a folder below ``top``, or ``top`` itself.  Folders above ``top`` are not
    looked at: they are not ours, and may be opened for others at any time.

    Raises: Unprotected: where a copy can be read by more users than its data file.
    """
    for users, may_read, may_pass in _CLASSES:
        if _may(data_file, may_read) and _may(data_file.parent, may_pass):
            continue
        folders = [path for path in (copies, *copies.parents) if _within(path, top)]
        if not all(_may(folder, may_pass) for folder in folders):
            continue
        for path in _files(copies):
            if _may_for_certain(path, may_read):
                raise Unprotected(
                    f"{path} can be read by {users}, and {data_file} cannot",
                    f"chmod -R go-rwx {top}",
                )


def _within(folder: Path, top: Path) -> bool:
    return folder == top or top in folder.parents


def _may(path: Path, right: int) -> bool:
    return bool(path.stat().st_mode & right)


def _may_for_certain(path: Path, right: int) -> bool:
    """Whether users have that right; not where nobody can tell, which is logged.

    A copy that cannot be looked at is no reason to go without the next one.
    """
    try:
        return _may(path, right)
    except OSError as error:
        logger.warning("who may read %s is not known: %s", path, error.strerror)
        return False


def _files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
