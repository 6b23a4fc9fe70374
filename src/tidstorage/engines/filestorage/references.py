"""Do all references of a set of ZODB storages resolve, across databases too?

Reads the pickles without loading a class, so it needs none of the site's code.
"""

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ZODB._compat import PersistentUnpickler
from ZODB.fsIndex import fsIndex
from ZODB.POSException import POSKeyError
from ZODB.utils import z64

#: What names an object in all databases: (database name, oid of 8 bytes).
ObjectKey = tuple[str, bytes]
_NO_NAMES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Dangling:
    """A reference to an object that is not there.

    holder: the object that has the reference.  target: the one that is missing.
    """

    holder: ObjectKey
    target: ObjectKey


def find_references(data: bytes, database: str) -> Iterator[ObjectKey]:
    """Every strong reference in one object's two pickles.

    database: the name of the object's own.

    The forms are those of ZODB/serialize.py: an oid, (oid, class), or a list
    whose first item tells the kind; ``w`` is weak and may dangle by design.
    """
    references: list[Any] = []
    unpickler = PersistentUnpickler(None, references.append, io.BytesIO(data))
    unpickler.noload()
    unpickler.noload()
    for reference in references:
        if isinstance(reference, bytes | str):
            yield database, _oid(reference)
        elif isinstance(reference, tuple):
            yield database, _oid(reference[0])
        elif len(reference) == 2 and reference[0] in ("m", "n"):
            yield reference[1][0], _oid(reference[1][1])


def _oid(oid: bytes | str) -> bytes:
    return oid.encode("latin-1") if isinstance(oid, str) else oid


def find_dangling(
    storages: Mapping[str, Any], names: Mapping[str, str] = _NO_NAMES
) -> Iterator[Dangling]:
    """Every reference whose target is not there, of objects that a root leads to.

    storages: {database name: its opened storage}.  names: {other name that references
    have for a database: its name}.  A database that is not among them counts as
    missing.
    """
    pending: list[tuple[ObjectKey, ObjectKey]] = [
        ((name, z64),) * 2 for name in storages
    ]
    # As FileStorage keeps its own index: some bytes an object, not hundreds.
    seen: defaultdict[str, fsIndex] = defaultdict(fsIndex)
    for (name, oid), _ in pending:
        seen[name][oid] = 1
    while pending:
        key, holder = pending.pop()
        database, oid = key
        try:
            data = storages[database].load(oid)[0]
        except (KeyError, POSKeyError):
            yield Dangling(holder, key)
            continue
        for name, target in find_references(data, database):
            name = names.get(name, name)
            if target not in seen[name]:
                seen[name][target] = 1
                pending.append(((name, target), key))
