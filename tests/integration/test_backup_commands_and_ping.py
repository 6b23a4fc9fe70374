"""What is around a backup: full-every, commands, the ping, the result it leaves."""

import contextlib
import dataclasses
import datetime
import http.server
import logging
import os
import socket
import subprocess
import sys
import threading

import pytest
from dying import in_child
from small_cluster import small_cluster

from tidstorage.coherence import tid
from tidstorage.errors import EngineFailed, FileUnreadable, Locked
from tidstorage.operation import lock, results
from tidstorage.verbs.backup import backup as perform
from tidstorage.verbs.backup import prepare
from tidstorage.verbs.backup.backup import back_up
from tidstorage.verbs.backup.ping import ping

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    with small_cluster(tmp_path_factory.mktemp("small")) as running:
        running.write(1, 6)
        yield running


@pytest.fixture
def cluster(small, tmp_path):
    found = small.cluster()
    daemon = dataclasses.replace(found.daemon, tid_log=tmp_path / "tidlog")
    found = dataclasses.replace(found, directory=tmp_path, daemon=daemon)
    return with_backup(found, directory=tmp_path / "backup")


@pytest.fixture(scope="module")
def made(small, tmp_path_factory):
    """A set; made once, since what is in it does not matter here."""
    folder = tmp_path_factory.mktemp("made")
    return back_up(with_backup(small.cluster(), directory=folder / "backup"))


@pytest.fixture
def copied(made, monkeypatch):
    """Let a backup have made that set."""
    monkeypatch.setattr(perform, "_prepare_and_make", lambda *_arguments: made)


@pytest.fixture
def broken(monkeypatch):
    """Let a backup fail."""

    def fail(*_arguments):
        raise FileUnreadable("a file is broken", "Mend it.")

    return lambda: monkeypatch.setattr(perform, "_prepare_and_make", fail)


def with_backup(cluster, **changes):
    backup = dataclasses.replace(cluster.backup, **changes)
    return dataclasses.replace(cluster, backup=backup)


def days(number):
    return datetime.timedelta(days=number)


def test_full_copies_are_made_anew_when_they_are_old(small, cluster):
    assert back_up(cluster).kind == "full"
    small.write(2, 6, group=["catalog", "documents", "root"])
    assert back_up(with_backup(cluster, full_every=days(28))).kind == "incremental"
    # The first one has an age by now, however small.
    assert back_up(with_backup(cluster, full_every=days(0))).kind == "full"
    assert back_up(cluster).kind == "unchanged"


def test_when_full_copies_are_due(cluster, monkeypatch):
    existing = {
        "root": ["2026-10-20-02-15-09.fsz", "2026-10-21-02-15-09.deltafsz"],
        "catalog": ["2026-10-22-02-15-09.fsz"],
    }

    def is_due(moment, every):
        now = datetime.datetime.fromisoformat(f"{moment}+00:00")
        monkeypatch.setattr(prepare.clock, "now", lambda: now)
        return prepare._is_full_due(with_backup(cluster, full_every=every), existing)

    # A little before: cron starts at 02:15, and not always in the ninth second.
    assert is_due("2026-11-17 02:15:02", days(28))
    assert not is_due("2026-11-16 02:15:10", days(28))
    assert not is_due("2026-11-17 01:15:02", days(28))
    assert not is_due("2036-11-17 02:15:02", None)
    existing.clear()
    assert not is_due("2026-11-17 02:15:02", days(28))


SAY = 'echo "$TIDSTORAGE_RESULT|$TIDSTORAGE_STATUS|$TIDSTORAGE_SET|$TIDSTORAGE_ERROR"'


def test_commands_know_the_set_its_point_and_the_result(cluster, copied, broken):
    said = cluster.directory / "said"
    cluster = with_backup(
        cluster,
        pre_command=f"{SAY} >> {said}",
        post_command=f'{SAY} >> {said}; echo "$TIDSTORAGE_VECTOR" >> {said}',
    )
    made = back_up(cluster)
    before, after, vector = said.read_text().splitlines()
    assert (before, after) == ("|||", f"ok|0|{made.id}|")
    for last in tid.vector_to_text(made.point.vector).values():
        assert last in vector
    said.unlink()
    broken()
    with pytest.raises(FileUnreadable):
        back_up(cluster)
    status = FileUnreadable.exit_status
    assert said.read_text() == f"|||\nfailed|{status}||a file is broken\n\n"


def test_a_failing_command_after_a_failed_backup_hides_nothing(cluster, broken, caplog):
    broken()
    with pytest.raises(FileUnreadable):
        back_up(with_backup(cluster, post_command="exit 5"))
    assert "the post-command 'exit 5' ended with status 5" in caplog.text


