"""Room on disk."""

import errno
import shutil
from types import SimpleNamespace

import pytest

from tidstorage.errors import NoSpace
from tidstorage.system import disks


@pytest.fixture
def free(monkeypatch):
    """Let any file system have so many bytes free."""

    def set_free(count):
        usage = SimpleNamespace(free=count)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)

    return set_free


def test_what_goes_to_one_file_system_is_added_up(tmp_path, free):
    free(99)
    needed = {tmp_path / "a/b/Data.fs": 60, tmp_path / "c": 40}
    (room,) = disks.find_room(needed)
    assert (room.folder, room.needed, room.free) == (tmp_path, 100, 99)
    with pytest.raises(NoSpace, match=r"has 99 bytes free; this needs 100") as caught:
        disks.refuse_lack(needed, "this", "Make room.")
    assert caught.value.hint == "Make room."
    free(100)
    disks.refuse_lack(needed, "this", "Make room.")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_what_a_full_disk_answers(number):
    assert disks.is_full(OSError(number, "no room"))
    assert not disks.is_full(OSError(errno.EIO, "broken"))
    assert not disks.is_full(OSError("no number"))
