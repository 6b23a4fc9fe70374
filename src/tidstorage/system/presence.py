"""Is something there?  "No" is told apart from "nobody could look"."""

from pathlib import Path

#: What the system says where a file or folder is surely not there.
ABSENT = (FileNotFoundError, NotADirectoryError)


def is_there(path: Path) -> bool:
    """Whether a file or folder has that path; a link counts as what it leads to.

    The questions of pathlib and os.path answer some errors, or all, with "no".

    Raises: OSError: where it could not be looked at: nobody knows.
    """
    try:
        path.stat()
    except ABSENT:
        return False
    return True


def describe(error: OSError) -> str:
    """What the system said, in words."""
    return error.strerror or str(error)
