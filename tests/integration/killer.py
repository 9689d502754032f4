"""Runs the command `rillet` and kills it, as `kill -9` does, at its n-th fsync.

Every file, folder and rename of a store waits for an fsync, so that any n is a
moment within a write. Writes how many there were to KILLER_COUNT; KILLER_TRAINER is
trained instead of the real one. With KILLER_FSIZE no file can grow beyond so many bytes,
which fails as a full disk does.
"""

import os
import resource
import signal
import sys
from pathlib import Path

_real = os.fsync
_seen = 0


def _fsync(descriptor: int) -> None:
    global _seen  # noqa: PLW0603 - it counts over the whole process
    _seen += 1
    if _seen == int(os.environ.get("KILLER_AT", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    _real(descriptor)


def main() -> int:
    import pipelines.train.fine_tune

    pipelines.train.fine_tune.TRAINER = os.environ.get(
        "KILLER_TRAINER", pipelines.train.fine_tune.TRAINER
    )
    from pipelines.cli import main as rillet

    if "KILLER_FSIZE" in os.environ:
        largest = int(os.environ["KILLER_FSIZE"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    try:
        rillet()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        if "KILLER_COUNT" in os.environ:
            Path(os.environ["KILLER_COUNT"]).write_text(str(_seen))
    return 0


if __name__ == "__main__":
    os.fsync = _fsync
    sys.exit(main())
