"""Descriptions: what is filled in, and every mistake at once."""

import tomllib
from pathlib import Path

import jsonschema
import pytest

from tidstorage.cluster.load import load_cluster
from tidstorage.cluster.reference import reference_text
from tidstorage.cluster.schema import schema_text
from tidstorage.errors import DescriptionError

ROOT = Path(__file__).parents[3]
SMALLEST = """
[[storage]]
id = "root"
mount-point = "/"

[[zope]]
name = "web"
"""
TWO = """
[[zeo]]
name = "alpha"
[[zeo]]
name = "beta"
[[storage]]
id = "root"
zeo = "alpha"
mount-point = "/"
[[storage]]
id = "documents"
zeo = "beta"
"""


def load(folder, text):
    path = folder / "cluster.toml"
    path.write_text(text)
    return load_cluster(path)


def mistakes(folder, text):
    with pytest.raises(DescriptionError) as caught:
        load(folder, text)
    assert caught.value.exit_status == 3
    return str(caught.value)


def test_the_default_description(tmp_path):
    cluster = load(tmp_path, (ROOT / "cluster.default.toml").read_text())
    assert {each.id: each.zeo for each in cluster.storages} == {
        "root": "alpha",
        "catalog": "alpha",
        "documents": "beta",
        "media": "beta",
    }
    assert [(each.name, each.port) for each in cluster.zopes] == [
        ("web-1", 18080),
        ("web-2", 18081),
    ]
    assert cluster.storage("media").blob_directory is not None
    assert cluster.storage("root").blob_directory is None
    assert cluster.storage("root").mount_point == "/"
    assert cluster.storage("catalog").mount_point == "/catalog"


def test_the_smallest_useful_description(tmp_path):
    cluster = load(tmp_path, SMALLEST)
    (zeo,) = cluster.zeos
    assert cluster.storage("root").zeo == zeo.name
    assert cluster.zopes[0].name == "web"
    assert cluster.storage("root").data_file == (tmp_path / "var/storage/root/Data.fs")


def test_every_mistake_is_listed_at_once_with_its_line(tmp_path):
    text = mistakes(
        tmp_path,
        TWO.replace('zeo = "beta"', 'zeo = "bta"\nblobs = "yes"\ncach-size = 3')
        + '[backup]\njobs = "2"\n[tidstorage]\naddress = "nowhere"\n',
    )
    assert "5 mistakes" in text
    assert 'storage[2].cach-size: expected no such key, found "cach-size"' in text
    assert 'did you mean "cache-size"?' in text
    assert "line 13, storage[2].blobs: expected true or false" in text
    assert "storage[2].zeo: expected the name of a [[zeo]] server" in text
    assert "backup.jobs: expected a whole number" in text
    assert "tidstorage.address: expected HOST:PORT" in text


@pytest.mark.parametrize(
    ("change", "place", "found"),
    [
        (('id = "documents"', 'id = "1"'), "storage[2].id", '"1"'),
        (('id = "documents"', 'id = "root"'), "storage[2].id", "twice"),
        (('zeo = "beta"', 'zeo = "bta"'), "storage[2].zeo", 'did you mean "beta"'),
        (('mount-point = "/"', ""), "storage", "root database"),
        (
            ('id = "documents"', 'id = "documents"\nmount-point = "/"'),
            "storage[2].mount-point",
            "twice",
        ),
        (
            ('name = "beta"', 'name = "beta"\naddress = "127.0.0.1:18101"'),
            "zeo[2].address",
            "twice",
        ),
        (('name = "beta"', 'name = "alpha"'), "zeo[2].name", "twice"),
        (
            ('id = "documents"', 'id = "documents"\npath = "../Data.fs"'),
            "storage[2].path",
            "../Data.fs",
        ),
        (
            (
                'id = "documents"',
                'id = "documents"\npath = "var/storage/root/Data.fs"',
            ),
            "storage[2].path",
            "twice",
        ),
        (('name = "beta"', 'name = "beta"\nmanaged = false'), "zeo[2]", "reserved"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, change, place, found):
    assert TWO.count(change[0]) >= 1
    text = mistakes(tmp_path, TWO.replace(*change, 1))
    assert place in text
    assert found in text


def test_a_backup_inside_the_data_is_refused(tmp_path):
    text = mistakes(tmp_path, TWO + '[backup]\ndirectory = "var/storage/root/b"\n')
    assert "backup.directory" in text
    assert "overlaps" in text


def test_a_backup_inside_the_data_is_seen_through_a_link(tmp_path):
    (tmp_path / "var/storage/root").mkdir(parents=True)
    (tmp_path / "elsewhere").symlink_to("var/storage/root")
    text = mistakes(tmp_path, TWO + '[backup]\ndirectory = "elsewhere/backup"\n')
    assert "overlaps" in text


def test_two_zopes_on_one_port_of_a_count(tmp_path):
    text = mistakes(
        tmp_path,
        TWO + '[[zope]]\nname = "web"\ncount = 2\naddress = "127.0.0.1:18100"\n',
    )
    assert "zope[1].address" in text
    assert "127.0.0.1:18100" in text


@pytest.mark.parametrize("table", ["tls", "host"])
def test_reserved_tables_say_so(tmp_path, table):
    text = mistakes(tmp_path, TWO + f'[{table}]\nx = "y"\n')
    assert f"{table}: expected nothing here yet" in text
    assert "reserved: not supported yet" in text


def test_an_unknown_table_is_named(tmp_path):
    text = mistakes(tmp_path, TWO + "[bakup]\n")
    assert 'did you mean "backup"?' in text


def test_an_empty_file(tmp_path):
    assert "is empty" in mistakes(tmp_path, "")


def test_a_file_that_is_not_toml(tmp_path):
    assert "is not TOML" in mistakes(tmp_path, "[[storage\n")


def test_a_missing_file(tmp_path):
    with pytest.raises(DescriptionError, match="No such file"):
        load_cluster(tmp_path / "cluster.toml")


def test_a_folder_that_no_crontab_could_name_is_refused(tmp_path):
    folder = tmp_path / "100% mine"
    folder.mkdir()
    assert "the cluster's folder" in mistakes(folder, TWO)


def test_a_wrong_table_is_no_reason_to_blame_another(tmp_path):
    text = mistakes(tmp_path, TWO.replace('mount-point = "/"', "mount-point = 3"))
    assert "1 mistake:" in text


def test_the_schema_in_docs_is_that_of_the_model():
    assert (ROOT / "docs/cluster.schema.json").read_text() == schema_text()


def test_the_reference_page_in_docs_is_that_of_the_model():
    assert (ROOT / "docs/description.rst").read_text() == reference_text()


def test_the_schema_accepts_the_default_and_refuses_an_unknown_key():
    import json

    schema = json.loads(schema_text())
    data = tomllib.loads((ROOT / "cluster.default.toml").read_text())
    jsonschema.validate(data, schema)
    data["storage"][0]["colour"] = "red"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema)
