"""The manifest of a backup set: what the set is made of, and what it is good for.

It is written last and atomically; a set without one does not exist.  The file
holds the manifest and its SHA-256, so that a damaged one is never believed.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from tidstorage.errors import SetDamaged, SetUnreadable
from tidstorage.sets.stored import (
    StoredCommitId,
    StoredLoss,
    StoredPoint,
    StoredTid,
    StoredTime,
    StoredVector,
    Text,
)
from tidstorage.system import durable, json_file, presence

FORMAT_VERSION = 1
FILE_NAME = "manifest.json"

#: What a backup added to the repozo repository of a storage: a full copy, an
#: increment, or nothing, since there was nothing new.
CopyKind = Literal["full", "incremental", "unchanged"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a set: its path in the backup directory, its bytes and SHA-256."""

    path: Text
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Range:
    """Which part of a Data.fs a file holds: bytes from ``start`` up to ``end``.

    after, last: TIDs of the transactions in it, the former exclusive; equal where
    there is none.
    """

    start: int
    end: int
    after: StoredTid
    last: StoredTid


@dataclass(frozen=True, slots=True)
class StoredStorage:
    """What a set has of one storage.

    id: of the storage when the set was made.
    kind: what the backup added to its repozo repository.
    files: the repozo files that together make the copy, oldest first.
    size: bytes of the Data.fs that they make.
    blob_lists: the lists that together name its blobs (`sets.blob_pool`); None
      where it has no blob directory.
    blob_count, blob_bytes: of all blobs that the lists name.
    ranges: what each of the files holds of the Data.fs; none where that is not known.
    packed: TID of the last transaction that a pack left, below which the copy cannot
      be cut; 0 without a pack; None where that is not known.
    holes: of the bytes, how many took no room in the Data.fs and will take none.
    index: the Data.fs.index, which only stock repozo restores; a set is whole without
      it.
    lost_blobs: paths of the blobs that its data need, and that were not in the blob
      directory any more, or shorter; the set has them as an earlier one had them.
    missing_blobs: paths of those of which no earlier set had a copy either: a restore
      lacks them.  None where nobody looked, as in sets of former versions.
    undescribed_blobs: how many records of blobs were seen in a storage that is
      described without a blob directory; the set has none of these blobs.
    """

    id: Text
    kind: CopyKind
    files: tuple[StoredFile, ...]
    size: int
    blob_lists: tuple[StoredFile, ...] | None
    blob_count: int
    blob_bytes: int
    ranges: tuple[Range, ...] = ()
    packed: StoredTid | None = None
    holes: int = 0
    index: StoredFile | None = None
    lost_blobs: tuple[Text, ...] = ()
    missing_blobs: tuple[Text, ...] | None = None
    undescribed_blobs: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup set: what it is made of, and the points it can be restored to.

    id: ``YYYYmmddTHHMMSSZ``, when it was begun, in UTC.
    cluster: the name of the cluster.
    point: its coherency point K, with the half commits within.
    strict: the cut that leaves those out, {storage id: last TID}; equal to the point's
      vector where there are none.
    strict_loss: what the strict cut drops; None where that is nothing.
    floor: the clean point that half commits were looked for from; None without one.
    unstamped: {storage id: how many records above the floor carry no stamp}.
    storages: what it has of each storage.
    tid_log: the copy of the daemon's TID log; None where there was none.
    finished: when the manifest was written.
    seconds: {phase: how long it took}.
    versions: {distribution: its version}, of what wrote the set.
    acknowledged: ids of the half commits above the floor that somebody had accepted;
      they are no damage.
    history: the id of the history that it is of (`sets.history`); None in sets of
      before there were such ids.
    description: the copy of the cluster's cluster.toml; None in sets of before.  A set
      is whole without it.
    unknown: ids of the transactions above the floor of which nobody can tell whether
      they are whole: a pack by others may have taken what they miss.
    """

    id: Text
    cluster: Text
    point: StoredPoint
    strict: StoredVector
    strict_loss: StoredLoss | None
    floor: StoredPoint | None
    unstamped: dict[Text, int]
    storages: tuple[StoredStorage, ...]
    tid_log: StoredFile | None
    finished: StoredTime
    seconds: dict[str, float]
    versions: dict[str, str]
    acknowledged: tuple[StoredCommitId, ...] = ()
    history: Text | None = None
    description: StoredFile | None = None
    unknown: tuple[StoredCommitId, ...] = ()

    def storage(self, storage_id: str) -> StoredStorage:
        """What the set has of the storage of that id.

        Raises: KeyError: where it has nothing of such a storage.
        """
        for storage in self.storages:
            if storage.id == storage_id:
                return storage
        raise KeyError(storage_id)

    def files(self) -> list[StoredFile]:
        """Every file that the set needs, but for the blobs themselves."""
        files = [file for storage in self.storages for file in storage.files]
        for storage in self.storages:
            files += storage.blob_lists or ()
        return files + ([self.tid_log] if self.tid_log else [])

    @property
    def kind(self) -> CopyKind:
        """``full`` or ``unchanged`` where all storages are; else ``incremental``."""
        kinds = {storage.kind for storage in self.storages}
        if kinds == {"full"}:
            return "full"
        return "unchanged" if kinds == {"unchanged"} else "incremental"

    def to_json(self) -> dict[str, Any]:
        """The form of ``manifest.json`` and ``bin/cluster backup --json``."""
        data: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return {"version": FORMAT_VERSION, **data}


_ADAPTER = TypeAdapter(Manifest)


def from_json(data: dict[str, Any]) -> Manifest:
    """The manifest that its ``to_json`` gave.

    Raises: ValueError: where the data is no manifest.
    """
    if data["version"] != FORMAT_VERSION:
        raise ValueError(f"manifest version {data['version']} is not known here")
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        raise ValueError(json_file.first_mistake(error)) from error


def _digest(data: dict[str, Any]) -> str:
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def write(manifest: Manifest, folder: Path) -> Path:
    """Make the set exist: its manifest in ``folder``, durably, or not at all."""
    data = manifest.to_json()
    path = folder / FILE_NAME
    text = json.dumps({"manifest": data, "sha256": _digest(data)}, indent=1)
    durable.replace_text(path, text + "\n")
    return path


def read(path: Path) -> Manifest:
    """The manifest in a file.

    Raises:
      NotCoherent: it is not there, or is not what was written.
      SetUnreadable: it could not be read.
    """
    try:
        envelope = json.loads(path.read_text())
        if envelope["sha256"] != _digest(envelope["manifest"]):
            raise ValueError("its checksum does not match")
        return from_json(envelope["manifest"])
    except presence.ABSENT as error:
        raise SetDamaged(f"{path} is missing: {error.strerror}") from error
    except OSError as error:
        raise SetUnreadable(
            f"{path} cannot be read: {presence.describe(error)}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetDamaged(
            f"{path} is not a sound manifest: {error}",
            "The set is not offered; choose another one (bin/cluster backups).",
        ) from error
