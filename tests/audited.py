"""Programs that run in a process of their own, in which every open and every socket is written down."""

import json
import os
import re
import subprocess
import sys

import torch

from dfqsam.assets import shipped_bundle
from dfqsam.sam.known import get_model

START = """
import json, os, sys, tempfile
seen, sockets, watching = set(), [], False
def hook(event, args):
    if not watching:
        return
    if event == "open" and isinstance(args[0], (str, bytes)):
        seen.add(os.path.realpath(os.fsdecode(args[0])))
    if event.startswith("socket."):
        sockets.append(event)
sys.addaudithook(hook)
def watch():
    global watching
    watching = True
def tell(**more):
    global watching
    watching = False
    print(json.dumps({"seen": sorted(seen), "sockets": sockets, "temp": tempfile.gettempdir(), **more}))
"""


def audited_run(program: str, *arguments: object) -> dict:
    """What ``program`` tells, which calls ``watch`` first and ``tell`` in the end: the files that it opened ("seen"),
    its events of sockets, and where temporary files are."""
    get_model("lite-medsam")  # what fetches a checkpoint is no part of what is watched
    command = [sys.executable, "-c", START + program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def strange_files(report: dict, folder: object) -> list[str]:
    """Files that were opened and are none of the checkpoint, libraries, this package, the system and ``folder``; and
    all pictures and studies, wherever they are."""
    libraries = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.dirname(torch.__file__)), str(shipped_bundle())]
    package = os.path.dirname(os.path.dirname(shipped_bundle()))
    system = ["/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/memfd:"]  # the last: sealed copies in memory
    allowed = [*libraries, package, *system, str(folder), os.environ["DFQSAM_CACHE"]]
    allowed = [os.path.realpath(path) for path in allowed]
    strange = [path for path in report["seen"] if not path.startswith(tuple(allowed)) and "__editable__" not in path]
    # The census saves an optimized graph into a temporary folder of its own; nothing else may be there.
    own = re.compile(re.escape(report["temp"]) + r"/(tmp)?[a-z0-9_]{8}(/optimized\.onnx)?")
    pictures = [path for path in report["seen"] if path.lower().endswith((".png", ".jpg", ".dcm", ".nii", ".gz"))]
    return [path for path in strange if not own.fullmatch(path)] + pictures
