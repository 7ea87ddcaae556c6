"""One training process per run: an advisory lock that the kernel frees when its holder ends, however it ends."""

import os
from pathlib import Path
from typing import IO, Self

try:
    import fcntl
except ImportError:  # Windows: two processes on one run are left to the user's care
    fcntl = None  # type: ignore[assignment]


def held_by(folder: Path) -> str | None:
    """The process that trains the run in a folder, by its id; None where none does, or where that cannot be known."""
    path = Path(folder) / ".lock"
    if not fcntl or not path.is_file():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "unknown"
    return None


class RunLock:
    """`with RunLock(folder): ...` holds `<folder>/.lock`, which carries the holder's process id.

    Entering raises ValueError if another holder is there. The file stays behind; it is the lock on it that counts.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / ".lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+")
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise ValueError(
                f"{self.path.parent}: expected a run that nobody trains, got one that process {holder} is training;"
                f" wait for it, stop it, or choose another folder"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file
        if fcntl:
            # a forked data worker shares the lock, and would hold it on after its parent was killed
            os.register_at_fork(after_in_child=self._close)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
