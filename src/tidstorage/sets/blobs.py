"""Blobs in the backup directory: the pool they lie in, and the lists that name them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidstorage.engines.filestorage.blob_files import tid_of
from tidstorage.errors import NotCoherent
from tidstorage.sets.manifest import StoredFile
from tidstorage.system import durable, private_files

FORMAT_VERSION = 1


#: ZODB writes it into every blob directory that it opens.
MARKER = ".layout"


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One blob: its path in the blob directory, and what its file holds."""

    path: str
    size: int
    sha256: str

    @property
    def tid(self) -> int:
        """The transaction that wrote it."""
        number = tid_of(Path(self.path))
        if number is None:
            raise NotCoherent(f"not the path of a blob: {self.path}")
        return number


@dataclass(frozen=True, slots=True)
class BlobList:
    """What one or more lists say; ``layout`` is ZODB's name of the folders' order."""

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
    """The list of what one set adds."""
    header = {
        "version": FORMAT_VERSION,
        "layout": (blob_directory / MARKER).read_text().strip(),
    }
    lines = [json.dumps(header)]
    lines += [f"{each.sha256} {each.size} {each.path}" for each in new]
    path = list_path(pool, set_id)
    private_files.make_folder(path.parent)
    durable.replace_text(path, "\n".join(lines) + "\n")
    return path


def read_lists(directory: Path, lists: Sequence[StoredFile]) -> BlobList:
    """What lists of one set say together; NotCoherent where one is not sound."""
    found: dict[str, StoredBlob] = {}
    order = "bushy"
    for stored in lists:
        try:
            content = (directory / stored.path).read_bytes()
        except OSError as error:
            raise NotCoherent(f"{stored.path}: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != stored.sha256:
            raise NotCoherent(f"{directory / stored.path} is not what was written")
        first, *lines = content.decode().splitlines()
        order = json.loads(first)["layout"]
        for line in lines:
            sha256, size, path = line.split(" ", 2)
            found[path] = StoredBlob(path, int(size), sha256)
    return BlobList(order, tuple(found.values()))
