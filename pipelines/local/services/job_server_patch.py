"""A mend for Beam's job server: what a polling source leaves behind in Flink.

Each time that a splittable DoFn hands back the rest of its work, Beam 2.70 keeps that rest
in a Flink state of a new name (`sdf_checkpoint:<number>:<index>`), and Flink never forgets a
name: some 70 kB of heap a time, 6 times a second, until the TaskManager stands still
(apache/beam issue 27648, mended there by pull request 39191 in July 2026). State is kept by
key, which is the element that is worked on, and of that there is one rest at a time: the
number can go.
"""

import zipfile
from pathlib import Path

from pipelines.errors import RequestError

__all__ = ["NAME", "patch_state_names"]

NAME = (
    "org/apache/beam/runners/fnexecution/control/"
    "BundleCheckpointHandlers$StateAndTimerBundleCheckpointHandler.class"
)
"""The class that is mended."""

_APPEND_NUMBER = bytes.fromhex("2a b6000e 120f b6000e")
"""`.append(id).append(":")`: load the first argument, append, load the colon, append."""

_NOTHING = bytes.fromhex("00 000000 120f b6000e")
"""The same with four times nop instead of the first half."""


def patch_state_names(jar: Path) -> None:
    """Leave the number out of the state's name, in the job server's jar.

    Raises:
        RequestError: the jar holds another version of the class.
    """
    with zipfile.ZipFile(jar, "a") as archive:
        found = archive.getinfo(NAME)
        code = archive.read(found)
        if code.count(_APPEND_NUMBER) != 1:
            raise RequestError(
                f"{jar} has a {NAME.rpartition('/')[2]} that is not Beam 2.70's: "
                "look whether it still needs pipelines/local/services/job_server_patch.py"
            )
        # An archive is read by the list at its end: the old bytes stay behind, unlisted.
        archive.filelist.remove(found)
        del archive.NameToInfo[NAME]
        archive.writestr(found, code.replace(_APPEND_NUMBER, _NOTHING))
