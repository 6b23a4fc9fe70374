"""Blobs in the backup directory: the pool they are in, and the lists that name them.

A pool holds the blobs of one storage, of all sets, each under its SHA-256.  A list is
a header in JSON, and a line for each blob: SHA-256, size in bytes, and the path in the
blob directory.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.engines.filestorage.blob_files import read_layout, tid_of
from tidstorage.errors import SetDamaged, SetUnreadable
from tidstorage.sets.manifest import StoredFile
from tidstorage.system import durable, presence, private_files

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob of a set: its path in the blob directory, and what its file holds.

    size: in bytes.
    """

    path: str
    size: int
    sha256: str

    @property
    def tid(self) -> int:
        """TID of the transaction that wrote it.

        Raises: NotCoherent: where the path is none of a blob.
        """
        number = tid_of(Path(self.path))
        if number is None:
            raise SetDamaged(f"not the path of a blob: {self.path}")
        return number


@dataclass(frozen=True, slots=True)
class BlobList:
    """What one or more lists say.

    layout: ZODB's name of how folders are nested in the blob directory.
    """

    layout: str
    blobs: tuple[StoredBlob, ...]


def pool_path(pool: Path, sha256: str) -> Path:
    """Where the pool keeps a file of that digest."""
    return pool / sha256[:2] / sha256[2:]


def list_path(pool: Path, set_id: str) -> Path:
    """Where the list of what one set adds is kept."""
    return pool / "lists" / set_id


def pool_of_list(path: Path) -> Path:
    """The pool that a list is in: the way back from ``list_path``."""
    return path.parents[1]


def write_list(
    pool: Path, set_id: str, blob_directory: Path, new: Sequence[StoredBlob]
) -> Path:
    """Write the list of the blobs that one set adds, and return its path.

    blob_directory: where they are from.

    Raises: FileUnreadable: that is no blob directory of a storage.
    """
    header = {
        "version": FORMAT_VERSION,
        "layout": read_layout(blob_directory),
    }
    lines = [json.dumps(header)]
    lines += [f"{blob.sha256} {blob.size} {blob.path}" for blob in new]
    path = list_path(pool, set_id)
    private_files.make_folder(path.parent)
    durable.replace_text(path, "\n".join(lines) + "\n")
    return path


def read_lists(directory: Path, lists: Sequence[StoredFile]) -> BlobList:
    """What the lists of a storage in a set say together.

    directory: the backup directory.  Of a path that stands in several lists the last
    one holds.

    Raises:
      NotCoherent: a list is not there, or is not what was written.
      SetUnreadable: a list could not be read.
    """
    blobs: dict[str, StoredBlob] = {}
    # Where there is no list there is no blob to be put anywhere.
    layout = "bushy"
    for stored in lists:
        try:
            content = (directory / stored.path).read_bytes()
        except presence.ABSENT as error:
            raise SetDamaged(f"{stored.path}: {error.strerror}") from error
        except OSError as error:
            raise SetUnreadable(
                f"{directory / stored.path} cannot be read: {presence.describe(error)}"
            ) from error
        if hashlib.sha256(content).hexdigest() != stored.sha256:
            raise SetDamaged(f"{directory / stored.path} is not what was written")
        first, *lines = content.decode().splitlines()
        layout = json.loads(first)["layout"]
        for line in lines:
            sha256, size, path = line.split(" ", 2)
            blobs[path] = StoredBlob(path, int(size), sha256)
    return BlobList(layout, tuple(blobs.values()))
