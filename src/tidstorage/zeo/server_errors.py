"""Which exception was raised in a ZEO server.

ZEO 5 and 6 rebuild few of them in the client; others come as a ServerException.
"""

from ZEO.Exceptions import ServerException
from ZODB.POSException import UndoError


def class_name(error: Exception) -> str:
    """The name of the exception's class, in the server if it comes from there."""
    if isinstance(error, ServerException) and error.args:
        return str(error.args[0]).rpartition(".")[2]
    return type(error).__name__


def is_undo_error(error: Exception) -> bool:
    """Whether a storage cannot undo, or tell what could be undone: while it packs."""
    return isinstance(error, UndoError) or class_name(error) == UndoError.__name__
