"""A Data.fs like that of a site: ``python benchmarks/realistic.py SIZE FILE``.

Objects that ZODB itself stores: documents of text, dates, numbers, keywords and a
history; folders (OOBTree) that hold them; a catalog (IOBTree, OOBTree of IITreeSet)
that each transaction updates; and edits, which store a document again.  The words
follow Zipf's law.  Every transaction is stamped.  The same size and seed give the
same objects.
"""

import argparse
import datetime
import itertools
import random
from pathlib import Path

import transaction
from BTrees.IIBTree import IITreeSet
from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping
from ZODB import DB
from ZODB.FileStorage import FileStorage

import tidstorage

#: The storage's id in the stamps.
STORAGE = "main"

_LETTERS = "eeeeeeetttttaaaaooooiiiinnnnsssshhhrrrddllccuummwwffggyyppbbvkjxqz"
_WORDS = 20_000
#: Far more text than deflate looks back (32 kB), so that it never sees one twice.
_SENTENCES = 60_000
_NEW_DOCUMENTS = 20
_EDITS = 4
#: Documents that are at hand to be edited.
_REMEMBERED = 2_000


class Folder(Persistent):
    """Documents by their names."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.documents = OOBTree()


class Document(Persistent):
    """What an editor writes, and what a site keeps about it."""


class _Writer:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        choose = self.random
        words = [
            "".join(choose.choices(_LETTERS, k=choose.randint(2, 11)))
            for _ in range(_WORDS)
        ]
        shares = [*itertools.accumulate(1 / (rank + 2) for rank in range(_WORDS))]
        self.words = words
        self.sentences = [
            " ".join(choose.choices(words, cum_weights=shares, k=choose.randint(6, 24)))
            + ". "
            for _ in range(_SENTENCES)
        ]
        self.moment = datetime.datetime(2026, 1, 1)

    def text(self, sentences: int) -> str:
        return "".join(self.random.choices(self.sentences, k=sentences))

    def document(self, number: int) -> Document:
        choose = self.random
        self.moment += datetime.timedelta(seconds=choose.randint(1, 600))
        made = Document()
        made.id = f"document-{number}"
        made.title = self.text(1)[:60]
        made.body = self.text(choose.randint(5, 60))
        made.created = made.modified = self.moment
        made.creator = f"editor{choose.randint(1, 200)}"
        made.keywords = tuple(choose.choices(self.words, k=choose.randint(0, 6)))
        made.price = round(choose.lognormvariate(4, 1), 2)
        made.ratings = [choose.random() for _ in range(choose.randint(0, 12))]
        made.uid = choose.randbytes(16)
        made.permissions = {"View": ("Manager", "Editor"), "Modify": ("Manager",)}
        made.history = PersistentMapping()
        self.edit(made)
        return made

    def edit(self, document: Document) -> None:
        choose = self.random
        document.modified = self.moment
        position = choose.randrange(len(document.body))
        document.body = (
            document.body[:position] + self.text(1) + document.body[position:]
        )
        document.history[len(document.history)] = {
            "action": choose.choice(("edit", "publish", "retract")),
            "actor": f"editor{choose.randint(1, 200)}",
            "time": self.moment,
            "comment": self.text(1)[:40],
        }


def write(path: Path, size: int, seed: int = 0) -> None:
    """A new Data.fs of about ``size`` bytes (a transaction more)."""
    writer = _Writer(seed)
    tidstorage.install(ids={STORAGE: STORAGE})
    storage = FileStorage(str(path), create=True, pack_gc=False)
    database = DB(storage, database_name=STORAGE, cache_size=20_000)
    with database.transaction() as connection:
        root = connection.root()
        root["folders"], root["catalog"], root["words"] = (
            OOBTree(),
            IOBTree(),
            OOBTree(),
        )
    connection = database.open()
    root = connection.root()
    remembered: list[Document] = []
    count = 0
    while storage.getSize() < size:
        folder = root["folders"].get(f"folder-{count // 1_000}")
        if folder is None:
            folder = Folder(writer.text(1))
            root["folders"][f"folder-{count // 1_000}"] = folder
        for _ in range(_NEW_DOCUMENTS):
            count += 1
            made = writer.document(count)
            folder.documents[made.id] = made
            remembered.append(made)
            root["catalog"][count] = (made.id, made.title, made.creator, made.price)
            for word in made.keywords:
                root["words"].setdefault(word, IITreeSet()).insert(count)
        for made in writer.random.choices(remembered, k=_EDITS):
            writer.edit(made)
        del remembered[:-_REMEMBERED]
        current = transaction.get()
        current.setUser(f"editor{count % 200}")
        current.note(f"/folder-{count // 1_000}: add {made.id}")
        transaction.commit()
    connection.close()
    database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", type=int, help="bytes")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write(options.file, options.size, options.seed)
