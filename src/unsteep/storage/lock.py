"""One writer of a folder: `.lock` in it names who writes there, and goes with them.

Whoever holds the folder has a lock of the kernel on that file, which ends with its holder however that ends, and has
written down host, process and start, so that a process that gets its number later is no owner. A dead one's lock is
thus taken over by itself on the machine where it ran. From another machine, on a file system that several share, nobody
can tell whether the holder lives: that is said, with the last change in the folder, and who knows removes the file.
"""

import errno
import json
import os
import platform
import stat
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

try:
    import fcntl
except ImportError:  # Windows: two processes on one folder are left to the user's care
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
MOST = 4096  # bytes of it that are read
SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # follow no link, wait for no pipe
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)  # of file systems without any
PROC, BOOT = Path("/proc"), Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Holder:
    """A process that writes to a folder: the name of its machine, what marks the machine's last start, the process's
    number and its own start (both empty where nobody tells), and since when it has held the folder."""

    host: str
    boot: str
    pid: int
    start: str
    since: str

    @classmethod
    def here(cls) -> Self:
        """This process, from now on."""
        return cls(platform.node(), _boot(), os.getpid(), _start(os.getpid()), time.strftime("%Y-%m-%d %H:%M"))

    @property
    def near(self) -> bool:
        """Whether its machine is this one, before a restart or in another container, too."""
        return self.host == platform.node() or (self.boot != "" and self.boot == _boot())

    @property
    def dead(self) -> bool:
        """Whether it is known to have ended: no process of this machine has its number and its start."""
        return self.near and (self.boot != _boot() or self.start != _start(self.pid) or not self.start)

    def __str__(self) -> str:
        return f"process {self.pid}" if self.near else f"process {self.pid} of {self.host}"


def held_by(folder: Path) -> Holder | None:
    """Who writes to a folder, as far as can be told from here; None where nobody does."""
    try:
        descriptor = os.open(Path(folder) / LOCK, os.O_RDONLY | SAFELY)
    except OSError:
        return None
    try:
        holder = _read(descriptor)
    finally:
        os.close(descriptor)
    return None if holder is None or holder.dead else holder


def released(folder: Path) -> None:
    """Removes the lock that a process left which was killed after all its work. ValueError where another holds it."""
    if os.path.lexists(Path(folder) / LOCK):
        with FolderLock(folder):
            pass


class FolderLock:
    """`with FolderLock(folder): ...` is the one that writes to `folder`, which is made, and removed if it stays empty.

    Entering raises ValueError if another holder is there, or may be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = Path(folder), Path(folder) / LOCK
        self._descriptor: int | None = None
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        self._made = [one for one in (self.folder, *self.folder.parents) if not one.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            while self._descriptor is None:
                self._descriptor = self._taken()
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise ValueError(f"{self.path}: it cannot be written, {why}; mend it, or choose another folder") from error
        if fcntl:
            # a forked data worker shares the lock, and would hold it on after its parent was killed
            os.register_at_fork(after_in_child=self._close)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
                if _is(self._descriptor, self.path):
                    self.path.unlink()
        self._close()
        with suppress(OSError):  # where something was written
            for made in self._made:
                made.rmdir()

    def _taken(self) -> int | None:
        """The file, taken; None where it was removed meanwhile."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | SAFELY, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            locked, holder = _lock(descriptor), _read(descriptor)
            if locked is False or (holder and not holder.dead and not (locked and holder.near)):
                raise ValueError(self._refusal(holder))
            if _is(descriptor, self.path):
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, json.dumps(asdict(Holder.here())).encode() + b"\n")
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _refusal(self, holder: Holder | None) -> str:
        if holder is None or holder.near:
            since = f" since {holder.since}" if holder else ""
            who = holder or "another process"
            return f"{self.folder}: {who} has been writing there{since}; wait for it, stop it, or choose another folder"
        return (
            f"{self.folder}: {holder} has been writing there since {holder.since}, and the last change was "
            f"{_ago(self.folder)}; from this machine nobody can tell whether it still runs: wait for it, or, if it has "
            f"ended, remove {self.path} and repeat this"
        )

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> bool | None:
    """Whether the kernel's lock on a file is now this process's; None where there are no such locks."""
    if not fcntl:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


def _read(descriptor: int) -> Holder | None:
    """Whom a lock names; None for none, and for whatever is no lock of this version."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        told = json.loads(os.read(descriptor, MOST))
        return Holder(**{name: kind(told[name]) for name, kind in Holder.__annotations__.items()})
    except Exception:
        return None


def _is(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _boot() -> str:
    try:
        return BOOT.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _start(pid: int) -> str:
    """When a process was started, in the system's own words; empty where there is none, or nobody tells."""
    try:
        if PROC.is_dir():
            state, *rest = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
            return "" if state in b"ZX" else rest[18].decode()
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _ago(folder: Path) -> str:
    """How long ago anything directly in a folder changed, in words."""
    changed = max(one.lstat().st_mtime for one in [folder, *folder.iterdir()])
    seconds = max(0.0, time.time() - changed)
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} seconds ago"
