"""What was written under the old id of a storage, under its present one."""

from collections.abc import Mapping
from typing import TypeVar

Anything = TypeVar("Anything")


def rename_vector(
    vector: Mapping[str, Anything], aliases: Mapping[str, str]
) -> dict[str, Anything]:
    """The vector with every TID under the present id of its storage.

    vector: {storage id: TID, or whatever else there is of it}, maybe of before a
    renaming.  aliases: {old storage id: present id}; an id that is not in it is a
    present one.
    """
    return {aliases.get(storage, storage): tid for storage, tid in vector.items()}
