"""Every error the tools report, with its exit status, in one table.

An error says what happened and where (its text), and what to do (its
``hint``).  Nothing below is ever shown with a traceback; an exception that is
not listed here is a defect of ours and keeps its traceback.

Exit statuses are part of the public interface: scripts test them.  Status 1 is
Python's own (an unexpected exception), 2 is argparse's (a wrong command line),
130 an interruption by the keyboard.
"""


class TidstorageError(Exception):
    """What happened, with the place; ``hint`` tells what to do about it."""

    exit_status = 1
    hint = ""

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        if hint is not None:
            self.hint = hint
        if self.hint:
            # Seen where a traceback is: by developers and in test reports.
            self.add_note(self.hint)


class WrongUsage(TidstorageError):
    """Options of the command line do not go together."""

    #: As where argparse itself finds it wrong.
    exit_status = 2


class DescriptionError(TidstorageError):
    """cluster.toml (or another configuration file) is wrong."""

    exit_status = 3
    hint = "Nothing has been changed. Correct the file, then try again."


class PortInUse(TidstorageError):
    """An address that one of our servers needs is taken."""

    exit_status = 4
    hint = "Stop the program that holds it, or choose another port in cluster.toml."


class ClusterRunning(TidstorageError):
    """The verb needs a stopped cluster, and part of it is up."""

    exit_status = 5
    hint = "Stop it first (bin/cluster stop), or give --stop."


class NotReady(TidstorageError):
    """A server or Zope did not become ready, or did not end, in time."""

    exit_status = 6


class Locked(TidstorageError):
    """Another backup, restore, prune or pack holds the lock."""

    exit_status = 7


class NoSpace(TidstorageError):
    """The file system has no room for what the verb would write."""

    exit_status = 8


class NoSuchSet(TidstorageError):
    """No backup set answers the request."""

    exit_status = 9
    hint = "bin/cluster backups lists what there is."


class NotCoherent(TidstorageError):
    """Files, or a backup set, do not hold what they should."""

    exit_status = 10


class Damaged(TidstorageError):
    """Unacknowledged half commits lie in the way; the user has to choose."""

    exit_status = 11


class UnknownStorage(TidstorageError):
    """A stamp, point or command line names a storage that was not given."""

    exit_status = 12
    hint = "Give its file too, list it under [[retired-storage]], or use --partial."


class FloorNeeded(TidstorageError):
    """A packed file can only be cut above a known point."""

    exit_status = 13
    hint = "Name such a point with --floor, or restore from a backup set."


class BarrierFailed(TidstorageError):
    """No instant could be found at which all storages stood still."""

    exit_status = 14
    hint = "Is every ZEO server up? bin/cluster status shows that."


class EngineFailed(TidstorageError):
    """repozo, or a file operation of a backup or restore, failed."""

    exit_status = 15


class FileUnreadable(TidstorageError):
    """A file is missing, is of another kind, or is broken."""

    exit_status = 16


class NotConnected(TidstorageError):
    """A server could not be reached."""

    exit_status = 17


class PartMissing(TidstorageError):
    """A program or package that is needed is not installed."""

    exit_status = 18


class InterruptedRestore(TidstorageError):
    """A former restore stopped in the middle of its swap of files."""

    exit_status = 19
    hint = "Run the same restore again: it goes on where it stopped."


class UnknownPart(TidstorageError):
    """A command line names a server or Zope that the cluster does not have."""

    exit_status = 20


class DemonstrationFailed(TidstorageError):
    """The demonstration did not show what it is there to show."""

    exit_status = 21


class NotPermitted(TidstorageError):
    """A file belongs to somebody else."""

    exit_status = 22
    hint = "Run it as the cluster's own user, or as root with [cluster] user set."


class BackupDirectoryLost(TidstorageError):
    """The backup directory is not the one that was backed up to before."""

    exit_status = 23


class UnknownCommit(TidstorageError):
    """A command line names a half commit that does not exist."""

    exit_status = 24
    hint = "bin/cluster damage lists those there are."


class NotConfirmed(TidstorageError):
    """What cannot be taken back was asked for without --yes."""

    exit_status = 25
    hint = "Nothing has been changed. Give --yes if you want it."


class TemplateBroken(TidstorageError):
    """A template cannot be rendered."""

    exit_status = 26
    hint = "Nothing has been changed. Mend the template, or put back the one we ship."


class CannotUndo(TidstorageError):
    """A server refuses to undo a transaction, or nobody knows whether it did."""

    exit_status = 27
    hint = (
        "Later transactions changed the same objects: mend them by hand in the"
        " running site, then accept it (bin/cluster damage --acknowledge)."
    )


class WrongTime(TidstorageError):
    """A command line names a time that cannot be read, or that was twice."""

    exit_status = 28


class NotReachable(TidstorageError):
    """No backup set can restore the time that is asked for."""

    exit_status = 29
    hint = "bin/cluster points lists the times that can be restored."


class PackUnsafe(TidstorageError):
    """A pack could destroy objects, or fail half way, or nobody can tell."""

    exit_status = 30


class VerificationFailed(TidstorageError):
    """A backup set is not what was written, or its data lack something."""

    exit_status = 31


class NoSuchObject(TidstorageError):
    """The site of that time has no such object."""

    exit_status = 32
    hint = "Give its path from the root, as in /site/folder/document."


class Unprotected(TidstorageError):
    """Somebody else could read, replace or redirect what is backed up or restored."""

    exit_status = 33


class SetDamaged(NotCoherent):
    """A file of a backup set is missing, or is not what was written."""

    exit_status = 34
    hint = "Choose another set (bin/cluster backups)."


class WrongStorages(NotCoherent):
    """A backup set has other storages than the description."""

    exit_status = 35


class UnsoundFile(NotCoherent):
    """ZODB cannot open a file that was made, or finds another end in it."""

    exit_status = 36


class TargetExists(EngineFailed):
    """Something is there already where something new is to be written."""

    exit_status = 37
    hint = "Move it away first."


class ClockWentBack(EngineFailed):
    """This machine's clock says a time before that of the newest backup."""

    exit_status = 38
    hint = "Correct the clock of this machine."


class ProgramFailed(EngineFailed):
    """A program that was run ended with an error."""

    exit_status = 39


class OtherHistory(TidstorageError):
    """Data files or backups are those of another cluster, or of a copy of this one."""

    exit_status = 40


class DataFileLost(TidstorageError):
    """A Data.fs is gone, empty, or not the file that was there before."""

    exit_status = 41


class NotDecided(TidstorageError):
    """A new site finds backups of a former one, and nobody said what to do."""

    exit_status = 42


class SetUnreadable(EngineFailed):
    """A file of a backup set could not be read: what the set is worth is unknown."""

    exit_status = 43
    hint = (
        "That says nothing against the set, and nothing for it. See to the disk, then"
        " look again (bin/cluster verify)."
    )
