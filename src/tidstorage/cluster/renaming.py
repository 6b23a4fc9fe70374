"""What was written under the old id of a storage, under its present one."""

from collections.abc import Mapping


def rename_vector(
    vector: Mapping[str, int], aliases: Mapping[str, str]
) -> dict[str, int]:
    """The vector with every TID under the present id of its storage.

    vector: {storage id: TID}, maybe of before a renaming.  aliases: {old storage id:
    present id}; an id that is not in it is a present one.
    """
    return {aliases.get(storage, storage): tid for storage, tid in vector.items()}
