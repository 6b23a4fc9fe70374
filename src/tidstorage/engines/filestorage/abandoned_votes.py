"""Votes that a crash left unfinished and the server's next start cut off.

FileStorage then takes the TID of such a vote for its last transaction's, and
clients note it as seen.  No file holds that transaction; without what is told
here, all that follows would look as if it had seen something that is lost.

FileStorage leaves the bytes it cut off in ``<Data.fs>.tr0``, ``.tr1`` and so on; those
of a vote without data do not tell where it stood.  So whoever of ours sees one, by
what a server says of its end or before it cuts that off, notes it in
``<Data.fs>.abandoned``.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import PlainSerializer, PlainValidator

from tidstorage.coherence import tid
from tidstorage.engines.filestorage.format import (
    DATA_HEADER,
    HEADER,
    TRANSACTION_POSITION,
    VOTED,
)
from tidstorage.errors import FileUnreadable
from tidstorage.system import json_file, users

#: Behind the name of a Data.fs.
SUFFIX = ".abandoned"
#: More than a server is killed between two packs; the oldest are forgotten.
_MOST = 1000


class AbandonedVote(NamedTuple):
    """The TID a vote was given, and how long the file was then, without it."""

    tid: int
    position: int


def read_abandoned_votes(data_file: Path) -> Iterator[AbandonedVote]:
    """The votes that were cut off a Data.fs, as far as their remains tell where, and
    those that were noted."""
    # A note that cannot be read proves nothing, as remains that cannot.
    with contextlib.suppress(FileUnreadable):
        yield from _read_noted(noted_path(data_file))
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


@dataclass(frozen=True, slots=True)
class _Vote:
    """A vote as it is noted: its TID, and the bytes before it."""

    __pydantic_config__ = json_file.EXACT

    tid: Annotated[int, PlainValidator(tid.from_text), PlainSerializer(tid.to_text)]
    position: int


@dataclass(frozen=True, slots=True)
class _Votes:
    __pydantic_config__ = json_file.EXACT

    version: Literal[1]
    votes: list[_Vote]


def noted_path(data_file: Path) -> Path:
    """The file in which the votes are noted that were seen to be abandoned."""
    return data_file.with_name(data_file.name + SUFFIX)


def note_abandoned_vote(data_file: Path, vote: AbandonedVote) -> bool:
    """Note a vote that was seen to be abandoned; whether it is new.

    Raises: OSError: where it cannot be written.
    """
    known = sorted(set(read_abandoned_votes(data_file)))
    if vote in known:
        return False
    path = noted_path(data_file)
    votes = [_Vote(*one) for one in sorted([*known, vote])[-_MOST:]]
    json_file.write(path, _Votes(1, votes))
    users.give_like((path,), data_file)
    return True


def _read_noted(path: Path) -> Iterator[AbandonedVote]:
    if path.exists():
        noted = json_file.read(path, _Votes, "a note of abandoned votes")
        for vote in noted.votes:
            yield AbandonedVote(vote.tid, vote.position)


#: Header, user, description, extension, and the first data header.
_LONGEST = HEADER.size + 3 * 0xFFFF + DATA_HEADER.size


def _vote(content: bytes) -> AbandonedVote | None:
    """The vote the bytes begin with; a torn *finished* transaction is none."""
    if len(content) < HEADER.size:
        return None
    last, length, status, *lengths = HEADER.unpack_from(content)
    described = HEADER.size + sum(lengths)
    data = content[described : described + DATA_HEADER.size]
    if status != VOTED or len(data) < DATA_HEADER.size or length <= described:
        return None
    return AbandonedVote(last, int.from_bytes(data[TRANSACTION_POSITION], "big"))
