"""What happens to a site while the load runs, at random moments."""

import contextlib
import functools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

from real_processes import wait_until

from tidstorage.errors import BarrierFailed
from tidstorage.zeo import barrier
from torture.files import Files
from torture.operator import Operator
from torture.processes import Process
from torture.site import PATIENCE, Server, Site

CLIENTS = 3
#: What happens in every stretch, each at its moment.
ALWAYS = (
    "kill_client",
    "tear",
    "hang_and_kill_server",
    "delay_and_kill",
    "delay_and_kill",
    "delay_and_kill",
    "drop",
)
#: {event: how often, against the others} of what happens besides.
WEIGHTS = {
    "kill_client": 2,
    "stop_client": 3,
    "kill_server": 2,
    "hang_and_kill_server": 2,
    "stop_server": 2,
    "kill_daemon": 1,
    "stop_daemon": 1,
    "drop": 3,
    "delay": 2,
    "refuse": 1,
    "take_barrier": 1,
    "kill_barrier": 1,
    "pack": 2,
    "copy": 3,
    "back_up": 1,
    "acknowledge": 1,
    "undo": 1,
    "rebase": 1,
}


class Events:
    """One stretch of load on a site; ``counts`` tells what happened."""

    def __init__(
        self,
        site: Site,
        chance: random.Random,
        counts: Counter[str],
        operator: Operator,
    ) -> None:
        self.site = site
        self.operator = operator
        self.chance = chance
        self.counts = counts
        self.faults: list[str] = []
        self.files = Files(site, chance, counts)
        #: What barriers said.
        self.barriers: list[dict[str, int]] = []
        self.written = list(site.storages)
        if chance.random() < 0.4:
            # One storage is read, and never written.
            self.written.remove(chance.choice(self.written))
            counts["idle storages"] += 1
        self._jobs: list[threading.Thread] = []
        self._ending = threading.Event()

    # The stretch

    def start_load(self) -> None:
        for number in range(CLIENTS):
            self.site.start_client(number, self.written)

    def run(self, others: int) -> None:
        """Let all of ALWAYS happen, and so many others; until all jobs are done."""
        kinds = self.chance.choices([*WEIGHTS], [*WEIGHTS.values()], k=others)
        kinds += ALWAYS
        self.chance.shuffle(kinds)
        for kind in kinds:
            time.sleep(self.chance.uniform(0.02, 0.3))
            getattr(self, kind)()
        for job in self._jobs:
            job.join(PATIENCE)
            if job.is_alive():
                self.faults.append(f"{job.name} does not end")

    def stop_load(self, *, kill: bool) -> None:
        """End all clients: by a kill amid their work, or standing still first.

        Their last words may still be under way.  Who has voted holds a lock until
        its finish, or its end, arrives; so once a barrier was held nothing comes.
        """
        for client in self.site.clients.values():
            if not kill:
                client.send_signal(signal.SIGSTOP)
            client.kill()
        self.site.clients.clear()
        wait_until(self._hold_barrier, "all storages stand still", PATIENCE)

    def _hold_barrier(self) -> bool:
        with contextlib.suppress(BarrierFailed):
            self.barriers.append(
                barrier.take(barrier.storages_of(self.site.cluster), attempts=2)
            )
            self.counts["barriers"] += 1
            return True
        return False

    def _job(self, function: Callable[[], object]) -> None:
        def work() -> None:
            try:
                function()
            except Exception as error:
                # A defect of this harness or of a tool: the round tells.
                self.faults.append(f"{_name(function)}: {error!r}")

        job = threading.Thread(target=work, daemon=True, name=_name(function))
        job.start()
        self._jobs.append(job)

    @contextlib.contextmanager
    def _alone(self, process: Process):  # type: ignore[no-untyped-def]
        """Nothing where another event has the process."""
        got = process.lock.acquire(blocking=False)
        try:
            yield got and process.runs()
        finally:
            if got:
                process.lock.release()

    def _again(self, process: Process) -> None:
        """Start it again, in a while."""
        pause = self.chance.uniform(0, 0.4)

        def start() -> None:
            with process.lock:
                time.sleep(pause)
                if not process.runs():
                    process.start()

        self.counts["restarts"] += 1
        self._job(start)

    # Kills and stops

    def kill_client(self, hang: float = 0) -> None:
        number = self.chance.randrange(CLIENTS)
        client = self.site.clients[number]
        if hang:
            client.send_signal(signal.SIGSTOP)
            time.sleep(hang)
        client.kill()
        self.counts["kills of clients"] += 1
        self.site.start_client(number, self.written)

    def tear(self) -> None:
        """A client that dies amid a commit: one half commit at least, for sure."""
        number = self.chance.randrange(CLIENTS)
        self.site.clients[number].kill()
        self.site.start_client(number, self.written, dies=True)
        dying = self.site.clients[number]
        wait_until(lambda: not dying.runs(), "a client dies amid a commit", PATIENCE)
        self.counts["deaths between two finishes"] += 1
        self.site.start_client(number, self.written)

    def stop_client(self) -> None:
        pause = self.chance.uniform(0.05, 0.5)
        if self.chance.random() < 0.4:
            self.kill_client(pause)
            return
        client = self.site.clients[self.chance.randrange(CLIENTS)]
        client.send_signal(signal.SIGSTOP)
        time.sleep(pause)
        client.send_signal(signal.SIGCONT)
        self.counts["stops of clients"] += 1

    def _server(self) -> Server:
        """One that no other event has, where there is such a one."""
        idle = [each for each in self.site.servers.values() if not each.lock.locked()]
        if idle:
            return self.chance.choice(idle)
        return self.chance.choice([*self.site.servers.values()])

    def kill_server(self, hang: float = 0) -> None:
        server = self._server()
        with self._alone(server) as got:
            if not got:
                return
            if hang:
                server.signal(signal.SIGSTOP)
                time.sleep(hang)
            server.kill()
            self.counts["kills of servers"] += 1
        self._again(server)

    def hang_and_kill_server(self) -> None:
        """What it voted for, others finish meanwhile."""
        self.kill_server(self.chance.uniform(0.05, 0.3))

    def stop_server(self) -> None:
        self._stop(self._server(), "servers")

    def _stop(self, process: Process, kind: str) -> None:
        with self._alone(process) as got:
            if got:
                process.signal(signal.SIGSTOP)
                time.sleep(self.chance.uniform(0.05, 0.6))
                process.signal(signal.SIGCONT)
                self.counts[f"stops of {kind}"] += 1

    def kill_daemon(self) -> None:
        with self._alone(self.site.daemon) as got:
            if not got:
                return
            self.site.daemon.kill()
            self.counts["kills of the daemon"] += 1
        self._again(self.site.daemon)

    def stop_daemon(self) -> None:
        self._stop(self.site.daemon, "the daemon")

    # The network

    def drop(self) -> None:
        self.site.network.drop(self.chance.choice(self.site.links))
        self.counts["dropped links"] += 1

    def delay(self) -> None:
        link = self.chance.choice(self.site.links)
        link.delay = self.chance.uniform(0.01, 0.2)
        time.sleep(self.chance.uniform(0.1, 0.5))
        link.delay = 0
        self.counts["delayed links"] += 1

    def delay_and_kill(self) -> None:
        """While one server is far away, its votes and finishes are far apart."""
        name = self.chance.choice(sorted(self.site.client_links))
        link = self.site.client_links[name]
        link.delay = self.chance.uniform(0.02, 0.15)
        time.sleep(self.chance.uniform(0.2, 0.5))
        if self.chance.random() < 0.5:
            self.site.network.drop(link)
            self.counts["dropped links"] += 1
        else:
            self.kill_client()
        link.delay = 0
        self.counts["delayed links"] += 1

    def refuse(self) -> None:
        link = self.chance.choice(self.site.links)
        link.refusing = True
        self.site.network.drop(link)
        time.sleep(self.chance.uniform(0.1, 0.5))
        link.refusing = False
        self.counts["dropped links"] += 1

    # Barriers

    def take_barrier(self) -> None:
        self._job(self._hold_barrier)

    def kill_barrier(self) -> None:
        """A helper that holds votes, or is about to."""
        self.take_barrier()
        time.sleep(self.chance.uniform(0.3, 0.7))
        for pid in self.site.helpers():
            with contextlib.suppress(ProcessLookupError):
                if self.chance.random() < 0.5:
                    os.kill(pid, signal.SIGSTOP)
                    self.counts["stops of barriers"] += 1
                    time.sleep(0.1)
                os.kill(pid, signal.SIGKILL)
                self.counts["kills of barriers"] += 1

    # What reads and packs the files

    def pack(self) -> None:
        storage = self.chance.choice(self.site.storages)
        self._job(functools.partial(self.files.pack, storage))

    def copy(self) -> None:
        self._job(self.files.copy)

    # What an operator does

    def back_up(self) -> None:
        self._job(self._back_up)

    def _back_up(self) -> None:
        if self.files.whole.acquire(timeout=5):
            try:
                self.operator.back_up(0.1)
            finally:
                self.files.whole.release()

    def acknowledge(self) -> None:
        self._operate(self.operator.acknowledge)

    def undo(self) -> None:
        self._operate(self.operator.undo)

    def rebase(self) -> None:
        self._operate(self.operator.rebase)

    def _operate(self, verb: Callable[[float], object]) -> None:
        self._job(functools.partial(verb, 0.15))


def _name(function: Callable[..., object]) -> str:
    if isinstance(function, functools.partial):
        function = function.func
    return function.__qualname__
