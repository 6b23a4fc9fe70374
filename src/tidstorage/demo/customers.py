"""The bank's customers: threads that send requests to the Zopes over HTTP."""

import http
import http.client
import random
import threading
import time
import urllib.parse
import uuid
from collections import Counter
from collections.abc import Sequence

from tidstorage.cluster.cluster import Zope

#: How long a customer waits for an answer before it gives up, in seconds.
PATIENCE = 10


class Load:
    """Customers that send requests, from `start` to `stop`.

    ``answers`` counts what came back by HTTP status; 0 stands for no answer.
    """

    def __init__(
        self,
        zopes: Sequence[Zope],
        storages: Sequence[str],
        accounts: int,
        customers: int,
        seed: int,
    ) -> None:
        self.answers: Counter[int] = Counter()
        self._zopes = zopes
        self._storages = storages
        self._accounts = accounts
        self._customers = customers
        self._seed = seed
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._round = 0

    def start(self) -> None:
        """Let the customers in."""
        self._ending.clear()
        self._round += 1
        for number in range(self._customers):
            thread = threading.Thread(
                target=self._serve,
                args=(
                    self._zopes[number % len(self._zopes)],
                    random.Random(f"{self._seed}-{self._round}-{number}"),
                ),
                daemon=True,
            )
            thread.start()
            self._threads.append(thread)

    def await_answers(self, count: int, seconds: float) -> None:
        """Wait until so many more requests are answered well, or so long at most.

        Zopes that lost a server have to reach it again before they answer.
        """
        wanted = self.answers[http.HTTPStatus.OK] + count
        deadline = time.monotonic() + seconds
        while self.answers[http.HTTPStatus.OK] < wanted:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)

    def stop(self) -> None:
        """Wait until every customer has had an answer, or lost patience."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _serve(self, zope: Zope, chance: random.Random) -> None:
        memos: list[tuple[str, str]] = []
        connection = http.client.HTTPConnection(zope.host, zope.port, timeout=PATIENCE)
        while not self._ending.is_set():
            path = self._next_request(chance, memos)
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                self.answers[response.status] += 1
            except (OSError, http.client.HTTPException):
                self.answers[0] += 1
                connection.close()
                # The Zope is down: knock again soon, not in a busy loop.
                self._ending.wait(0.05)
        connection.close()

    def _next_request(self, chance: random.Random, memos: list[tuple[str, str]]) -> str:
        source, target = chance.sample(list(self._storages), 2)
        kind = chance.random()
        if kind < 0.7:
            return _request(
                "transfer",
                id=uuid.UUID(int=chance.getrandbits(128)).hex,
                source=source,
                target=target,
                account=str(chance.randrange(self._accounts)),
                amount=str(chance.randrange(1, 10)),
            )
        if kind < 0.85 or not memos:
            memo = uuid.UUID(int=chance.getrandbits(128)).hex
            memos.append((memo, source))
            return _request("memo", id=memo, storage=source)
        memo, source = memos.pop()
        target = chance.choice(
            [storage for storage in self._storages if storage != source]
        )
        return _request("cite", id=memo, source=source, target=target)


def _request(method: str, **arguments: str) -> str:
    return f"/bank/{method}?{urllib.parse.urlencode(arguments)}"
