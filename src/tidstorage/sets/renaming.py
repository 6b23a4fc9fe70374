"""A set from before a storage was renamed, told in the ids of now.

Only names change: the files it is made of stay where they were written, in the
repository and the blob pool of the id of then.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping

from tidstorage.cluster.renaming import rename_vector
from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.errors import WrongStorages
from tidstorage.sets.manifest import Manifest


def rename_storages(manifest: Manifest, aliases: Mapping[str, str]) -> Manifest:
    """The manifest with every storage under its present id.

    aliases: {old storage id: present id}.

    Raises: NotCoherent: where two storages of the set are one by now.
    """
    storages = tuple(
        dataclasses.replace(storage, id=aliases.get(storage.id, storage.id))
        for storage in manifest.storages
    )
    for present, number in Counter(storage.id for storage in storages).items():
        if number > 1:
            old_ids = [
                storage.id
                for storage in manifest.storages
                if aliases.get(storage.id, storage.id) == present
            ]
            raise WrongStorages(
                f"set {manifest.id} has {' and '.join(old_ids)}, which cluster.toml"
                f" says are the one storage {present}",
                "An alias is an id of before a renaming; correct the description.",
            )
    return dataclasses.replace(
        manifest,
        point=_rename_in_point(manifest.point, aliases),
        strict=rename_vector(manifest.strict, aliases),
        floor=manifest.floor and _rename_in_point(manifest.floor, aliases),
        unstamped=rename_vector(manifest.unstamped, aliases),
        storages=storages,
    )


def find_renamed(manifest: Manifest, aliases: Mapping[str, str]) -> dict[str, str]:
    """{id in the set: present id} of the storages that were renamed since.

    aliases: {old storage id: present id}.
    """
    return {
        storage.id: aliases[storage.id]
        for storage in manifest.storages
        if storage.id in aliases
    }


def _rename_in_point(point: Point, aliases: Mapping[str, str]) -> Point:
    return dataclasses.replace(
        point,
        vector=rename_vector(point.vector, aliases),
        skew=rename_vector(point.skew, aliases),
        damage=tuple(_rename_in_half_commit(half, aliases) for half in point.damage),
    )


def _rename_in_half_commit(half: HalfCommit, aliases: Mapping[str, str]) -> HalfCommit:
    return HalfCommit(
        half.commit_id,
        rename_vector(half.present, aliases),
        tuple(aliases.get(storage, storage) for storage in half.missing),
    )
