"""What people know of one transaction: who made it, and what for."""

import os
from dataclasses import dataclass
from pathlib import Path

from tidstorage.engines.filestorage.data_file import DataFile
from tidstorage.engines.filestorage.extension import stamp_of
from tidstorage.engines.filestorage.format import HEADER


@dataclass(frozen=True, slots=True)
class Description:
    """user, description: as the record has them, in UTF-8 as far as they are.

    commit_id: of its stamp; None where it has none.
    """

    user: str
    description: str
    commit_id: bytes | None


def describe(path: Path, tid: int) -> Description | None:
    """Of the transaction with just that TID; None where the file has none.

    FileUnreadable where the file is missing, of another kind, or broken.
    """
    with DataFile(path) as data_file:
        found = next(data_file.forward(data_file.boundary_after(tid - 1)), None)
        if found is None or found.tid != tid:
            return None
        header = os.pread(data_file.descriptor, HEADER.size, found.position)
        user, description = HEADER.unpack(header)[3:5]
        text = os.pread(
            data_file.descriptor, user + description, found.position + HEADER.size
        )
    stamp = stamp_of(found.extension, {}) if found.extension else None
    return Description(
        text[:user].decode(errors="replace"),
        text[user:].decode(errors="replace"),
        None if stamp is None else stamp.commit_id,
    )
