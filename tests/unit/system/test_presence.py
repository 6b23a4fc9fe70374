"""Absence is told only where presence would have shown."""

import errno
from pathlib import Path

import pytest

from tidstorage.system.presence import is_there


def test_what_is_there_and_what_is_not(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to("nothing")
    assert is_there(tmp_path) and is_there(tmp_path / "file")
    for absent in ("none", "file/below", "broken"):
        assert not is_there(tmp_path / absent)


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ELOOP]
)
def test_what_nobody_could_look_at_is_not_said_to_be_absent(monkeypatch, number):
    def fail(path, **_):
        raise OSError(number, "fails", str(path))

    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(OSError, match="fails"):
        is_there(Path("/anything"))
