"""The files of a blob directory, in either of ZODB's layouts, by their TIDs.

The folders tell a blob's object; the file's name is the transaction's TID.  ZODB makes
a path of the two and opens it, so that it follows links and mounts, and never looks
into a folder of another name.  Here it is the same.
"""

import errno
import filecmp
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from ZODB.blob import LAYOUTS

from tidstorage.engines.filestorage.copying import errors_named
from tidstorage.errors import FileUnreadable, TargetExists
from tidstorage.system import durable

#: Name of the file that ZODB writes into every blob directory that it opens.
MARKER = ".layout"
_NAME = re.compile(r"0x([0-9a-f]{1,16})\.blob")
#: One byte of an oid (``bushy``), or all of them without leading zeros (``lawn``).
_FOLDER = re.compile(r"0x(?:[0-9a-f]{2}){1,8}")
#: How many folders are nested in each other at most.
_DEPTH = 8
#: What file systems and ZODB itself keep beside the folders of objects.
_WELL_KNOWN = frozenset({"tmp", "lost+found"})


def tid_of(path: Path) -> int | None:
    """The TID of the transaction that wrote the blob; None: that is no blob."""
    match = _NAME.fullmatch(path.name)
    return int(match[1], 16) if match else None


def blob_files(directory: Path) -> Iterator[tuple[Path, int]]:
    """(path, TID) of every blob that ZODB would find; not what is still being written.

    Links and mounts are followed.  The name of a blob that is no file, such as a link
    to nothing, is passed over, and so is a folder that a pack removes meanwhile.

    Raises: FileUnreadable: where ZODB would look into a folder that cannot be read, is
        a link to nothing, or leads back to a folder that it is in.
    """
    for _, entries in _walk(directory):
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match and _is_file(entry):
                yield Path(entry.path), int(match[1], 16)


def find_links(directory: Path) -> list[Path]:
    """Links to folders, in which ZODB would look for blobs.

    Raises: FileUnreadable: as `blob_files`.
    """
    return [
        Path(folder)
        for folder, _ in _walk(directory)
        if folder != os.fspath(directory) and Path(folder).is_symlink()
    ]


def _walk(directory: Path) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """(path, all else that is in it), of every folder that ZODB may look into.

    Raises: FileUnreadable: as `blob_files`.
    """
    pending = [(os.fspath(directory), 0)]
    while pending:
        folder, depth = pending.pop()
        folders, others = [], []
        for entry in _list(folder):
            if not _FOLDER.fullmatch(entry.name):
                others.append(entry)
            elif depth < _DEPTH and _is_folder(entry, directory):
                folders.append((entry.path, depth + 1))
        yield folder, others
        pending += reversed(folders)


def _list(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder, by name; nothing where there is none any more."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(path: str, error: OSError) -> FileUnreadable:
    return FileUnreadable(
        f"{path} cannot be read, and ZODB looks for blobs there: {error.strerror}",
        "Make it readable for the user of the cluster, or mount its disk.",
    )


def _is_folder(entry: os.DirEntry[str], directory: Path) -> bool:
    """Whether it is a folder, or a link to one.

    Raises: FileUnreadable: it is a link that leads to nothing, or back.
    """
    path = Path(entry.path)
    try:
        if not entry.is_symlink():
            return entry.is_dir()
        found = path.stat()
        above = path.parents[: len(path.relative_to(directory).parents)]
        is_cycle = any(os.path.samestat(found, folder.stat()) for folder in above)
    except FileNotFoundError as error:
        raise FileUnreadable(
            f"{path} is a link to {path.readlink()}, which is not there,"
            " and ZODB looks for blobs in it",
            "Is its disk mounted? If nothing belongs there, remove the link.",
        ) from error
    except OSError as error:
        raise _unreadable(entry.path, error) from error
    if is_cycle:
        raise FileUnreadable(
            f"{entry.path} is a link to a folder that it is in",
            "Remove the link: there is no end of blobs behind it.",
        )
    return stat.S_ISDIR(found.st_mode)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link to one.

    Raises: FileUnreadable: nobody can tell.
    """
    try:
        return entry.is_file()
    except OSError as error:
        raise _unreadable(entry.path, error) from error


def is_blob_there(directory: Path, path: str) -> bool:
    """Whether ZODB would find the blob of that path in the blob directory.

    Raises: FileUnreadable: nobody can tell.
    """
    full = directory / path
    try:
        return stat.S_ISREG(full.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(str(full), error) from error


def find_other_folders(directory: Path) -> list[Path]:
    """Folders in the blob directory that ZODB never looks into, and did not make.

    Hidden ones, as snapshots are, and ``lost+found`` are not among them.

    Raises: FileUnreadable: the blob directory cannot be read.
    """
    return [
        Path(entry.path)
        for entry in _list(os.fspath(directory))
        if not _FOLDER.fullmatch(entry.name)
        and not entry.name.startswith(".")
        and entry.name not in _WELL_KNOWN
        and entry.is_dir(follow_symlinks=False)
    ]


def read_layout(directory: Path) -> str:
    """ZODB's name of how folders are nested in the blob directory.

    Raises: FileUnreadable: it is none that a storage can have.
    """
    path = directory / MARKER
    try:
        layout = path.read_text(errors="backslashreplace").strip()
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from error
    # ZEO adds the layout of a client's cache to those that ZODB knows.
    if layout not in ("bushy", "lawn"):
        raise FileUnreadable(
            f"{directory} is laid out as {layout!r}, by its {MARKER}: no blob directory"
            " of a storage is",
            "blob-dir has to be the folder that the ZEO server writes, and not the"
            " cache of a client.",
        )
    return layout


def blob_path(layout: str, oid: bytes, tid: int) -> str:
    """Where ZODB keeps a blob, relative to the blob directory.

    layout: as `read_layout` gives it.
    """
    return str(LAYOUTS[layout].getBlobFilePath(oid, tid.to_bytes(8, "big")))


def key_of_path(layout: str, path: str) -> tuple[bytes, int] | None:
    """(oid, TID) of the blob that ZODB keeps there; None where it keeps none there."""
    folder, name = os.path.split(path)
    number = tid_of(Path(name))
    try:
        oid = LAYOUTS[layout].path_to_oid(folder)
    except ValueError:
        return None
    return None if number is None else (oid, number)


def above(directory: Path, last: int) -> list[Path]:
    """The blobs of transactions above the TID ``last``."""
    return [path for path, number in blob_files(directory) if number > last]


def move_above(directory: Path, last: int, kept: Path) -> None:
    """Move the blobs above the TID ``last`` to ``kept``, below the same folders.

    A second run after a crash ends what the first began.

    Raises:
      NoSpace: where they find no room
      EngineFailed: where another file is there, or the system fails
    """
    for path in above(directory, last):
        target = kept / path.relative_to(directory)
        with errors_named(target):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _move(path, target)


def _move(path: Path, target: Path) -> None:
    """Move durably, also to another file system; at any time it is in one of the two.

    Raises: EngineFailed: where another file is at the target.
    """
    if target.exists():
        if not filecmp.cmp(path, target, shallow=False):
            raise TargetExists(
                f"{target} holds what was dropped another time", "Move it away first."
            )
        path.unlink()
        return
    try:
        if path.is_symlink():
            # Elsewhere the link might lead to nothing.
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(path, target)
        path.unlink()
    durable.sync_folder(target.parent)


def _copy(path: Path, target: Path) -> None:
    beside = target.with_name(f".{target.name}.copying")
    shutil.copy2(path, beside)
    durable.sync_file(beside)
    beside.rename(target)
    durable.sync_folder(target.parent)
