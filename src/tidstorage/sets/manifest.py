"""The manifest of a backup set: what the set is made of, and what it is good for.

It is written last and atomically; a set without one does not exist.  The file
holds the manifest and its SHA-256, so that a damaged one is never believed.
"""

import datetime
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tidstorage.coherence import tid
from tidstorage.coherence.loss import Loss
from tidstorage.coherence.point import Point
from tidstorage.errors import NotCoherent
from tidstorage.points.stored import point_from_json
from tidstorage.system import durable

FORMAT_VERSION = 1
FILE_NAME = "manifest.json"

#: What the last backup added to a storage's repository.
Kind = Literal["full", "incremental", "unchanged"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the set; ``path`` is relative to the backup directory."""

    path: str
    size: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "size": self.size, "sha256": self.sha256}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "StoredFile":
        return cls(data["path"], int(data["size"]), data["sha256"])


@dataclass(frozen=True, slots=True)
class Range:
    """Which part of a Data.fs a file holds: bytes from ``start`` up to ``end``.

    after, last: TIDs of the transactions in it, the former exclusive; equal where
    there is none.
    """

    start: int
    end: int
    after: int
    last: int

    def to_json(self) -> dict[str, Any]:
        return {
            "start": self.start,
            "end": self.end,
            "after": tid.to_text(self.after),
            "last": tid.to_text(self.last),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Range":
        after, last = tid.from_text(data["after"]), tid.from_text(data["last"])
        return cls(int(data["start"]), int(data["end"]), after, last)


@dataclass(frozen=True, slots=True)
class StoredStorage:
    """One storage in the set.

    files: the repozo files that make the copy, in their order; size: bytes of
    the Data.fs they make; ranges: what each of the files holds of it, none where
    that is not known; packed: TID of the last transaction that a pack left, below
    which the copies cannot be cut, 0 without a pack, None where that is not known;
    holes: of the bytes, those that took no room in the Data.fs and will take none;
    blob_lists: None where the storage has no blobs, else the lists that together
    name them (`tidstorage.verbs.backup.blobs`).  index: FileStorage's, which only stock
    repozo restores; a set is whole without it.
    """

    id: str
    kind: Kind
    files: tuple[StoredFile, ...]
    size: int
    blob_lists: tuple[StoredFile, ...] | None
    blob_count: int
    blob_bytes: int
    ranges: tuple[Range, ...] = ()
    packed: int | None = None
    holes: int = 0
    index: StoredFile | None = None

    def to_json(self) -> dict[str, Any]:
        lists = self.blob_lists
        return {
            "id": self.id,
            "kind": self.kind,
            "files": [each.to_json() for each in self.files],
            "ranges": [each.to_json() for each in self.ranges],
            "packed": None if self.packed is None else tid.to_text(self.packed),
            "size": self.size,
            "holes": self.holes,
            "index": self.index and self.index.to_json(),
            "blob_lists": None if lists is None else [each.to_json() for each in lists],
            "blob_count": self.blob_count,
            "blob_bytes": self.blob_bytes,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "StoredStorage":
        lists = data["blob_lists"]
        return cls(
            data["id"],
            data["kind"],
            tuple(StoredFile.from_json(each) for each in data["files"]),
            int(data["size"]),
            None
            if lists is None
            else tuple(StoredFile.from_json(each) for each in lists),
            int(data["blob_count"]),
            int(data["blob_bytes"]),
            tuple(Range.from_json(each) for each in data.get("ranges", ())),
            tid.from_text(data["packed"]) if data.get("packed") else None,
            int(data.get("holes", 0)),
            StoredFile.from_json(data["index"]) if data.get("index") else None,
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup set.

    id: ``YYYYmmddTHHMMSSZ``, its beginning in UTC.  point: its K, with the half
    commits within.  strict: the cut that leaves those out; equal to the point's
    vector where there are none; strict_loss: what it drops.  floor: the clean
    point the damage was counted from.  unstamped: {storage id: records above it
    that carry no stamp}.  acknowledged: ids of the half commits above the floor
    that somebody had accepted; they are no damage.  tid_log: the copy of the
    daemon's, where there was one.  seconds: how long each phase took.  versions:
    of what wrote it.
    """

    id: str
    cluster: str
    point: Point
    strict: tid.Vector
    strict_loss: Loss | None
    floor: Point | None
    unstamped: dict[str, int]
    storages: tuple[StoredStorage, ...]
    tid_log: StoredFile | None
    finished: datetime.datetime
    seconds: dict[str, float]
    versions: dict[str, str]
    acknowledged: tuple[bytes, ...] = ()

    def storage(self, storage_id: str) -> StoredStorage:
        """The storage of that id; KeyError where the set has none."""
        for storage in self.storages:
            if storage.id == storage_id:
                return storage
        raise KeyError(storage_id)

    def files(self) -> list[StoredFile]:
        """Every file that the set needs, but for the blobs themselves."""
        found = [each for storage in self.storages for each in storage.files]
        for storage in self.storages:
            found += storage.blob_lists or ()
        return found + ([self.tid_log] if self.tid_log else [])

    @property
    def kind(self) -> Kind:
        """``full`` where every storage is; else what most was added."""
        kinds = {each.kind for each in self.storages}
        if kinds == {"full"}:
            return "full"
        return "unchanged" if kinds == {"unchanged"} else "incremental"

    def to_json(self) -> dict[str, Any]:
        return {
            "version": FORMAT_VERSION,
            "id": self.id,
            "cluster": self.cluster,
            "point": self.point.to_json(),
            "strict": tid.vector_to_text(self.strict),
            "strict_loss": self.strict_loss and self.strict_loss.to_json(),
            "floor": self.floor and self.floor.to_json(),
            "unstamped": self.unstamped,
            "storages": [each.to_json() for each in self.storages],
            "tid_log": self.tid_log and self.tid_log.to_json(),
            "finished": self.finished.isoformat(),
            "seconds": self.seconds,
            "versions": self.versions,
            "acknowledged": [each.hex() for each in self.acknowledged],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Manifest":
        """ValueError, KeyError or TypeError where the data is no manifest."""
        if data["version"] != FORMAT_VERSION:
            raise ValueError(f"manifest version {data['version']} is not known here")
        return cls(
            id=data["id"],
            cluster=data["cluster"],
            point=point_from_json(data["point"]),
            strict=tid.vector_from_text(data["strict"]),
            strict_loss=data["strict_loss"] and Loss.from_json(data["strict_loss"]),
            floor=data["floor"] and point_from_json(data["floor"]),
            unstamped=dict(data["unstamped"]),
            storages=tuple(StoredStorage.from_json(each) for each in data["storages"]),
            tid_log=data["tid_log"] and StoredFile.from_json(data["tid_log"]),
            finished=datetime.datetime.fromisoformat(data["finished"]),
            seconds=dict(data["seconds"]),
            versions=dict(data["versions"]),
            acknowledged=tuple(
                bytes.fromhex(each) for each in data.get("acknowledged", ())
            ),
        )


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
    """The manifest in a file; NotCoherent where it is not what was written."""
    try:
        envelope = json.loads(path.read_text())
        if envelope["sha256"] != _digest(envelope["manifest"]):
            raise ValueError("its checksum does not match")
        return Manifest.from_json(envelope["manifest"])
    except OSError as error:
        raise NotCoherent(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotCoherent(
            f"{path} is not a sound manifest: {error}",
            "The set is not offered; choose another one (bin/cluster backups).",
        ) from error
