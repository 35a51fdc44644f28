"""``python -m quicksand``: the ``quicksand`` command of this environment, with its exit code."""

from __future__ import annotations

import os
import subprocess
import sys

from ._errors import InstallError
from ._install import command


def main() -> int:
    """Runs the command with this process's arguments and streams."""
    try:
        program = command()
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    line = [program, *sys.argv[1:]]
    if os.name == "posix":
        # The same process: signals and the terminal are the command's own.
        os.execv(program, line)
    return subprocess.run(line, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
