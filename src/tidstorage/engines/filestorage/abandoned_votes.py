"""Votes that a crash left unfinished and the server's next start cut off.

FileStorage then takes the TID of such a vote for its last transaction's, and
clients note it as seen.  No file holds that transaction; without what is told
here, all that follows would look as if it had seen something that is lost.

FileStorage leaves the bytes it cut off in ``<Data.fs>.tr0``, ``.tr1`` and so on.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tidstorage.engines.filestorage.format import (
    DATA_HEADER,
    HEADER,
    TRANSACTION_POSITION,
    VOTED,
)


class AbandonedVote(NamedTuple):
    """The TID a vote was given, and how long the file was then, without it."""

    tid: int
    position: int


def read_abandoned_votes(data_file: Path) -> Iterator[AbandonedVote]:
    """The votes that were cut off a Data.fs, as far as their remains tell where."""
    for path in data_file.parent.glob(f"{data_file.name}.tr*"):
        if not path.name.removeprefix(f"{data_file.name}.tr").isdigit():
            continue
        try:
            with path.open("rb") as stream:
                start = stream.read(_LONGEST)
        except OSError:
            # What cannot be read proves nothing.
            continue
        vote = _vote(start)
        if vote is not None:
            yield vote


#: Header, user, description, extension, and the first data header.
_LONGEST = HEADER.size + 3 * 0xFFFF + DATA_HEADER.size


def _vote(content: bytes) -> AbandonedVote | None:
    """The vote the bytes begin with; a torn *finished* transaction is none."""
    if len(content) < HEADER.size:
        return None
    tid, length, status, *lengths = HEADER.unpack_from(content)
    described = HEADER.size + sum(lengths)
    data = content[described : described + DATA_HEADER.size]
    if status != VOTED or len(data) < DATA_HEADER.size or length <= described:
        return None
    return AbandonedVote(tid, int.from_bytes(data[TRANSACTION_POSITION], "big"))
