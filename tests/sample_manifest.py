"""A manifest with something in every field, for tests that need no real set."""

import datetime

from tidstorage.coherence.loss import Loss
from tidstorage.coherence.point import HalfCommit, Point
from tidstorage.sets.manifest import Manifest, Range, StoredFile, StoredStorage

TIME = datetime.datetime(2026, 11, 24, 12, 0, 0, 5, tzinfo=datetime.UTC)
HALF = HalfCommit(b"c" * 16, {"a": 7}, ("b",))
POINT = Point({"a": 7, "b": 9}, TIME, "barrier", damage=(HALF,))


def storage(storage_id, kind="full", blobs=None):
    file = StoredFile(f"storages/{storage_id}/x.fs", 10, "ab" * 32)
    ranges = (Range(0, 10, 0, 7),)
    index = StoredFile(f"storages/{storage_id}/x.index", 4, "cd" * 32)
    return StoredStorage(
        storage_id, kind, (file,), 10, blobs, 0, 0, ranges, 5, index=index
    )


def sample(**changes):
    fields = {
        "id": "20261124T120000Z",
        "cluster": "small",
        "point": POINT,
        "strict": {"a": 6, "b": 9},
        "strict_loss": Loss(1, TIME),
        "floor": Point({"a": 1, "b": 1}, TIME, "barrier"),
        "unstamped": {"a": 0, "b": 2},
        "storages": (
            storage("a"),
            storage("b", "incremental", (StoredFile("blobs/b/lists/1", 3, "0" * 64),)),
        ),
        "tid_log": StoredFile("sets/20261124T120000Z/tid.log", 5, "1" * 64),
        "finished": TIME,
        "seconds": {"copy": 0.5},
        "versions": {"ZODB": "6.4"},
        "acknowledged": (b"accepted half..!",),
        **changes,
    }
    return Manifest(**fields)
