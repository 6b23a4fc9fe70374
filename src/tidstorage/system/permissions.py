"""Could somebody else read, replace or redirect what is backed up or restored?"""

import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tidstorage.errors import NotPermitted, Unprotected

#: (class of users, its right to read a file, its right to pass through a folder)
_CLASSES = (
    ("group", stat.S_IRGRP, stat.S_IXGRP),
    ("others", stat.S_IROTH, stat.S_IXOTH),
)


def refuse_other_owner(folder: Path) -> None:
    """NotPermitted where the folder is somebody else's, who could replace all in it.

    One that is root's is as good as ours.  Root is refused too: it would follow
    what the owner puts there.
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
    """Unprotected where one is a symbolic link: what is written would go elsewhere."""
    for path in paths:
        if path.is_symlink():
            raise Unprotected(
                f"{path} is a symbolic link, to {path.readlink()}",
                "Nothing of ours puts one there: find out who did, then remove it.",
            )


def refuse_more_readable(top: Path, copies: Path, data_file: Path) -> None:
    """Unprotected where copies can be read by those who cannot read the data.

    copies: a folder below ``top``, or it.  Folders above ``top`` are not looked at:
    they are not ours, and may be opened any time.
    """
    for users, may_read, may_pass in _CLASSES:
        if _may(data_file, may_read) and _may(data_file.parent, may_pass):
            continue
        folders = [each for each in (copies, *copies.parents) if _within(each, top)]
        if not all(_may(each, may_pass) for each in folders):
            continue
        for path in _files(copies):
            if _may(path, may_read):
                raise Unprotected(
                    f"{path} can be read by {users}, and {data_file} cannot",
                    f"chmod -R go-rwx {top}",
                )


def _within(folder: Path, top: Path) -> bool:
    return folder == top or top in folder.parents


def _may(path: Path, right: int) -> bool:
    return bool(path.stat().st_mode & right)


def _files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
