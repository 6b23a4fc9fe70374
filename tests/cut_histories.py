"""Simulated histories: processes that commit to storages, and what goes wrong.

Two-phase commit as ZEO and FileStorage do it: a transaction is stamped, votes on
its storages in the order of their ids and holds the lock of each from vote to
finish, then finishes them one by one.  Clients and servers crash between any two
steps; clients learn of other clients' commits late, each storage by itself; some
open only some of the storages; some do not stamp.  Storages are added, retired
and renamed.  Barriers give floors; below them records are packed away.

Everything follows from the seed.  Truth is kept beside the records, so that what
the core concludes from the stamps can be checked against what happened.
"""

import random
from dataclasses import dataclass, field

from tidstorage.coherence.cut import Record
from tidstorage.coherence.stamp import Stamp, rename


@dataclass(eq=False)
class Transaction:
    """What one client does; ``tids`` grows as the storages finish it."""

    client: "Client"
    commit_id: bytes
    participants: list
    vector: dict
    #: {storage: exclusive bound of what it really read}
    reads: dict
    voted: list = field(default_factory=list)
    tids: dict = field(default_factory=dict)
    ended: bool = False
    #: Storages whose server was restarted and forgot the vote.
    forgotten: set = field(default_factory=set)

    def never_gets(self, storage):
        """Whether it can no longer get its record on the storage."""
        return self.ended or storage in self.forgotten

    @property
    def stamp(self):
        if not self.client.stamps:
            return None
        return Stamp(self.commit_id, frozenset(self.participants), self.vector)


@dataclass(eq=False)
class Client:
    """A process; ``known`` is {storage it opened: last TID it heard of}."""

    known: dict
    stamps: bool = True


@dataclass
class History:
    """Records as a set of copies would hold them, and the truth.

    records: {storage: its records}, packed, cut and renamed.
    transactions: {(storage, TID): the transaction}, of all records ever made,
        also after the copies.
    """

    seed: int
    records: dict
    floor: dict
    retired: frozenset
    transactions: dict
    #: Where no file was cut shorter than what its storage held at that moment.
    whole: bool

    def arguments(self):
        """What `coherent_cut` is called with."""
        return (self.records, self.floor), {"retired": self.retired}


class World:
    """The storages, clients and locks of one simulation."""

    def __init__(self, rng, storages, clients):
        self.rng = rng
        self.held = {each: [] for each in storages}
        self.locks = dict.fromkeys(storages)
        self.last = dict.fromkeys(storages, 0)
        self.next_tid = {each: rng.randrange(1, 9) for each in storages}
        self.live = []
        self.retired = set()
        self.floor = {}
        # How soon clients learn of others' commits, against everything else.
        self.attention = rng.choice((2, 14))
        self.clients = [self.new_client() for _ in range(clients)]

    @property
    def open_storages(self):
        return sorted(self.held.keys() - self.retired)

    def new_client(self):
        opened = self.open_storages
        if self.rng.random() < 0.3:
            opened = self.rng.sample(opened, self.rng.randint(1, len(opened)))
        return Client(
            {each: self.last[each] for each in opened}, self.rng.random() > 0.08
        )

    def begin(self):
        if len(self.live) >= 2 * len(self.clients):
            return
        client = self.rng.choice(self.clients)
        opened = sorted(client.known)
        count = min(len(opened), self.rng.choice((1, 1, 2, 2, 2, 3)))
        read = self.rng.sample(opened, self.rng.randint(0, len(opened)))
        vector = {each: known + 1 for each, known in client.known.items()}
        if self.rng.random() < 0.05:
            # A connection whose view nothing could be learnt of.
            unread = [each for each in opened if each not in read]
            for each in unread[:1]:
                del vector[each]
        transaction = Transaction(
            client,
            self.rng.randbytes(16),
            sorted(self.rng.sample(opened, count)),
            vector,
            {each: client.known[each] + 1 for each in read},
        )
        self.live.append(transaction)

    def advance(self):
        if self.live:
            self.advance_one(self.rng.choice(self.live))

    def advance_one(self, transaction):
        if len(transaction.voted) < len(transaction.participants):
            storage = transaction.participants[len(transaction.voted)]
            if self.locks[storage] is None:
                self.locks[storage] = transaction
                transaction.voted.append(storage)
            return
        storage = transaction.participants[len(transaction.tids)]
        if self.locks[storage] is not transaction:
            self.end(transaction)  # the server was restarted and forgot the vote
            return
        self.next_tid[storage] += self.rng.randint(1, 4)
        tid = self.next_tid[storage]
        transaction.tids[storage] = tid
        self.held[storage].append((tid, transaction))
        self.last[storage] = tid
        self.locks[storage] = None
        if self.rng.random() < 0.05:
            self.end(transaction)  # the answer was lost: the rest is aborted
            return
        transaction.client.known[storage] = tid
        if len(transaction.tids) == len(transaction.participants):
            self.end(transaction)

    def end(self, transaction):
        for storage, holder in self.locks.items():
            if holder is transaction:
                self.locks[storage] = None
        transaction.ended = True
        self.live.remove(transaction)

    def hear(self):
        client = self.rng.choice(self.clients)
        storage = self.rng.choice(sorted(client.known))
        unheard = [t for t, _ in self.held[storage] if t > client.known[storage]]
        if unheard:
            client.known[storage] = self.rng.choice(unheard)

    def abort(self):
        voting = [each for each in self.live if not each.tids]
        if voting:
            self.end(self.rng.choice(voting))

    def crash_client(self):
        number = self.rng.randrange(len(self.clients))
        for transaction in [*self.live]:
            if transaction.client is self.clients[number]:
                self.end(transaction)
        self.clients[number] = self.new_client()

    def crash_server(self):
        storage = self.rng.choice(sorted(self.locks))
        if self.locks[storage] is not None:
            self.locks[storage].forgotten.add(storage)
        self.locks[storage] = None

    def barrier(self):
        """A floor can be taken only while no storage is locked."""
        if not any(self.locks.values()):
            self.floor = {each: self.last[each] for each in self.open_storages}

    def add_storage(self):
        storage = f"s{len(self.held)}"
        self.held[storage] = []
        self.locks[storage] = None
        self.last[storage] = 0
        self.next_tid[storage] = self.rng.randrange(1, 9)
        self.clients.append(self.new_client())

    def retire(self):
        """Every client is stopped before a storage goes."""
        if len(self.open_storages) > 2:
            for transaction in [*self.live]:
                self.end(transaction)
            self.retired.add(self.rng.choice(self.open_storages))
            self.clients = [self.new_client() for _ in self.clients]

    def run(self, steps, rare):
        for _ in range(steps):
            action = self.rng.choices(
                (
                    self.begin,
                    self.advance,
                    self.hear,
                    self.abort,
                    self.crash_client,
                    self.crash_server,
                    self.barrier,
                    self.add_storage,
                    self.retire,
                ),
                (25, 70, self.attention, 1, 4, 3, 2 * rare, 0.3 * rare, 0.15 * rare),
            )[0]
            action()


