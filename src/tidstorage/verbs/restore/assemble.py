"""Second phase of a restore: the set's own bytes, beside where they will live.

Exactly the files that the manifest names are put together, and each is compared
with its digest on the way; repozo itself goes by dates alone.
"""

import contextlib
import hashlib
import io
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from tidstorage.engines.filestorage.copying import SparseWriter
from tidstorage.errors import SetDamaged, SetUnreadable
from tidstorage.operation.progress import Advance, count_nothing
from tidstorage.sets.blob_pool import StoredBlob, pool_of_list, pool_path, read_lists
from tidstorage.sets.compression import DAMAGED, open_gzip_reader
from tidstorage.sets.manifest import Manifest, StoredFile, StoredStorage
from tidstorage.system import disks, durable, presence, private_files
from tidstorage.verbs.restore.target import Target

_BLOCK = 1 << 20
_STAT_BLOCK = 512
#: As ZODB leaves them: nobody is to write to a committed blob.
_BLOB_MODE = 0o400
_CHOOSE_ANOTHER = "The set is damaged; choose another one (bin/cluster backups)."
_LOOK_AGAIN = (
    "That does not say that the set is damaged, and nothing has been changed. See to"
    " the disk and try again, or choose another set (bin/cluster backups)."
)


class _Digesting(io.RawIOBase):
    """A file of a set that is read once, from its start to its end, for its digest.

    Reading raises SetUnreadable where the disk fails: whoever writes what is read
    must not take that for an error of his own.
    """

    def __init__(self, path: Path, stream: io.BufferedReader) -> None:
        self._path = path
        self._stream = stream
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        try:
            count = self._stream.readinto(view)
        except OSError as error:
            raise _unread(self._path, error) from error
        self._digest.update(view[:count])
        return count

    def digest_of_all(self) -> str:
        """The digest, with whatever was left to be read."""
        while self.read(_BLOCK):
            pass
        return self._digest.hexdigest()


def _unread(path: Path, error: OSError) -> SetUnreadable:
    said = f"{presence.describe(error)} (errno {error.errno})"
    return SetUnreadable(f"{path} cannot be read: {said}", _LOOK_AGAIN)


@contextlib.contextmanager
def _opened(path: Path, kind: str = "") -> Iterator[_Digesting]:
    """A file of a set, opened to be read once; kind: what it is, for messages.

    Raises:
      NotCoherent: it is not there.
      SetUnreadable: it could not be opened.
    """
    try:
        stream = path.open("rb")
    except presence.ABSENT as error:
        raise SetDamaged(f"{kind}{path} is missing", _CHOOSE_ANOTHER) from error
    except OSError as error:
        raise _unread(path, error) from error
    with stream:
        yield _Digesting(path, stream)


def bytes_needed(
    manifest: Manifest, targets: Mapping[str, Target], reused: Collection[str] = ()
) -> dict[Path, int]:
    """{what is staged: bytes that are still to be written to it}

    What a restore that was killed has left of its staging makes room.  reused: ids
    of storages whose present files, and blobs, are used again.
    """
    needed: dict[Path, int] = {}
    for storage_id, target in targets.items():
        storage = manifest.storage(storage_id)
        is_reused = storage_id in reused
        left = _space_taken(target.staged_data_file)
        size = 0 if is_reused else storage.size - storage.holes - left
        needed[target.staged_data_file] = size
        if target.blob_directory is not None and target.staged_blob_directory:
            left = _space_taken(target.staged_blob_directory)
            present = _space_taken(target.blob_directory) if is_reused else 0
            size = max(storage.blob_bytes - left - present, 0)
            needed[target.staged_blob_directory] = size
    return needed


def refuse_lack_of_space(
    manifest: Manifest, targets: Mapping[str, Target], reused: Collection[str] = ()
) -> None:
    """Refuse a restore for which there is no room; nothing is written yet.

    Raises: NoSpace: where what is to be staged cannot fit.
    """
    disks.refuse_lack(
        bytes_needed(manifest, targets, reused),
        "the restore, beside the present files,",
        "Make room, or restore elsewhere with --into.",
    )


def _space_taken(path: Path) -> int:
    """What a file, or a folder with all in it, takes of its disk; 0 if not there."""
    return sum(
        inside.lstat().st_blocks * _STAT_BLOCK
        for inside in (path, *path.rglob("*"))
        if os.path.lexists(inside)
    )


