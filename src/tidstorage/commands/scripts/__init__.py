"""The programs beside ``bin/cluster``: ``tidstorage-*``, the daemon, ZEO servers."""
