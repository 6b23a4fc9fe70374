"""The one way in which a phase asks for the whole copy to be begun anew."""


class SourceMoved(Exception):
    """A Data.fs was replaced, or packed, while it was copied, or a copy is damaged.

    The text says which.
    """
