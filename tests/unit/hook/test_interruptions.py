"""Finalizers, signal handlers, forks and greenlets come anywhere, and hang nothing.

Each program runs in a process of its own, which a timer ends where it hangs.
"""

import json
import subprocess
import sys

import pytest
from listener import Listener
from real_processes import PATIENCE, wait_until
from records import read

from tidstorage.wire import protocol

BEGINNING = f"""
import sys
if "patched first" in sys.argv:
    from gevent import monkey; monkey.patch_all()
import faulthandler, gc, json, os, signal, sys, threading
import transaction, ZODB, tidstorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from tidstorage.hook import hook
faulthandler.dump_traceback_later({PATIENCE}, exit=True)
folder = sys.argv[1]
ours = os.path.dirname(hook.__file__)

def open_file(name):
    return ZODB.DB(FileStorage(f"{{folder}}/{{name}}.fs"), database_name=name)

def count_up(database):
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    root = connection.root()
    root["count"] = root.get("count", 0) + 1
    manager.commit()
    connection.close()

def fail_to_commit(database):
    managers = transaction.TransactionManager(), transaction.TransactionManager()
    connections = [database.open(manager) for manager in managers]
    for connection in connections:
        connection.root()["count"] = 0
    managers[0].commit()
    try:
        managers[1].commit()
    except ZODB.POSException.ConflictError:
        managers[1].abort()
    for connection in connections:
        connection.close()

def do_all_that_the_hook_sees(main, name):
    other = open_file(name)
    count_up(main)
    count_up(other)
    fail_to_commit(other)
    tidstorage.statistics()
    other.close()
    count_up(main)
"""


def run(program, *arguments):
    """What the program printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + program, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr[-4000:]
    return json.loads(done.stdout)


AT_EVERY_LINE = """
seen, broken_off = set(), []
tidstorage.install(("127.0.0.1", 1))
main, handler = open_file("main"), open_file("handler")

def interrupt():
    # As a finalizer or a signal handler may, amid anything.
    database = ZODB.DB(MappingStorage(), database_name="closed by it")
    opened = open_file("opened by it")
    count_up(handler)
    count_up(opened)
    opened.close()
    database.close()
    if len(seen) % 20 == 0:
        del database, opened
        gc.collect()

def trace(frame, event, argument):
    return trace_line if frame.f_code.co_filename.startswith(ours) else None

def trace_line(frame, event, argument):
    line = frame.f_code.co_name, frame.f_lineno
    if event == "line" and line not in seen:
        seen.add(line)
        try:
            interrupt()
        except BaseException as error:
            broken_off.append(f"{line}: {error!r}")
    return trace_line

sys.settrace(trace)
do_all_that_the_hook_sees(main, "other")
storages = [each.storage_id for each in hook._active.databases.list_open().storages]
# An interruption starts the sender's thread, so that the next line of its start is not
# come to any more: again and again, until there is no new line.
known = 0
while len(seen) > known:
    known = len(seen)
    tidstorage.uninstall()
    tidstorage.install(("127.0.0.1", 1))
    do_all_that_the_hook_sees(main, "another")
sys.settrace(None)
print(json.dumps({
    "functions": sorted({name for name, _ in seen}),
    "lines": len(seen),
    "broken off": broken_off,
    "storages": sorted(storages),
    **tidstorage.statistics(),
}))
"""


def test_an_interruption_at_every_line_of_the_hook(tmp_path):
    told = run(AT_EVERY_LINE, tmp_path)
    assert told["broken off"] == []
    assert told["lines"] > 150
    assert {
        *("add", "remove", "keep_seen", "_build", "_let_go", "_keep", "list_open"),
        *("put_stamp", "_parts", "commit_resources", "_failed", "_invalidate_creating"),
        *("begin", "_put", "_start", "close", "install", "uninstall"),
    } <= set(told["functions"])
    assert told["errors"] == told["unstamped"] == 0
    # None of what changed amid a look at the databases is overlooked.
    assert told["storages"] == ["handler", "main", "opened by it", "other"]


THE_COLLECTOR = """
tidstorage.install(None, {"main": "main"})
main = open_file("main")