def simulate(seed, steps=60, most_storages=4):
    """One history; about a third of the steps end in a record."""
    rng = random.Random(seed)
    storages = [f"s{n}" for n in range(rng.randint(2, most_storages))]
    world = World(rng, storages, rng.randint(1, 5))
    world.run(rng.randint(steps // 3, steps), rare=1)
    moment = {each: len(held) for each, held in world.held.items()}
    retired, floor = frozenset(world.retired), dict(world.floor)
    # What was under way ends well, or goes on being disturbed.
    for _ in range(rng.choice((0, 100))):
        if world.live:
            world.advance_one(rng.choice(world.live))
    world.run(20, rare=0)
    return _copied(seed, rng, world, moment, retired, floor)


def _copied(seed, rng, world, moment, retired, floor):
    whole = rng.random() < 0.5
    aliases = {}
    if rng.random() < 0.2:
        renamed = rng.choice(sorted(moment.keys() - retired))
        # The files go under the new id, and most stamps in them under the old.
        aliases = {f"{renamed}-formerly": renamed}
    records = {}
    for storage, length in moment.items():
        if storage in retired:
            continue
        held = world.held[storage][:length]
        trusted = sum(t <= floor.get(storage, 0) for t, _ in held)
        if not whole and rng.random() < 0.7:
            length = rng.randint(trusted, length)
        kept = [
            each
            for position, each in enumerate(held[:length])
            if position >= trusted or rng.random() < 0.4
        ]
        records[storage] = [
            Record(t, _under_former_ids(each.stamp, aliases)) for t, each in kept
        ]
    return History(
        seed,
        records,
        {each: t for each, t in floor.items() if each not in retired},
        retired,
        {(s, t): each for s, held in world.held.items() for t, each in held},
        whole,
    )


def _under_former_ids(stamp, aliases):
    """Through the former id and back, as the readers of files do."""
    if stamp is None:
        return None
    return rename(rename(stamp, {new: old for old, new in aliases.items()}), aliases)


def _record(tid, name, participants, **vector):
    return Record(tid, Stamp(name.encode() * 16, frozenset(participants), vector))


def _example(**records):
    return History(-1, records, {}, frozenset(), {}, True)


def proof_through_a_settled_record():
    """t on A is half: it lacks C.  Only s on W, long settled, proves it.

    The last records of A and C saw s, whose process saw t; nobody else had heard
    of t.  Random histories hardly ever come to this.
    """
    return _example(
        A=[
            _record(1, "t", "AC", A=1, C=31, W=21),
            _record(2, "v", "A", A=2, C=31, W=23),
        ],
        C=[
            _record(30, "r", "C", A=1, C=30, W=21),
            _record(31, "u", "C", A=1, C=31, W=23),
        ],
        W=[
            _record(20, "q", "W", A=1, C=30, W=20),
            _record(21, "s", "W", A=2, C=31, W=21),
            _record(22, "w", "W", A=1, C=31, W=22),
        ],
    )


def partner_that_is_settled():
    """t on A has to be examined; its record on B is settled, and so is all of C."""
    return _example(
        A=[
            _record(1, "t", "AB", A=1, B=11, C=21),
            _record(2, "u", "A", A=2, B=13, C=24),
        ],
        B=[
            _record(11, "t", "AB", A=1, B=11, C=21),
            _record(12, "v", "B", A=2, B=12, C=24),
        ],
        C=[
            _record(21, "w", "C", A=1, B=11, C=21),
            _record(22, "x", "C", A=1, B=11, C=22),
            _record(23, "y", "C", A=1, B=13, C=23),
        ],
    )


def participant_without_an_entry():
    """t names Z as a participant, and knows nothing of it."""
    return _example(A=[_record(1, "t", "AZ", A=1)], Z=[])
