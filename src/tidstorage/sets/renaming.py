"""A set of before a storage was renamed, told in the ids of now.

Only names change: the files it is made of stay where they were written, in the
repository and the blob pool of the id of then.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping

from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.coherence.tid import Vector
from tidstorage.errors import NotCoherent
from tidstorage.sets.manifest import Manifest


def rename_storages(manifest: Manifest, aliases: Mapping[str, str]) -> Manifest:
    """The manifest with every storage under its present id.

    aliases: {old id: present id}.  NotCoherent where two storages of the set are
    one by now.
    """

    def now(storage: str) -> str:
        return aliases.get(storage, storage)

    counted = Counter(now(each.id) for each in manifest.storages)
    for present, number in counted.items():
        if number > 1:
            then = [each.id for each in manifest.storages if now(each.id) == present]
            raise NotCoherent(
                f"set {manifest.id} has {' and '.join(then)}, which cluster.toml says"
                f" are the one storage {present}",
                "An alias is an id of before a renaming; correct the description.",
            )
    return dataclasses.replace(
        manifest,
        point=_point(manifest.point, aliases),
        strict=_vector(manifest.strict, aliases),
        floor=manifest.floor and _point(manifest.floor, aliases),
        unstamped=_vector(manifest.unstamped, aliases),
        storages=tuple(
            dataclasses.replace(each, id=now(each.id)) for each in manifest.storages
        ),
    )


def find_renamed(manifest: Manifest, aliases: Mapping[str, str]) -> dict[str, str]:
    """{id in the set: present id} of the storages that were renamed since."""
    return {
        each.id: aliases[each.id] for each in manifest.storages if each.id in aliases
    }


def _vector(vector: Vector, aliases: Mapping[str, str]) -> dict[str, int]:
    return {aliases.get(each, each): number for each, number in vector.items()}


def _point(point: Point, aliases: Mapping[str, str]) -> Point:
    return dataclasses.replace(
        point,
        vector=_vector(point.vector, aliases),
        damage=tuple(_half_commit(each, aliases) for each in point.damage),
    )


def _half_commit(half: HalfCommit, aliases: Mapping[str, str]) -> HalfCommit:
    return HalfCommit(
        half.commit_id,
        _vector(half.present, aliases),
        tuple(aliases.get(each, each) for each in half.missing),
    )
