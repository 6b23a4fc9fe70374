import json

import pytest
from sample_manifest import sample, storage

from tidstorage.errors import NotCoherent
from tidstorage.sets import manifest


@pytest.mark.parametrize(
    "changes",
    [{}, {"strict_loss": None, "floor": None, "tid_log": None, "storages": ()}],
    ids=["all", "least"],
)
def test_what_is_written_is_read(tmp_path, changes):
    written = sample(**changes)
    path = manifest.write(written, tmp_path)
    assert manifest.read(path) == written
    assert path.stat().st_mode & 0o777 == 0o600


def test_read_as_written_before_half_commits_were_accepted():
    data = sample().to_json()
    del data["acknowledged"]
    assert manifest.from_json(data) == sample(acknowledged=())


def test_read_as_written_before_files_had_ranges():
    data = sample().to_json()
    for each in data["storages"]:
        del each["ranges"], each["packed"], each["holes"], each["index"]
    found = manifest.from_json(data).storages
    assert [(s.ranges, s.packed, s.holes, s.index) for s in found] == [
        ((), None, 0, None)
    ] * 2


def test_read_as_written_before_lost_blobs_were_looked_for():
    data = sample().to_json()
    for each in data["storages"]:
        del each["lost_blobs"], each["missing_blobs"], each["undescribed_blobs"]
    for stored in manifest.from_json(data).storages:
        assert (stored.lost_blobs, stored.undescribed_blobs) == ((), 0)
        # Nobody looked: that is not the same as that none is missing.
        assert stored.missing_blobs is None


def test_names_every_file():
    assert [each.path for each in sample().files()] == [
        "storages/a/x.fs",
        "storages/b/x.fs",
        "blobs/b/lists/1",
        "sets/20261124T120000Z/tid.log",
    ]


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        (["full", "full"], "full"),
        (["full", "incremental"], "incremental"),
        (["full", "unchanged"], "incremental"),
        (["unchanged", "unchanged"], "unchanged"),
    ],
)
def test_kind(kinds, kind):
    assert sample(storages=tuple(map(storage, "ab", kinds))).kind == kind


def change_a_digit(text):
    return text.replace('"size": 10', '"size": 11', 1)


@pytest.mark.parametrize(
    "damage",
    [
        change_a_digit,
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"strict"', '"strikt"'),
    ],
)
def test_a_damaged_one_is_never_believed(tmp_path, damage):
    path = manifest.write(sample(), tmp_path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(NotCoherent):
        manifest.read(path)


def test_a_later_version_is_refused(tmp_path):
    data = {**sample().to_json(), "version": 99}
    path = tmp_path / manifest.FILE_NAME
    envelope = {"manifest": data, "sha256": manifest._digest(data)}
    path.write_text(json.dumps(envelope))
    with pytest.raises(NotCoherent, match="version 99"):
        manifest.read(path)


def test_a_missing_one_is_said_to_be_missing(tmp_path):
    with pytest.raises(NotCoherent, match="No such file"):
        manifest.read(tmp_path / manifest.FILE_NAME)
