"""No upload reaches a disk: neither the files of large forms nor what readers and writers make of them."""

import os
import sys
import tempfile

import numpy as np
import pytest
from starlette.formparsers import MultiPartParser

from dfqsam.serve.forms import InMemory
from tests.imaging.made import placed, written
from tests.serve.world import Process, asked, form

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
LARGE = 8 << 20


def large_dicom() -> bytes:
    """8 MB, which Starlette's own parser would put into a file."""
    side = int(np.sqrt(LARGE / 2))
    return written(placed(np.full((1, side, side), 500, np.uint16), WindowCenter=400, WindowWidth=100)[0])


def test_the_parser_of_the_library_would_write_it():
    """What the tests below look for is what happens where nobody stops it."""
    assert MultiPartParser.spool_max_size <= 1 << 20
    assert InMemory.spool_max_size > LARGE


@pytest.mark.parametrize("kind", ["seg", "png", "nifti"])
def test_a_large_upload_opens_no_file_for_writing(tmp_path, monkeypatch, kind):
    opened: list[tuple] = []
    watching = False

    def watch(event: str, arguments: tuple) -> None:
        if watching and event == "open":
            _, mode, flags = arguments
            if (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & WRITES:
                opened.append(arguments)

    def never(*_, **__):
        raise AssertionError("a temporary file")

    sys.addaudithook(watch)  # there is no way to take it off: the flag does
    for name in ("TemporaryFile", "NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, never)
    image = large_dicom()
    with asked(tmp_path) as ask:
        watching = True
        try:
            answer = ask("POST", "/v1/segment", **form(image, [{"box": [500, 500, 1500, 1500]}], format=kind))
        finally:
            watching = False
        assert answer.status_code == 200, answer.text
    assert [path for path, *_ in opened if path != os.devnull] == []


@pytest.mark.slow
def test_a_running_server_leaves_nothing_behind(tmp_path):
    """The folder for temporary files of a process is empty while it works, and cannot be written at all."""
    import httpx

    from tests.evaluate.world import toy_bundle

    toy_bundle(tmp_path / "bundle", 4, full=False)
    folder = tmp_path / "tmp"
    folder.mkdir()
    watched = """
import os, sys
from dfqsam.cli import main

def watch(event, arguments):
    writes = event == "open" and (arguments[2] or 0) & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
    if writes and isinstance(arguments[0], str):
        print("wrote", arguments[0], file=sys.stderr, flush=True)

sys.addaudithook(watch)
main()
"""
    with Process(tmp_path / "bundle", wrapped=watched, TMPDIR=str(folder)) as server:
        answer = httpx.post(f"{server.address}/v1/segment", **form(large_dicom()), timeout=60)
        assert answer.status_code == 200
        assert list(folder.iterdir()) == []
        assert server.end(15) == 0
    written_to = [line.split()[1] for line in server.err if line.startswith("wrote ")]
    assert [path for path in written_to if path != os.devnull] == []