def data_file(
    directory: Path,
    stored: StoredStorage,
    target: Target,
    advance: Advance = count_nothing,
) -> None:
    """Put a storage's Data.fs together in staging.

    What is zeros in it becomes holes.  advance: told the bytes written; what it raises
    ends the work.

    Raises:
      NotCoherent: a file of the set is missing or damaged.
      SetUnreadable: a file of the set could not be read.
    """
    private_files.make_folder(target.data_file.parent)
    with os.fdopen(private_files.create(target.staged_data_file), "wb") as opened:
        output = SparseWriter(opened.fileno())
        for stored_file in stored.files:
            _append(directory, stored_file, output, advance)
        output.finish()
        size = output.tell()
        if size != stored.size:
            raise SetDamaged(
                f"storage {stored.id}: the files of the set make {size} bytes"
                f" instead of {stored.size}",
                _CHOOSE_ANOTHER,
            )


def _append(
    directory: Path, stored: StoredFile, output: SparseWriter, advance: Advance
) -> None:
    path = directory / stored.path
    try:
        with _opened(path) as source:
            raw = cast(BinaryIO, source)
            is_compressed = path.suffix.endswith("z")
            plain = (
                open_gzip_reader(raw) if is_compressed else contextlib.nullcontext(raw)
            )
            with plain as opened:
                while block := opened.read(_BLOCK):
                    output.write(block)
                    advance(len(block))
            digest = source.digest_of_all()
    except DAMAGED as error:
        raise SetDamaged(f"{path} is damaged: {error}", _CHOOSE_ANOTHER) from error
    if digest != stored.sha256:
        raise SetDamaged(f"{path} is not what was written", _CHOOSE_ANOTHER)


def blob_directory(
    directory: Path,
    stored: StoredStorage,
    target: Target,
    last_tid: int,
    advance: Advance = count_nothing,
    reuse: bool = False,
) -> int:
    """Stage the blobs up to the TID ``last_tid``; returns how many.

    advance: as for `data_file`.  reuse: what is there already gets a second name,
    where it is what was written; blobs never change.

    Raises:
      NotCoherent: a list or a blob of the set is missing or damaged.
      SetUnreadable: a list or a blob of the set could not be read.
    """
    staged = target.staged_blob_directory
    if staged is None:
        return 0
    listed = read_lists(directory, stored.blob_lists or ())
    private_files.make_folder(staged / "tmp")
    durable.replace_text(staged / ".layout", listed.layout)
    wanted = [blob for blob in listed.blobs if blob.tid <= last_tid]
    for blob in wanted:
        private_files.make_folder((staged / blob.path).parent)
        present = (target.blob_directory or staged) / blob.path
        if not (reuse and _link(present, blob, staged / blob.path, advance)):
            _stage_blob(_pool(directory, stored), blob, staged, advance)
    for folder in {(staged / blob.path).parent for blob in wanted}:
        durable.sync_folder(folder)
    return len(wanted)


def _pool(directory: Path, stored: StoredStorage) -> Path:
    """Where the blobs are that the lists name: of the id the storage had then."""
    return pool_of_list(directory / (stored.blob_lists or ())[0].path)


def _link(present: Path, blob: StoredBlob, staged: Path, advance: Advance) -> bool:
    """Give a present blob its second name; false where it is not what was written."""
    if present.is_symlink():
        # A second name of the link would lead to what the restore does not keep.
        return False
    try:
        with present.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size != blob.size:
                return False
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != blob.sha256:
            return False
        os.link(present, staged, follow_symlinks=False)
    except OSError:
        # Lost, or on a file system without such names: the set has it.
        return False
    advance(blob.size)
    return True


def _stage_blob(pool: Path, blob: StoredBlob, staged: Path, advance: Advance) -> None:
    target = staged / blob.path
    path = pool_path(pool, blob.sha256)
    with (
        _opened(path, "blob ") as source,
        os.fdopen(private_files.create(target), "wb") as opened,
    ):
        output = SparseWriter(opened.fileno())
        while block := source.read(_BLOCK):
            output.write(block)
            advance(len(block))
        output.finish()
        os.fsync(opened.fileno())
        digest = source.digest_of_all()
    if digest != blob.sha256:
        raise SetDamaged(f"blob {path} is not what was written", _CHOOSE_ANOTHER)
    target.chmod(_BLOB_MODE)