class Owner:
    def __init__(self, database):
        self.database, self.itself = database, self
    def __del__(self):
        self.database.close()
        closed.append(1)

closed, others = [], []
connection = main.open()
gc.freeze()
for threshold in range(1, 600):
    gc.disable()
    gc.collect()
    others[:] = [ZODB.DB(MappingStorage(), database_name="other")]
    opened = ZODB.DB(MappingStorage(), database_name="third")
    Owner(others[0])
    connection.root()["x"] = threshold
    gc.set_threshold(threshold)
    gc.enable()
    transaction.commit()
    gc.disable()
    opened.close()
print(json.dumps([len(closed), tidstorage.statistics()["stamped"]]))
"""


def test_the_collector_runs_anywhere_amid_a_commit(tmp_path):
    closed, stamped = run(THE_COLLECTOR, tmp_path)
    assert closed > 500
    assert stamped >= 599


SIGNALS = """
tidstorage.install(("127.0.0.1", 1))
main, handler = open_file("main"), open_file("handler")
handled = []

def handle(number, frame):
    count_up(handler)
    ZODB.DB(MappingStorage(), database_name="other").close()
    handled.append(1)
    if len(handled) < 500:
        signal.setitimer(signal.ITIMER_REAL, 0.0003)

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0003)
while len(handled) < 500:
    count_up(main)
print(json.dumps(tidstorage.statistics()))
"""


def test_a_signal_handler_that_commits_and_closes(tmp_path):
    told = run(SIGNALS, tmp_path)
    assert told["errors"] == told["unstamped"] == 0
    assert told["stamped"] > 500


FORKS = """
tidstorage.install(("127.0.0.1", 1))
main = open_file("main")
seen, failed = set(), []
at_a_line, forked = threading.Semaphore(0), threading.Semaphore(0)

def trace(frame, event, argument):
    code = frame.f_code
    # The storage's own lock is held around these.
    held = code.co_name in ("note", "<lambda>")
    return trace_line if code.co_filename.startswith(ours) and not held else None

def trace_line(frame, event, argument):
    line = frame.f_code.co_name, frame.f_lineno
    if event == "line" and line not in seen:
        seen.add(line)
        at_a_line.release()
        forked.acquire()
    return trace_line

def work():
    sys.settrace(trace)
    do_all_that_the_hook_sees(main, "other")
    sys.settrace(None)
    finished.append(1)
    at_a_line.release()

finished = []
thread = threading.Thread(target=work)
thread.start()
while True:
    at_a_line.acquire()
    if finished:
        break
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            opened = open_file(f"child {len(seen)}")
            count_up(opened)
            opened.close()
            assert not tidstorage.statistics()["errors"]
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        failed.append([sorted(seen)[-1], status])
    forked.release()
thread.join()
print(json.dumps({"lines": len(seen), "failed": failed}))
"""


def test_a_fork_while_another_thread_is_at_any_line_of_the_hook(tmp_path):
    told = run(FORKS, tmp_path)
    assert told["failed"] == []
    assert told["lines"] > 100


HELD_STORAGE = """
import time
to_hold, held, to_release = (threading.Event() for _ in range(3))

def hold():
    to_hold.wait()
    with main.storage._lock:
        held.set()
        to_release.wait()

def let_it_hold():
    to_hold.set()
    held.wait()

tidstorage.install()
main = open_file("main")
count_up(main)
database = open_file("other")
# Nothing of this is in a stamp yet.
seen = main.lastTransaction()
database.close()
thread = threading.Thread(target=hold)
thread.start()
kind = type(hook._active.databases)
before_fork = kind.before_fork
kind.before_fork = lambda self: (before_fork(self), let_it_hold())
child = os.fork()
if not child:
    signal.alarm(60)
    try:
        own = open_file("own")
        count_up(own)
        own.close()
    except BaseException as error:
        os.write(2, repr(error).encode())
        os._exit(1)
    os._exit(0)
