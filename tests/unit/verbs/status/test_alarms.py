"""What `status` warns of: failures, kills, and silence."""

import dataclasses
import datetime
import os
import socket
from pathlib import Path

import pytest
from small_cluster import SmallCluster

from tidstorage.cluster import pack_files
from tidstorage.cluster.cluster import Cluster, Verify
from tidstorage.operation import pack_note
from tidstorage.operation import results as runs
from tidstorage.verbs.status.alarms import find_alarms

NOW = datetime.datetime.fromisoformat("2026-11-26 12:00").astimezone()


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(f"2026-11-{text}").astimezone()


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    found = SmallCluster(tmp_path).cluster()
    backup = dataclasses.replace(found.backup, schedule="15 2 * * *")
    return dataclasses.replace(found, backup=backup)


def run(begun: str, status: int | None = 0, pid: int = 1 << 22, **more) -> runs.Result:
    return runs.Result(
        verb="backup",
        pid=pid,
        host=socket.gethostname(),
        begun=at(begun),
        ended=None if status is None else at(begun),
        status=status,
        **more,
    )


def results(last: runs.Result, good: runs.Result | None) -> runs.Results:
    return runs.Results(version=1, last=last, good=good)


def said(cluster, found, newest_set=None, now=NOW):
    return list(find_alarms(cluster, found, newest_set, now))


def test_nothing_is_said_of_what_is_as_it_should_be(cluster):
    good = run("26 02:15:03")
    assert said(cluster, {"backup": results(good, good)}) == []
    # Never run, since the cluster is new: there is no set, which is said elsewhere.
    assert said(cluster, {"backup": None}) == []


def test_silence_is_an_alarm(cluster):
    good = run("25 02:15:03")
    (words,) = said(cluster, {"backup": results(good, good)})
    assert words.startswith(
        "the last good backup began at 2026-11-25 02:15:03, 1 d 9 h"
    )
    assert "expected one at 2026-11-26 02:15:00" in words
    # It may come late: another run may have to end first.
    assert said(cluster, {"backup": results(good, good)}, now=at("26 03:14:59")) == []
    assert said(cluster, {"backup": results(good, good)}, now=at("26 03:15:01"))
    # A set that somebody made by hand is as good.
    assert said(cluster, {"backup": results(good, good)}, at("26 11:00")) == []
    never = dataclasses.replace(
        cluster, backup=dataclasses.replace(cluster.backup, schedule=None)
    )
    assert said(never, {"backup": results(good, good)}) == []


def test_a_set_counts_where_no_run_is_known(cluster):
    (words,) = said(cluster, {"backup": None}, at("24 02:15"))
    assert "began at 2026-11-24" in words


def test_other_verbs_have_their_schedules(cluster):
    cluster = dataclasses.replace(cluster, verify=Verify(schedule="0 6 * * 0"))
    good = run("26 02:15").model_copy(
        update={"verb": "verify", "begun": at("15 06:00")}
    )
    backup = results(run("26 02:15"), run("26 02:15"))
    (words,) = said(cluster, {"backup": backup, "verify": results(good, good)})
    assert "the last good verify" in words and "2026-11-22 06:00" in words


def test_a_failure_is_said_with_its_hint(cluster):
    last = run("26 02:15:03", 17, error="ZEO server beta is down", hint="Start it.")
    overdue, failed = said(cluster, {"backup": results(last, run("25 02:15:03"))})
    assert "last good backup" in overdue
    assert failed == (
        "the last backup, at 2026-11-26 02:15:03, ended with status 17:"
        " ZEO server beta is down (hint: Start it.)"
    )


def test_a_killed_run_is_said_and_one_that_goes_on_is_none(cluster, monkeypatch):
    good = run("25 02:15:03")
    killed = run("26 02:15:03", None)
    assert killed.state == "killed"
    assert "was killed" in said(cluster, {"backup": results(killed, good)})[1]
    going = run("26 02:15:03", None, pid=os.getpid())
    monkeypatch.setattr(runs.proc, "begun", lambda _pid: at("26 02:15:02"))
    assert going.state == "running"
    assert said(cluster, {"backup": results(going, good)}) == []
    # Its number was given to another process since.
    monkeypatch.setattr(runs.proc, "begun", lambda _pid: at("26 03:15:02"))
    assert going.state == "killed"
    elsewhere = going.model_copy(update={"host": "another"})
    assert elsewhere.state == "unknown"


def test_what_a_pack_left_is_said(cluster):
    data_file = cluster.storages[0].data_file
    data_file.parent.mkdir(exist_ok=True)
    pack_files.pack_file_of(data_file).touch()
    pack_note.write_note(cluster, {"catalog": 7})
    note, left = said(cluster, {"backup": results(run("26 02:15"), run("26 02:15"))})
    assert "has not been followed by a full set" in note
    assert left.startswith(f"{data_file}.pack is there")
