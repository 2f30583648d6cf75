"""A temporary folder that is gone with everything in it once its process is, however that ends.

Workers have their temporary files there: a worker that is killed can remove none, such as those
that AutoGraph writes for each function that it converts.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from lossfuzz.errors import UsageError

_KEEPER = 'cat >/dev/null; rm -rf -- "$0" || { sleep 1; rm -rf -- "$0"; }'
"""Waits for the end of its input, which is that of the process that started it, and removes."""


class Scratch:
    """A folder for the temporary files of a process's children.

    Attributes:
        path: of the folder.
    """

    def __init__(self) -> None:
        """Make the folder, and a process that removes it if this one is killed.

        Raises:
            UsageError: no temporary folder can be made.
        """
        try:
            self.path = Path(tempfile.mkdtemp(prefix="lossfuzz-"))
        except OSError as error:
            raise UsageError(
                f"no temporary folder can be made ({error}): make room, or set TMPDIR to a "
                "folder that can be written"
            ) from None
        self._keeper: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):  # without it only a killed process leaves its files
            self._keeper = subprocess.Popen(  # noqa: S603 - its program is ours
                ["/bin/sh", "-c", _KEEPER, str(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not for it
                cwd="/",
            )

    def folder(self) -> Path:
        """A new empty folder within.

        Raises:
            UsageError: it cannot be made.
        """
        try:
            return Path(tempfile.mkdtemp(dir=self.path))
        except OSError as error:
            raise UsageError(f"no temporary folder can be made ({error}): make room") from None

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
            self._keeper.wait()
