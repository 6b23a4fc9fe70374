"""What one round contained, as a line of JSON."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

#: Without these a round proves nothing.
REQUIRED = (
    "client: committed",
    "kills of clients",
    "kills of servers",
    "half commits",
    "points",
    "connections cut",
    "copies torn without a cut",
    "cut copies",
    "restored sets",
    "crashed files cut",
)
#: Of one kind; of a thousand alike nobody reads more.
_SHOWN_FAULTS = 12


@dataclass(slots=True)
class Report:
    """What one round contained.

    missing: what it should have contained, and did not.  kept: the folder of a
    round that was violated, for whoever finds out why.
    """

    number: int
    seed: str
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    kept: str | None = None

    @property
    def missing(self) -> list[str]:
        return [each for each in REQUIRED if not self.counts[each]]

    def to_json(self) -> dict[str, Any]:
        return {
            "round": self.number,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "violations": self.violations,
            "missing": self.missing,
            "kept": self.kept,
            "counts": dict(sorted(self.counts.items())),
        }

    def violate(self, where: str, faults: list[str]) -> None:
        """Note what should not be."""
        for fault in faults[:_SHOWN_FAULTS]:
            self.violations.append(f"{where}: {fault}")
        if len(faults) > _SHOWN_FAULTS:
            self.violations.append(f"{where}: and {len(faults)} in all")