class PingServer:
    """Answers GET with a status, and keeps what was asked for."""

    def __init__(self):
        self.status = 200
        self.asked = []
        this = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                this.asked.append(self.path)
                self.send_response(this.status)
                self.end_headers()

            def log_message(self, *_arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/ping?id=a%20b"


@pytest.fixture
def pinged():
    found = PingServer()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def test_the_ping_is_sent_after_good_backups_alone(cluster, copied, pinged, tmp_path):
    cluster = with_backup(cluster, ping_url=pinged.url)
    back_up(cluster)
    assert pinged.asked == ["/ping?id=a%20b"]
    for failing in ({"pre_command": "exit 1"}, {"post_command": "exit 1"}):
        with pytest.raises(EngineFailed):
            back_up(with_backup(cluster, **failing))
    with lock.hold(cluster, "restore"), pytest.raises(Locked):
        back_up(cluster)
    assert len(pinged.asked) == 1
    secret = tmp_path / "ping-url"
    secret.write_text(f"{pinged.url}&secret\n")
    back_up(with_backup(cluster, ping_url=None, ping_url_file=secret))
    assert pinged.asked[1:] == ["/ping?id=a%20b&secret"]


def test_a_ping_that_fails_is_a_warning_and_keeps_its_secret(
    cluster, copied, pinged, caplog, tmp_path
):
    pinged.status = 404
    back_up(with_backup(cluster, ping_url=pinged.url))
    assert "ping to 127.0.0.1:" in caplog.text and "404" in caplog.text
    found = results.read(cluster, "backup")
    assert found.last.status == 0
    assert "ping" in found.last.warnings[-1]
    assert "id=a" not in caplog.text
    caplog.clear()
    nowhere = tmp_path / "nowhere"
    for text in (None, "file:///etc/passwd"):
        if text:
            nowhere.write_text(text)
        back_up(with_backup(cluster, ping_url_file=nowhere))
        assert f"no ping was sent: {'' if text is None else nowhere}" in caplog.text
        caplog.clear()


def test_a_ping_that_nobody_answers_has_a_deadline(cluster, caplog):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        ping(with_backup(cluster, ping_url=f"http://127.0.0.1:{port}/secret"), 0.2)
    assert f"the ping to 127.0.0.1:{port} failed" in caplog.text
    assert "secret" not in caplog.text


def test_a_good_run_leaves_its_set_and_point(cluster, copied):
    assert results.read(cluster, "backup") is None
    made = back_up(cluster)
    found = results.read(cluster, "backup")
    assert found.last == found.good
    assert (found.last.set, found.last.point) == (made.id, made.point.id)
    assert (found.last.status, found.last.state) == (0, "good")
    assert found.last.begun <= found.last.ended


def test_a_failed_run_leaves_its_error_and_hint_and_the_last_good_one(
    cluster, copied, broken
):
    back_up(cluster)
    good = results.read(cluster, "backup").good
    broken()
    with pytest.raises(FileUnreadable):
        back_up(cluster)
    found = results.read(cluster, "backup")
    assert found.good == good
    assert (found.last.status, found.last.state) == (16, "failed")
    assert (found.last.error, found.last.hint) == ("a file is broken", "Mend it.")


def test_a_run_that_was_killed_is_told_from_one_that_goes_on(
    cluster, monkeypatch, copied
):
    def look_and_die(*_arguments):
        seen = results.read(cluster, "backup").last.state
        os._exit(9 if seen == "running" else 8)

    with monkeypatch.context() as patched:
        patched.setattr(perform, "_prepare_and_make", look_and_die)
        assert in_child(lambda: back_up(cluster)) == 9
    assert results.read(cluster, "backup").last.state == "killed"
    back_up(cluster)
    assert results.read(cluster, "backup").last.state == "good"


def test_a_result_that_cannot_be_kept_fails_nothing(cluster, copied, caplog):
    back_up(cluster)
    folder = results.folder(cluster)
    (folder / "backup.json").write_text("{")
    back_up(cluster)
    assert "is not the result of a run" in caplog.text
    caplog.clear()
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    back_up(cluster)
    assert "cannot be kept" in caplog.text


def test_warnings_still_reach_standard_error():
    """Where nobody has set up logging, a handler of ours would silence them."""
    text = (
        "import logging\n"
        "from tidstorage.operation import results\n"
        "run = results.Run()\n"
        "with results._note_warnings(run):\n"
        "    logging.getLogger('tidstorage.verbs.backup').warning('said %s', 'once')\n"
        "assert run.warnings == ['said once']\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True
    )
    assert said.stderr == "said once\n"
    assert logging.getLogger("tidstorage").handlers == []
