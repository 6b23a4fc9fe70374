"""What a journal holds, read line by line."""

from pathlib import Path

from tidstorage.points import journal
from tidstorage.points.entries import Entry


def journal_entries(path: Path) -> list[Entry]:
    """The entries, oldest first; [] where there is no journal yet.

    A torn last line and kinds that are not known are left out.

    Raises: FileUnreadable: where an entry is broken.
    """
    entries = [
        journal.parse_line(path, line) for line in journal.read_whole_lines(path)
    ]
    return [entry for entry in entries if entry is not None]
