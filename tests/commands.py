"""The command line in a process of its own, as a person starts it; warnings are errors in it."""

import subprocess
import sys


def in_a_process(*arguments: object, cwd: object = None) -> subprocess.CompletedProcess[str]:
    """What ``dfqsam ARGUMENTS`` comes to."""
    command = [sys.executable, "-W", "error", "-m", "dfqsam", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
