"""The stamp that every transaction carries in its extension, key ``tids``.

Layout, version 1: one byte version, 16 bytes commit id, then for each storage
one byte (length of the id in bytes, at most 127; plus 128 where the storage is
a participant), the id in UTF-8, and 8 bytes, big endian: the exclusive bound of
what the process could have seen of that storage, or 0 where nothing is known.

``encode`` is on the path of every commit; see benchmarks/ before touching it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

#: The key in ``transaction.extension``.
KEY = "tids"
VERSION = 1
COMMIT_ID_LENGTH = 16
LONGEST_STORAGE_ID = 127
_PARTICIPANT = 0x80
_VERSION_BYTE = bytes([VERSION])


class MalformedStamp(ValueError):
    """The bytes are no stamp that this version understands."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What one transaction said of itself, the same in all its records.

    commit_id: 16 bytes, unique among all transactions of the cluster.
    participants: ids of the storages in which it leaves a record.
    vector: {storage id: TID as int}, the *exclusive* bound of what the process
        could have seen of each storage; no entry: nothing was known.
    """

    commit_id: bytes
    participants: frozenset[str]
    vector: Mapping[str, int] = field(default_factory=dict)


def encode(
    commit_id: bytes, participants: Collection[str], vector: Mapping[str, int]
) -> bytes:
    """The bytes to put into the extension.

    Raises: ValueError: where a commit id or storage id is impossible.
    """
    parts: list[bytes] = []
    for storage, bound in vector.items():
        parts += (head(storage, storage in participants), bound.to_bytes(8, "big"))
    for storage in participants:
        if storage not in vector:
            parts += (head(storage, True), bytes(8))
    return assemble(commit_id, parts)


def assemble(commit_id: bytes, parts: Iterable[bytes]) -> bytes:
    """The stamp with these parts: for each storage its head, then its bound.

    Heads can be kept for the next one; bounds (8 bytes, exclusive) are TIDs as ZODB
    has them.

    Raises: ValueError: where the commit id is impossible.
    """
    if len(commit_id) != COMMIT_ID_LENGTH:
        raise ValueError(f"a commit id has 16 bytes, not {len(commit_id)}")
    return b"".join((_VERSION_BYTE, commit_id, *parts))


def head(storage: str, participant: bool) -> bytes:
    """The bytes that precede a storage's bound.

    Raises: ValueError: where the storage id is impossible.
    """
    name = storage.encode()
    if not 0 < len(name) <= LONGEST_STORAGE_ID:
        raise ValueError(f"a storage id has 1 to 127 bytes in UTF-8: {storage!r}")
    length = len(name) | (_PARTICIPANT if participant else 0)
    return bytes([length]) + name


def decode(data: bytes) -> Stamp:
    """The stamp in ``data``.

    Raises: MalformedStamp: where that is anything but one whole stamp.
    """
    if not isinstance(data, bytes) or len(data) < 1 + COMMIT_ID_LENGTH:
        raise MalformedStamp(f"too short for a stamp: {data!r}")
    if data[0] != VERSION:
        raise MalformedStamp(f"stamp version {data[0]} is not known here")
    participants: list[str] = []
    vector: dict[str, int] = {}
    position = 1 + COMMIT_ID_LENGTH
    while position < len(data):
        length = data[position] & ~_PARTICIPANT
        name_end = position + 1 + length
        if not length or name_end + 8 > len(data):
            raise MalformedStamp(f"cut off at byte {position}: {data!r}")
        try:
            storage = data[position + 1 : name_end].decode()
        except UnicodeDecodeError as error:
            raise MalformedStamp(str(error)) from error
        if data[position] & _PARTICIPANT:
            participants.append(storage)
        bound = int.from_bytes(data[name_end : name_end + 8], "big")
        if bound:
            vector[storage] = bound
        position = name_end + 8
    return Stamp(data[1 : 1 + COMMIT_ID_LENGTH], frozenset(participants), vector)


def rename(stamp: Stamp, aliases: Mapping[str, str]) -> Stamp:
    """The stamp with every storage under its present id.

    ``aliases`` is {old id: present id}.
    """
    known = aliases.keys()
    if known.isdisjoint(stamp.participants) and known.isdisjoint(stamp.vector):
        return stamp
    vector: dict[str, int] = {}
    for name, bound in stamp.vector.items():
        present = aliases.get(name, name)
        vector[present] = max(bound, vector.get(present, 0))
    return Stamp(stamp.commit_id, _renamed(stamp.participants, aliases), vector)


def _renamed(names: Iterable[str], aliases: Mapping[str, str]) -> frozenset[str]:
    return frozenset(aliases.get(name, name) for name in names)
