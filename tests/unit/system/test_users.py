"""Commands that root types for a cluster of another user."""

import os
import pwd
import subprocess
import sys

import pytest

from tidstorage.cluster.load import load_cluster
from tidstorage.deployment import install
from tidstorage.errors import DescriptionError
from tidstorage.system import child, users

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
USER = "nobody"


@needs_root
def test_a_command_of_root_goes_on_as_the_user():
    code = (
        "import os, tempfile; from tidstorage.system import users;"
        f"users.leave_root({USER!r});"
        "print(os.getresuid(), os.getresgid(), sorted(os.getgroups()),"
        " os.environ["
        "'USER'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=child.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    entry = pwd.getpwnam(USER)
    uid, gid = entry.pw_uid, entry.pw_gid
    groups = sorted(set(os.getgrouplist(USER, gid)))
    assert done.stdout.strip() == f"{(uid,) * 3} {(gid,) * 3} {groups} {USER}"


@needs_root
def test_what_root_makes_belongs_to_the_user(tmp_path):
    (tmp_path / "cluster.toml").write_text(
        f'[cluster]\nuser = "{USER}"\n[[storage]]\nid = "root"\nmount-point = "/"\n'
        '[[zope]]\nname = "web"\n'
    )
    cluster = load_cluster(tmp_path / "cluster.toml")
    install.write_files(cluster)
    made = [
        tmp_path / "var",
        tmp_path / "var/storage/root",
        tmp_path / "etc/supervisord.conf",
        cluster.zopes[0].configuration,
        cluster.backup.directory,
    ]
    uid = pwd.getpwnam(USER).pw_uid
    assert {path: path.stat().st_uid for path in made} == dict.fromkeys(made, uid)


def test_an_unknown_user_is_a_mistake_of_the_description():
    if os.geteuid() != 0:
        users.leave_root("no-such-user")
        return
    with pytest.raises(DescriptionError, match="no user no-such-user"):
        users.leave_root("no-such-user")


def test_without_a_user_nothing_changes():
    before = os.geteuid()
    users.leave_root(None)
    assert os.geteuid() == before
