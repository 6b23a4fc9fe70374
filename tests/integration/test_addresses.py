"""A whole cluster whose servers are not at HOST:PORT of IPv4."""

import base64
import json
import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest
import ZEO
import ZODB
from real import free_port, wait_until

from tidstorage import child, deploy, occupants
from tidstorage.backup import sets
from tidstorage.clusterfile import load_cluster

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
    deploy.write_files(made)
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
    done = run(cluster, "status", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def add_folder(cluster, name):
    """Through the Zope; a transaction with the name of a user."""
    zope = cluster.zopes[0]
    password = (cluster.directory / "var/admin-password").read_text().split()[-1]
    request = urllib.request.Request(
        f"http://[{zope.host}]:{zope.port}/manage_addFolder",
        data=f"id={name}".encode(),
        headers={
            "Authorization": "Basic "
            + base64.b64encode(f"admin:{password}".encode()).decode()
        },
    )
    urllib.request.urlopen(request, timeout=30).close()


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
    add_folder(cluster, "one")
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
    before = sets.manifests(cluster.backup.directory)[0]
    done = run(cluster, "backup", stdout=writer, stderr=writer)
    os.close(writer)
    assert done.returncode == 0
    assert len(sets.manifests(cluster.backup.directory)[0]) == len(before) + 1


def test_a_socket_left_by_a_killed_server_is_taken_over(cluster):
    zeo = cluster.zeo("alpha")
    pid = occupants.pid_in(zeo.pid_file)
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: occupants.pid_in(zeo.pid_file) not in (pid, None),
        "supervisor has started it again",
    )
    wait_until(lambda: add_folder(cluster, "two") or True, "it serves")
    assert Path(zeo.address).is_socket()


def test_it_is_backed_up_and_restored(cluster):
    assert run(cluster, "backup").returncode == 0
    dump = status(cluster)["dump"]
    add_folder(cluster, "three")
    wait_until(lambda: status(cluster)["dump"] != dump, "the point moves on")
    assert run(cluster, "restore").returncode != 0, "while all of it runs"
    done = run(cluster, "restore", "--stop")
    assert done.returncode == 0, done.stdout + done.stderr
    assert status(cluster)["dump"] == dump
