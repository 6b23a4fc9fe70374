"""The one way in which a phase asks for the whole copy to be begun anew."""


class CopyAnew(Exception):
    """All storages are to be copied again, in full; the text says why.

    A Data.fs was replaced or packed while it was copied, or what an increment would
    go on from is damaged.
    """
