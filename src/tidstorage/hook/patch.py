"""Methods of other packages' classes, replaced and put back."""

import functools
from collections.abc import Callable
from typing import Any

Method = Callable[..., Any]


class Patch:
    """One method of one class, replaced by what ``make(original)`` returns.

    The replacement has to behave like the original whenever our hook is off,
    since it cannot be taken out from under a patch that came later.
    """

    def __init__(self, owner: type, name: str, make: Callable[[Method], Method]):
        self._owner = owner
        self._name = name
        self._make = make
        self._original: Method | None = None
        self._replacement: Method | None = None

    def apply(self) -> None:
        """Replace it, unless that is done already."""
        if self._replacement is None:
            self._original = self._owner.__dict__[self._name]
            self._replacement = functools.wraps(self._original)(
                self._make(self._original)
            )
            setattr(self._owner, self._name, self._replacement)

    def remove(self) -> None:
        """Put the original back, unless a later patch stands over ours."""
        if self._owner.__dict__[self._name] is self._replacement:
            setattr(self._owner, self._name, self._original)
            self._original = self._replacement = None
