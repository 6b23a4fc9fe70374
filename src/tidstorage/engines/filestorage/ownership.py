"""What root makes beside somebody's Data.fs is given to whom the Data.fs belongs.

Else their server could not open what a restore by root has left.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def give(paths: Iterable[Path], like: Path) -> None:
    """Give those that exist, folders with all in them, to the owner of ``like``.

    Nothing is done where root does not run this, or ``like`` does not exist.
    """
    if os.geteuid() != 0 or not like.exists():
        return
    owner = like.stat()
    for path in paths:
        for each in _with_all_in(path):
            os.chown(each, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _with_all_in(path: Path) -> Iterator[Path]:
    if os.path.lexists(path):
        yield path
    if path.is_dir() and not path.is_symlink():
        yield from path.rglob("*")
