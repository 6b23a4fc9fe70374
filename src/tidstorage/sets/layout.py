"""Where things are in a backup directory.

``storages/<id>/`` is a plain repozo repository; ``blobs/<id>/`` a pool of blobs
and the lists that name them; ``sets/<set id>/`` one set: its manifest, written
last, and its copy of the TID log.  ``tidstorage-backup.json`` marks the whole.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tidstorage.errors import NoSpace

#: Data may be secret: for the owner alone.
FOLDER_MODE = 0o700
FILE_MODE = 0o600

BEGUN = "begun.json"
#: Tells one backup directory from another, and from the folder of a missing disk.
MARKER = "tidstorage-backup.json"
TID_LOG = "tid.log"


def repository(directory: Path, storage_id: str) -> Path:
    """The repozo repository of one storage."""
    return directory / "storages" / storage_id


def pool(directory: Path, storage_id: str) -> Path:
    """The blobs of one storage, of all sets."""
    return directory / "blobs" / storage_id


def pools(directory: Path) -> list[Path]:
    """The pools of all storages that ever had one here."""
    return [*(directory / "blobs").glob("*")]


def sets(directory: Path) -> Path:
    """The folder with a folder for each set."""
    return directory / "sets"


def folders(directory: Path, storage_ids: Iterable[str]) -> Iterator[Path]:
    """Those that a backup writes to."""
    yield sets(directory)
    yield directory / "storages"
    yield directory / "blobs"
    for each in storage_ids:
        yield repository(directory, each)
        yield pool(directory, each)


def make_folder(folder: Path) -> None:
    """The folder, and those above that are missing, for the owner alone."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=FOLDER_MODE, exist_ok=True)


def create_private(path: Path) -> int:
    """A descriptor of a new, empty file that only its owner may read.

    OSError where there is a link: whoever put it there would choose what to write.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    return os.open(path, flags, FILE_MODE)


def no_space(error: OSError, folder: Path) -> NoSpace:
    """The error to report when a file of the backup could not be written."""
    return NoSpace(
        f"{error.filename or folder} cannot be written: {error.strerror}",
        "Make room and run the backup again; earlier sets are as good as before.",
    )
