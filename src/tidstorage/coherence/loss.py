"""What a cut drops; no I/O."""

import datetime
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Loss:
    """What a cut drops of a set: so many transactions, the first at ``since``."""

    transactions: int
    since: datetime.datetime

    def to_json(self) -> dict[str, Any]:
        return {
            "transactions": self.transactions,
            "since": self.since.isoformat(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Loss":
        since = datetime.datetime.fromisoformat(data["since"])
        return cls(int(data["transactions"]), since)
