"""The types of the keys of a description, and keys that are reserved."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from tidstorage.cluster import values

#: The type of the pydantic error that a reserved key raises.
RESERVED = "reserved"


def _refuse_reserved(value: object) -> object:
    raise PydanticCustomError(RESERVED, "reserved: not supported yet")


_RESERVED_SCHEMA = WithJsonSchema(
    {"not": {}, "description": "Reserved: not supported yet."}
)
#: A key of a later version: known, so that nobody uses it for something else.
Reserved = Annotated[Any, BeforeValidator(_refuse_reserved), _RESERVED_SCHEMA]


def is_reserved(field: FieldInfo) -> bool:
    """Whether a field of a section is a reserved key."""
    return _RESERVED_SCHEMA in field.metadata


def _reserve_false(value: object) -> object:
    return _refuse_reserved(value) if value is False else value


def _reserve_systemd(value: object) -> object:
    return _refuse_reserved(value) if value == "systemd" else value


Managed = Annotated[
    Literal[True],
    BeforeValidator(_reserve_false),
    Field(description="Whether bin/cluster runs it; false is not supported yet."),
]
Supervision = Annotated[Literal["supervisor"], BeforeValidator(_reserve_systemd)]


Name = Annotated[str, values.NAME]
StorageId = Annotated[str, values.STORAGE_ID]
NetworkAddress = Annotated[str, values.NETWORK_ADDRESS]
ServerAddress = Annotated[str, values.SERVER_ADDRESS]
MountPoint = Annotated[str, values.MOUNT_POINT]
FilePath = Annotated[str, values.PATH]
Schedule = Annotated[str, values.SCHEDULE]
Size = Annotated[str, values.SIZE]
TimeBudget = Annotated[str, values.TIME_BUDGET]
TimeZone = Annotated[str, values.TIME_ZONE]
Line = Annotated[str, values.LINE]
DurationOrNever = Annotated[str, values.DURATION_OR_NEVER]
Url = Annotated[str, values.URL]
EnvironmentName = Annotated[str, values.ENVIRONMENT_NAME]
