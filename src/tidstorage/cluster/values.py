"""The forms that texts of a description may have: ids, addresses, paths, schedules."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

#: The type of the pydantic error that a text of the wrong form raises.
WRONG_FORM = "wrong_form"


@dataclass(frozen=True)
class Check:
    """A form that a text may have.

    expected: the form in words.  pattern: matched against the whole text.
    """

    expected: str
    pattern: str

    def __call__(self, text: str) -> str:
        if re.fullmatch(self.pattern, text) is None:
            raise PydanticCustomError(
                WRONG_FORM, "{expected}", {"expected": self.expected}
            )
        return text

    # With these two a form can stand in an Annotated type of the model.

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        pattern = f"^({self.pattern})$"
        return {**handler(schema), "description": self.expected, "pattern": pattern}


_NAME = r"[A-Za-z][A-Za-z0-9_.\-]{0,63}"
_PORT = (
    r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}"
    r"|655[0-2][0-9]|6553[0-5])"
)
_HOST = r"([A-Za-z0-9][A-Za-z0-9.\-]*|\[[0-9A-Fa-f:.]+\])"
_FIELD = r"[0-9*][0-9*,/\-]*"
_NAMED_FIELD = r"[0-9A-Za-z*][0-9A-Za-z*,/\-]*"

NAME = Check("a name: a letter, then up to 63 letters, digits, '_', '.', '-'", _NAME)
#: ZConfig makes section names lower case, and the name on the ZEO server is one.
STORAGE_ID = Check(
    "a storage id: a lower-case letter, then up to 63 of a-z, 0-9, '_', '.', '-'",
    r"[a-z][a-z0-9_.\-]{0,63}",
)
NETWORK_ADDRESS = Check("HOST:PORT, a port from 1 to 65535", f"{_HOST}:{_PORT}")
SERVER_ADDRESS = Check(
    "HOST:PORT, or the path of a unix socket (with a '/')",
    f"({_HOST}:{_PORT}|[^\\s:]*/[^\\s:]*)",
)
MOUNT_POINT = Check(
    "a path in Zope: '/', or '/' and names, each of letters, digits and '_.-'",
    r"/|(/[A-Za-z0-9.\-][A-Za-z0-9_.\-]*)+",
)
PATH = Check(
    "a path without spaces, '%', '$', '#' or control characters "
    "(configuration files and crontabs give them a meaning)",
    r"[^\s%$#\"'\x00-\x1f]+",
)
#: Instead of a schedule: no entry in the crontab.
NEVER = "never"
SCHEDULE = Check(
    'five crontab fields (minute, hour, day, month, weekday), or "never"',
    rf"{NEVER}|{_FIELD}\s+{_FIELD}\s+{_FIELD}\s+{_NAMED_FIELD}\s+{_NAMED_FIELD}",
)
SIZE = Check("a size: a number with KB, MB or GB", r"[1-9][0-9]*(KB|MB|GB)")
DURATION = Check("a length of time: a number with h, d or w", r"[1-9][0-9]{0,4}[hdw]")
TIME_BUDGET = Check(
    "a length of time: a number with m, h or d", r"[1-9][0-9]{0,4}[mhd]"
)
DURATION_OR_NEVER = Check(
    'a length of time (a number with h, d or w), or "never"',
    rf"{NEVER}|{DURATION.pattern}",
)
URL = Check("an address that begins with http:// or https://", r"https?://[!-~]+")
TIME_ZONE = Check(
    'a name of the time zone database, as "Europe/Berlin"',
    r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+)*",
)
LINE = Check("one line of text", r"[^\n\r\x00]+")
ENVIRONMENT_NAME = Check(
    "the name of an environment variable", r"[A-Za-z_][A-Za-z0-9_]*"
)


_MINUTES = {"m": 1, "h": 60, "d": 24 * 60, "w": 7 * 24 * 60}


def duration(text: str) -> timedelta:
    """The length of time of a text of the form DURATION or TIME_BUDGET."""
    return timedelta(minutes=int(text[:-1]) * _MINUTES[text[-1]])
