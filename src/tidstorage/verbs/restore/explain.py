"""Half commits in the way of a restore: what is torn, and what each choice loses."""

import datetime
from collections.abc import Collection, Iterable

from tidstorage.coherence.loss import Loss
from tidstorage.coherence.point import HalfCommit
from tidstorage.system.clock import local, span


def explain_choices(
    where: str, halves: Collection[HalfCommit], choices: Iterable[str]
) -> str:
    """The text of an error that asks the operator to choose.

    where: what holds the half commits, as "set 2026... holds".  choices: a line for
    each choice, with what it loses.
    """
    return "\n".join(
        [
            f"{where} {len(halves)} half commit(s):"
            " transactions that some storages hold and others never will",
            *(f"  {half.in_words()}" for half in halves),
            *choices,
        ]
    )


def say_strict_loss(loss: Loss | None, end: datetime.datetime) -> str:
    """What ``--strict`` gives up of what was until ``end``, beside half commits."""
    if loss is None:
        return "--strict loses nothing else"
    return (
        f"--strict loses {loss.transactions} transaction(s) since"
        f" {local(loss.since)}, {span(end - loss.since)}"
    )
