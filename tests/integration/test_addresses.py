"""A whole cluster whose servers are not at HOST:PORT of IPv4."""

import base64
import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest
import ZEO
import ZODB
from backup_sets import backup_directory
from real_processes import PATIENCE, free_port, wait_until

from tidstorage.cluster.load import load_cluster
from tidstorage.coherence import tid
from tidstorage.deployment import install
from tidstorage.system import child, proc

pytestmark = pytest.mark.integration

DESCRIPTION = """\
[cluster]
name = "addresses"
[[zeo]]
name = "alpha"
address = "var/run/alpha.sock"
[[zeo]]
name = "beta"
address = "[::1]:{}"
[[storage]]
id = "root"
zeo = "alpha"
mount-point = "/"
[[storage]]
id = "media"
zeo = "beta"
blobs = true
[[zope]]
name = "web"
address = "[::1]:{}"
[tidstorage]
address = "[::1]:{}"
[backup]
schedule = "never"
"""


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    file = tmp_path_factory.mktemp("a") / "cluster.toml"
    file.write_text(DESCRIPTION.format(free_port(), free_port(), free_port()))
    made = load_cluster(file)
    install.write_files(made)
    try:
        for verb in ("init", "start"):
            done = run(made, verb)
            assert done.returncode == 0, done.stdout + done.stderr
        yield made
    finally:
        assert run(made, "stop").returncode == 0


def run(cluster, *arguments, **options):
    return subprocess.run(
        [cluster.bin_directory / "cluster", *arguments],
        env=child.environment(),
        text=True,
        **(options or {"capture_output": True}),
    )


def status(cluster):
    """What it says once all parts answer: supervisor may just have started one."""
    done = wait_until(
        lambda: (said := run(cluster, "status", "--json")).returncode == 0 and said,
        "all parts answer",
    )
    return json.loads(done.stdout)


def add_folder(cluster):
    """Through the Zope; a transaction with the name of a user."""
    zope = cluster.zopes[0]
    password = (cluster.directory / "var/admin-password").read_text().split()[-1]
    request = urllib.request.Request(
        f"http://[{zope.host}]:{zope.port}/manage_addFolder",
        data=f"id={uuid.uuid4().hex}".encode(),
        headers={
            "Authorization": "Basic "
            + base64.b64encode(f"admin:{password}".encode()).decode()
        },
    )
    urllib.request.urlopen(request, timeout=PATIENCE).close()


def write_unstamped(cluster):
    database = ZODB.DB(ZEO.client(cluster.zeo("alpha").address, storage="root"))
    try:
        with database.transaction("nightly import") as connection:
            connection.transaction_manager.get().setUser("importer", "/acl_users")
            connection.root()["imported"] = True
    finally:
        database.close()


def test_status_names_who_stamps_and_who_does_not(cluster):
    assert status(cluster)["coverage"]["never_seen_stamping"] == ["web"]
    shown = run(cluster, "status").stdout
    assert "never seen stamping" in shown and ": web" in shown
    add_folder(cluster)
    wait_until(
        lambda: not status(cluster)["coverage"]["never_seen_stamping"],
        "the Zope was heard",
    )
    coverage = status(cluster)["coverage"]
    assert [each["name"] for each in coverage["stamping"]] == ["web"]
    assert coverage["unstamped"] == {}
    write_unstamped(cluster)
    shown = wait_until(
        lambda: (text := run(cluster, "status").stdout).count("importer") and text,
        "the writer is named",
    )
    assert "never seen stamping" not in shown
    assert "written without stamps: 1 on root, the last" in shown
    assert 'user "/acl_users importer", description "nightly import"' in shown


def test_a_backup_whose_output_nobody_reads_is_made(cluster):
    reader, writer = os.pipe()
    os.close(reader)
    before = backup_directory(cluster).manifests()
    done = run(cluster, "backup", stdout=writer, stderr=writer)
    os.close(writer)
    assert done.returncode == 0
    assert len(backup_directory(cluster).manifests()) == len(before) + 1


def test_a_socket_left_by_a_killed_server_is_taken_over(cluster):
    zeo = cluster.zeo("alpha")
    pid = proc.pid_in(zeo.pid_file)
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: proc.pid_in(zeo.pid_file) not in (pid, None),
        "supervisor has started it again",
    )
    wait_until(lambda: can_add_folder(cluster), "it serves")
    assert Path(zeo.address).is_socket()


def can_add_folder(cluster):
    """Not while the Zope has to find its server again."""
    try:
        add_folder(cluster)
    except urllib.error.HTTPError:
        return False
    return True


def test_it_is_backed_up_and_restored(cluster):
    before = backup_directory(cluster).manifests()
    assert run(cluster, "backup").returncode == 0
    (made,) = [
        each for each in backup_directory(cluster).manifests() if each not in before
    ]
    dump = tid.vector_to_text(made.point.vector)
    wait_until(lambda: status(cluster)["dump"] == dump, "the point covers all")
    add_folder(cluster)
    wait_until(lambda: status(cluster)["dump"] != dump, "the point moves on")
    assert run(cluster, "restore").returncode != 0, "while all of it runs"
    done = run(cluster, "restore", "--stop")
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(lambda: status(cluster)["dump"] == dump, "the point is that of the set")
