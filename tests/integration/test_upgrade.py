"""A cluster that runs by an older commit goes on after an upgrade in its folder.

Only the code is another one then: the description, the data, the backups, the TID log
and the processes are those of before.
"""

import base64
import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from built_clusters import ScratchCluster
from checkouts import (
    bootstrap,
    copy_of_checkout,
    copy_of_commit,
    has_commit,
    note_environment,
    share_environment,
)
from real_processes import PATIENCE, free_port, wait_until

pytestmark = pytest.mark.integration
#: Before every module was moved to its place.
OLD = "eb3000b0af82d068ef91d4c03d40d7c7fae005fa"
#: {generated script: the module of now that it runs}
SCRIPTS = {
    "cluster": "tidstorage.commands.cluster",
    "tidstorage": "tidstorage.commands.scripts.daemon",
    "tidstorage-repozo": "tidstorage.commands.scripts.repozo",
    "zeo-alpha": "tidstorage.commands.scripts.serve",
}


class Site:
    """A folder with the code, and with a cluster of two servers and a Zope."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.described = ScratchCluster(
            folder,
            zeos={"alpha": free_port(), "beta": free_port()},
            storages={"root": ("alpha", False), "media": ("beta", True)},
            zopes={"web": free_port()},
            daemon_port=free_port(),
            additional='[backup]\nschedule = "never"\n',
        )

    def cluster(self, *arguments: str, status: int = 0) -> str:
        """What bin/cluster prints."""
        ended = subprocess.run(
            [self.folder / "bin/cluster", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == status, f"{arguments}: {ended.stdout}{ended.stderr}"
        self.said = ended.stderr
        return ended.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.cluster(*arguments, "--json"))

    def build(self) -> None:
        built = bootstrap(self.folder)
        assert built.returncode == 0, built.stdout + built.stderr

    def points(self) -> set[str]:
        """Ids of the coherency points there are."""
        return {point["id"] for point in self.json("points", "--all")["points"]}

    def states(self) -> set[str]:
        return {part["state"] for part in self.json("status")["parts"]}

    def pids(self) -> dict[str, list[int]]:
        return {part["name"]: part["pids"] for part in self.json("status")["parts"]}

    def ask(self, path: str, **arguments: str) -> str:
        """Ask the Zope, as its manager."""
        secret = (self.folder / "var/admin-password").read_text().split()[-1]
        (port,) = self.described.zopes.values()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}",
            urllib.parse.urlencode(arguments).encode() if arguments else None,
        )
        word = base64.b64encode(f"admin:{secret}".encode()).decode()
        request.add_header("Authorization", f"Basic {word}")
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.read().decode()

    def write(self, name: str) -> None:
        """A document in each of the two databases."""
        for folder in ("", "/media"):
            self.ask(
                f"{folder}/manage_addProduct/OFSP/manage_addDTMLMethod",
                id=name,
                file=f"text of {name}",
            )

    def texts(self, *names: str) -> bool:
        return all(
            f"text of {name}" in self.ask(f"{folder}/{name}")
            for name in names
            for folder in ("", "/media")
        )


def full_copies(made: dict[str, Any]) -> set[str]:
    """The full copies that a backup set needs."""
    return {path for path in made["needs"]["files"] if path.endswith(".fsz")}


@pytest.fixture
def old(tmp_path_factory):
    """A site that was built, and runs, by the older commit; with a backup."""
    if not has_commit(OLD):
        # As in an archive, or a clone of the newest commits alone.
        pytest.skip(f"this tree has no history that goes back to {OLD[:7]}")
    # A short name: supervisor's socket lies below it.
    folder = tmp_path_factory.mktemp("u") / "site"
    site = Site(copy_of_commit(OLD, folder))
    share_environment(folder)
    site.described.file.write_text(site.described.text())
    try:
        site.build()
        assert not (folder / "src/tidstorage/verbs").exists()
        site.cluster("init")
        site.cluster("start")
        site.write("first")
        site.cluster("backup")
        site.write("second")
        yield site
    finally:
        subprocess.run([folder / "bin/cluster", "stop"], cwd=folder)
        shutil.rmtree(folder / "src")


def test_an_upgrade_in_place(old):
    site, folder = old, old.folder
    (first,) = site.json("backups")
    known = site.points()
    running = site.pids()
    tid_log = (folder / "var/tidstorage/tidlog").read_bytes()
    journal = (folder / "var/tidstorage/journal").read_bytes()
    generated = {path: path.read_text() for path in (folder / "etc").iterdir()}

    copy_of_checkout(folder)
    note_environment(folder)
    site.build()
    for script, module in SCRIPTS.items():
        assert f"import {module}\n" in (folder / "bin" / script).read_text(), script
    # What the processes are configured by has not changed: none has to be restarted.
    assert {path: path.read_text() for path in (folder / "etc").iterdir()} == generated

    # The new commands understand what the old ones have left, and what runs.
    assert site.states() == {"running"}
    assert site.pids() == running
    assert [made["id"] for made in site.json("backups")] == [first["id"]]
    assert known <= site.points()
    restored = site.json("restore", "--set", first["id"], "--dry-run", "--stop")
    assert restored["set"] == first["id"]
    assert "Nothing to do" in site.cluster("start")

    # The set of the old code is gone on from, while old processes serve.
    site.write("third")
    site.cluster("backup")
    assert "full copies are made" not in site.said
    second = site.json("backups")[0]
    assert second["id"] != first["id"]
    assert (second["kind"], second["needs"]["increments"]) == ("incremental", 1)
    assert full_copies(first) == full_copies(second) != set()

    # The new daemon reads what the old one wrote, and goes on writing it.
    site.cluster("restart", "tidstorage")
    assert (folder / "var/tidstorage/tidlog").read_bytes().startswith(tid_log)
    assert (folder / "var/tidstorage/journal").read_bytes().startswith(journal)
    site.write("fourth")
    wait_until(
        lambda: known < site.points(),
        "the new daemon writes points",
    )
    site.cluster("restart")
    assert site.states() == {"running"}
    assert not {pid for pids in running.values() for pid in pids} & {
        pid for pids in site.pids().values() for pid in pids
    }
    assert site.texts("first", "second", "third", "fourth")

    # Back to the set of the old code, and on.
    site.cluster("restore", "--set", first["id"], "--stop")
    assert site.states() == {"running"}
    assert site.texts("first")
    site.write("fifth")
    site.cluster("backup")
    site.cluster("stop")
    assert site.cluster("stop") == "Nothing to do: nothing runs.\n"
