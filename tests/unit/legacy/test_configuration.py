"""Configuration files as the original's administrators wrote them."""

from pathlib import Path

import pytest

from tidstorage.errors import DescriptionError
from tidstorage.legacy import configuration
from tidstorage.legacy.site import read_site

SAMPLE = """
# COMMON
known_tid_storage_identifier_dict = {
  "((('localhost', 8200),), '2')":
    ('/srv/zeo2/var2/Data.fs', '/backup/z22', 'foo_test'),
  "((('localhost', 8200),), '1')":
    ('/srv/zeo2/var/Data.fs', '/backup/z21', 'bar_test'),
  "((('localhost', 8100),), '1')":
    ('/srv/zeo1/var/Data.fs', '/backup/z11', 'baz_test'),
}
base_url = 'http://login:password@localhost:5080/erp5/%s/modifyContext'
port = 9001
host = '127.0.0.1'
#fork = False
status_file = 'tidstorage.tid'
burst_period = 30
full_dump_period = 300
timestamp_file_path = 'repozo_tidstorage_timestamp.log'
status_file_backup_dir = '/backup'
keep_full_backup_count = 3
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "tidstorage.py"
        path.write_text(text)
        return path

    return write


def test_a_whole_one(write, tmp_path):
    found = read_site(configuration.load(write(SAMPLE)))
    first, *_ = found.storages
    assert first.id == "((('localhost', 8200),), '2')"
    assert first.data_file == Path("/srv/zeo2/var2/Data.fs")
    assert first.repository == Path("/backup/z22")
    assert found.timestamps == tmp_path / "repozo_tidstorage_timestamp.log"
    assert found.status_file == tmp_path / "tidstorage.tid"
    assert found.status_backups == Path("/backup")
    assert found.keep_full == 3


def test_stamps_are_matched_by_names_that_are_unique(write):
    found = configuration.load(write(SAMPLE))
    assert [each.name for each in found.storages] == ["2", "1", "1"]
    assert [each.aliases for each in found.storages] == [("2",), (), ()]
    assert found.storages[0].address == ("localhost", 8200)


def test_crashed_files(write):
    text = "data_fs_backup_path_dict = {'a': ('/srv/a.fs', '/backup/a.fs')}\n"
    (found,) = configuration.load(write(text)).crashed_files
    assert (found.id, found.aliases) == ("a", ())
    assert (found.data_file, found.backup) == (Path("/srv/a.fs"), Path("/backup/a.fs"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data_fs_backup_path_dict = {'a': '/srv/a.fs'}", "line 1.*absolute paths"),
        ("data_fs_backup_path_dict = {'a': ('a', 'b')}", "line 1.*absolute paths"),
        ("data_fs_backup_path_dict = 1", "line 1.*expected a dict"),
        ("import os\nstatus_file = 'x'", "line 1: expected the assignment"),
        ("status_file = 1", "status_file: expected a string"),
        (SAMPLE.replace("'/backup/z22', ", ""), "absolute path of its Data.fs"),
        (SAMPLE.replace("timestamp_file_path", "other"), "timestamp_file_path is"),
        ("timestamp_file_path = 'x'", "identifier_dict is missing"),
    ],
)
def test_mistakes_are_named(write, text, said):
    with pytest.raises(DescriptionError, match=said):
        found = configuration.load(write(text))
        found.file("status_file")
        read_site(found)


def test_no_file(tmp_path):
    with pytest.raises(DescriptionError, match="No such file"):
        configuration.load(tmp_path / "none.py")
