"""Files and folders of a backup: for their owner alone, and what a full disk means."""

import os
from pathlib import Path

from tidstorage.errors import NoSpace

#: Data may be secret: for the owner alone.
FOLDER_MODE = 0o700
FILE_MODE = 0o600

#: In a set's folder, until the set is made: what was there before it began.
BEGUN = "begun.json"
#: In a set's folder: the copy of the daemon's TID log.
TID_LOG = "tid.log"


def make_folder(folder: Path) -> None:
    """The folder, and those above that are missing, for the owner alone."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)


def create_private(path: Path) -> int:
    """A descriptor of a new, empty file that only its owner may read.

    Raises: OSError: where there is a link: whoever put it there would choose what
    to write.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    return os.open(path, flags, FILE_MODE)


def no_space(error: OSError, folder: Path) -> NoSpace:
    """The error to report when a file of the backup could not be written."""
    return NoSpace(
        f"{error.filename or folder} cannot be written: {error.strerror}",
        "Make room and run the backup again; earlier sets are as good as before.",
    )
