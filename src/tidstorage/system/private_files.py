"""New files and folders that only their owner may read: what is in them may be secret.

A file of text that is replaced as a whole is written by `tidstorage.system.durable`.
"""

import os
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def make_folder(folder: Path) -> None:
    """Make the folder, and those above it that are missing, for the owner alone."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)


def create(path: Path) -> int:
    """Create an empty file that only its owner may read, and return its descriptor.

    A file that is there is emptied, and keeps the mode that it has.

    Raises: OSError: also where the path is a symbolic link.
    """
    # Whoever could put a link there would choose which file is overwritten.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    return os.open(path, flags, FILE_MODE)