status = os.waitpid(child, 0)[1]
to_release.set()
thread.join()
print(json.dumps([status, seen.hex()]))
"""


def test_a_fork_while_another_thread_is_in_a_storage(tmp_path):
    """As in a ZEO client: its lock stays taken in the child, where nobody frees it."""
    status, seen = run(HELD_STORAGE, tmp_path)
    assert status == 0
    assert vector_of_last(tmp_path / "own.fs")["main"] == int(seen, 16) + 1


def vector_of_last(path):
    return read(path)[-1][1].vector


CHILD_GOES_ON = """
tidstorage.install()
main = open_file("main")
if not os.fork():
    count_up(main)
    other = open_file("other")
    # By a thread that has no connection open any more when the other is written.
    count_up(main)
    count_up(other)
    os._exit(0)
os.wait()
print("null")
"""


def test_a_child_that_takes_the_databases_of_its_parent_over(tmp_path):
    run(CHILD_GOES_ON, tmp_path)
    assert vector_of_last(tmp_path / "other.fs")["main"] == (
        read(tmp_path / "main.fs")[-1][0] + 1
    )


GREENLETS = """
import gevent
from tidstorage.coherence import stamp, tid
if "patched last" in sys.argv:
    from gevent import monkey; monkey.patch_all()
tidstorage.install((sys.argv[2], int(sys.argv[3])))
databases = {}
for name in ("main", "catalog"):
    ZODB.DB(FileStorage(f"{folder}/{name}.fs"), database_name=name, databases=databases)

class Yields:
    def __init__(self, manager, key):
        self.transaction_manager, self.key = manager, key
    def sortKey(self):
        return self.key
    def switch(self, transaction):
        gevent.sleep(0.001)
    abort = tpc_begin = commit = tpc_vote = tpc_finish = tpc_abort = switch

def write(number):
    name = ("main", "catalog")[number % 2]
    for count in range(5):
        manager = transaction.TransactionManager()
        connection = databases[name].open(manager)
        connection.root()[f"{number}"] = count
        for key in ("", "~"):
            manager.get().join(Yields(manager, key))
        try:
            manager.commit()
        except ZODB.POSException.ConflictError:
            manager.abort()
        connection.close()
        if number == 0:
            opened = open_file("other")
            gevent.sleep(0)
            opened.close()

# Patched last, ZODB's own locks hold up all greenlets: one for each storage then.
count = 8 if "patched first" in sys.argv else 2
greenlets = [gevent.spawn(write, number) for number in range(count)]
gevent.joinall(greenlets, raise_error=True)
told = tidstorage.statistics()
tids = {}
for name, database in databases.items():
    for record in database.storage.iterator():
        if stamp.KEY in record.extension:
            mark = stamp.decode(record.extension[stamp.KEY])
            tids[mark.commit_id.hex()] = {name: tid.from_bytes(record.tid)}
tidstorage.uninstall()
print(json.dumps([told, tids]))
"""


@pytest.mark.parametrize("patched", ["patched first", "patched last"])
def test_greenlets_that_switch_amid_their_commits(tmp_path, patched):
    listener = Listener(tmp_path).start()
    try:
        told, tids = run(GREENLETS, tmp_path, *listener.address, patched)
        assert told["errors"] == told["unstamped"] == 0

        def heard():
            return {
                each.transaction_id: each.tids
                for each in listener.heard()
                if isinstance(each, protocol.Commit)
            }

        wait_until(lambda: tids.keys() <= heard().keys(), "every commit is heard of")
        assert {commit: heard()[commit] for commit in tids} == tids
        assert len(tids) >= 10
    finally:
        listener.kill()


GREENLETS_FORK = """
import gevent
tidstorage.install((sys.argv[2], int(sys.argv[3])))

def wait_for_the_sender():
    while tidstorage.statistics()["sent"] < 2:
        gevent.sleep(0.01)

main = open_file("main")
count_up(main)
wait_for_the_sender()
child = os.fork()
if not child:
    signal.alarm(60)
    own = open_file("own")
    count_up(own)
    own.close()
    wait_for_the_sender()
    os._exit(0)
status = os.waitpid(child, 0)[1]
count_up(main)
tidstorage.uninstall()
print(json.dumps(status))
"""


def test_a_fork_under_gevent_while_the_daemon_is_told(tmp_path):
    listener = Listener(tmp_path).start()
    try:
        assert run(GREENLETS_FORK, tmp_path, *listener.address, "patched first") == 0
    finally:
        listener.kill()
