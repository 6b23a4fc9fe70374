"""One storage's copy in a repozo repository: put together, and tested before use."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tidstorage.coherence import tid
from tidstorage.engines import filestorage
from tidstorage.engines.filestorage.abandoned_votes import read_abandoned_votes
from tidstorage.errors import EngineFailed, NotCoherent
from tidstorage.legacy.repozo import Repozo
from tidstorage.legacy.site import SiteStorage
from tidstorage.sets import repozo as repository

_BLOCK = 1 << 20
_OLDER = (
    "Nothing has been changed. repozo itself restores an older copy of one storage, to"
    " any file: repozo -R -r REPOSITORY -D YYYY-mm-dd-HH-MM-SS -o FILE."
)


def find_files(storage: SiteStorage, second: str) -> Sequence[repository.RepozoFile]:
    """The files in the repository that make the copy of that second, oldest first.

    second: as repozo's ``-D`` takes it; the copy may be older.

    Raises: EngineFailed: where there is none, or a file of it is missing.
    """
    files = repository.read_chain_until(storage.repository, second)
    if not files:
        raise EngineFailed(
            f"{storage.repository} has no copy of {second} UTC or before",
            "The last backup that succeeded should have one. Is the path of the"
            " repository right in the configuration?",
        )
    return files


def put_together(
    storage: SiteStorage, repozo: Repozo, *, second: str, output: Path, lock: int
) -> None:
    """Let repozo write the copy of that second to ``output``, and test it.

    lock: a descriptor that stays open in repozo, should we be killed.

    Raises:
      EngineFailed: where repozo fails, or there is no such copy.
      NotCoherent: where the copy is not what repozo read when it was made.
    """
    repozo.recover(storage.repository, second, output, lock)
    _refuse_damaged(storage, find_files(storage, second), output)


def _refuse_damaged(
    storage: SiteStorage, files: Sequence[repository.RepozoFile], copy: Path
) -> None:
    """Refuse a copy of which a byte is not as repozo noted it.

    Raises: NotCoherent: where that is so.
    """
    size = copy.stat().st_size
    if size != files[-1].end:
        raise NotCoherent(
            f"{storage.repository} is damaged: the copy of {storage.data_file} has"
            f" {size:,} bytes instead of {files[-1].end:,}",
            _OLDER,
        )
    with copy.open("rb") as stream:
        for file in files:
            digest = hashlib.md5(usedforsecurity=False)
            left = file.end - file.start
            while left:
                block = stream.read(min(_BLOCK, left))
                digest.update(block)
                left -= len(block)
            if digest.hexdigest() != file.md5:
                raise NotCoherent(
                    f"{storage.repository / file.name} is damaged: it is not what"
                    " repozo wrote",
                    _OLDER,
                )


def refuse_uncuttable(storage: SiteStorage, copy: Path, last: int) -> None:
    """Refuse a copy that cannot be cut behind the transaction with the TID ``last``.

    Raises: NotCoherent: where it was packed above that, or ends before it.
    """
    if filestorage.packed_above(copy, last):
        raise NotCoherent(
            f"the copy of {storage.data_file} was packed above the TID log's point:"
            " the state at that point is gone from it",
            "Give the TID log that was kept with the backup, or a later one.",
        )
    # A server may have told the TID of a vote that it never finished: no file has
    # that transaction, and none is lacking.
    votes = (vote.tid for vote in read_abandoned_votes(storage.data_file))
    if max([filestorage.last_tid(copy), *votes]) < last:
        raise NotCoherent(
            f"the copy of {storage.data_file} ends before the TID log's point:"
            f" {tid.to_text(last)} is not in it",
            "Give the TID log that was kept with the backup, or an earlier one.",
        )
