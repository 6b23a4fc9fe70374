"""Copies that nobody can look at just now, on a disk that fails."""

import errno
from pathlib import Path

from tidstorage.system.permissions import refuse_links_in, refuse_more_readable


def test_a_copy_that_cannot_be_looked_at_is_passed_over_and_named(
    tmp_path, monkeypatch, caplog
):
    data_file = tmp_path / "Data.fs"
    data_file.touch(mode=0o600)
    copies = tmp_path / "copies"
    copies.mkdir()
    copy = copies / "copy.fs"
    copy.touch(mode=0o600)
    tmp_path.chmod(0o755)
    copies.chmod(0o755)
    original = Path.stat

    def fail(path, **keywords):
        if path == copy:
            raise OSError(errno.EIO, "fails", str(path))
        return original(path, **keywords)

    monkeypatch.setattr(Path, "stat", fail)
    refuse_links_in(copies)
    refuse_more_readable(copies, copies, data_file)
    assert f"who may read {copy} is not known: fails" in caplog.text
