"""Bombs cost little: each is refused in a process of its own, with what its memory grew by measured."""

import gzip
import io
import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.uid import UID

from tests.imaging.made import dataset, enhanced, placed, ramp, written
from tests.imaging.test_raster import bomb

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
GROWTH_MB = 64
SECONDS = 0.2  # of processor time: a machine may be busy

CHILD = r"""
import json, os, pathlib, re, resource, sys, time
from dfqsam.errors import InputError
from dfqsam.imaging import open_study
folder = pathlib.Path(sys.argv[1])
for name in ("warm.nii", "warm.dcm"):
    open_study(folder / name)  # libraries are loaded, so that growth is the bomb's own

def memory(what):  # of this process alone: getrusage also remembers its parent's, from before the exec
    return int(re.search(what + r":\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])

def measure(path):
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, start, message = memory("VmRSS"), time.process_time(), ""
    try:
        open_study(path)
    except InputError as error:
        message = str(error)
    seconds = time.process_time() - start
    return [path.name, message, (memory("VmHWM") - before) / 1024, seconds]

for path in sorted((folder / "bombs").iterdir()):  # each in a process of its own
    sys.stdout.flush()
    if os.fork() == 0:
        most = memory("VmSize") * 1024 + (1 << 29)  # a bomb that does go off ends this process and not the machine
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        print(json.dumps(measure(path)), flush=True)
        os._exit(0)
    os.wait()
"""


def nifti_header(shape, bits=64, offset=352.0):
    """The first 352 bytes of a NIfTI file of float64 (or uint8) that claims ``shape``."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float64 if bits == 64 else np.uint8)
    header["dim"][0] = len(shape)
    header["dim"][1 : len(shape) + 1] = shape
    header["vox_offset"], header["magic"] = offset, b"n+1"
    return header.binaryblock + b"\0" * 4


def second_header(shape):
    header = nib.Nifti2Header()
    header.set_data_dtype(np.uint8)
    header["dim"][0] = len(shape)
    header["dim"][1 : len(shape) + 1] = shape
    header["vox_offset"] = 544
    return header.binaryblock + b"\0" * 4


def packed_with_zeros(head, megabytes):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(head)] + [packer.compress(bytes(1 << 20)) for _ in range(megabytes)]
    return b"".join(parts) + packer.flush()


def claims(**values):
    return written(dataset(np.zeros((4, 4), np.uint16), **values))


def nested(depth):
    """Sequences in sequences, of undefined length, until a parser that recurses has had enough."""
    head = claims()
    item = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return head[: head.index(b"\x08\x00\x50\x00")] + item * depth


def tiff(side):
    entries = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, 4)]
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries)
    return b"II*\0" + struct.pack("<I", 8) + body + b"\0" * 4


def looping_tiff():
    body = tiff(4)
    return body[:-4] + struct.pack("<I", 8)


def overlapping_tiff(pages=5000, entries=60_000):
    """Directories of 60000 entries, four bytes apart, each followed by the next: 300 million entries in 740 KB."""
    data = bytearray(b"II*\0" + struct.pack("<I", 8) + b"\0" * (12 * entries + 4 * pages + 100))
    for page in range(pages):
        at = 8 + 4 * page
        struct.pack_into("<H", data, at, entries)
        struct.pack_into("<I", data, at + 2 + 12 * entries, at + 4 if page + 1 < pages else 0)
    for alignment in range(3):  # width and height, where each third of the directories sees them
        at = 600_000 + 36 * alignment
        at += (10 + 4 * alignment - at) % 12
        struct.pack_into("<HHIIHHII", data, at, 256, 4, 1, 9, 257, 4, 1, 9)
    return bytes(data)


def enhanced_bomb():
    made = enhanced(ramp())
    made.NumberOfFrames = 60_000
    return written(made)


def deflated():
    """Zeros behind a deflated transfer syntax: pydicom alone would unpack them to look at the header."""
    made = dataset(np.zeros((4, 4), np.uint16))
    made.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1.99")
    whole = written(made)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(100)]
    length = struct.unpack_from("<I", whole, 140)[0]
    return whole[: 144 + length] + b"".join(parts) + packer.flush()


def zip_bomb(claimed=None):
    """A member of 100 MB of zeros; with ``claimed``, an archive that says it is so many bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", bytes(100 << 20))
    data = bytearray(out.getvalue())
    if claimed is not None:
        for at in (data.index(b"PK\x03\x04") + 22, data.index(b"PK\x01\x02") + 24):
            struct.pack_into("<I", data, at, claimed)
    return bytes(data)


def text_header(start, sizes):
    """An NRRD, or without a start a MetaImage, of doubles that claims ``sizes``."""
    if start:
        return f"{start}\ntype: double\ndimension: 3\nsizes: {sizes}\nencoding: raw\n\n".encode() + b"\0" * 99
    lines = ("ObjectType = Image", "NDims = 3", f"DimSize = {sizes}", "ElementType = MET_DOUBLE")
    return "\n".join([*lines, "ElementDataFile = LOCAL", ""]).encode() + b"\0" * 99


BOMBS = {
    "447 GB in 177 bytes": (lambda: gzip.compress(nifti_header((4096, 4096, 3576))), "the limit is 256 million"),
    "2 GB that are not there": (lambda: nifti_header((512, 512, 1024)), "cut short"),
    "2 GB that are not there, packed": (lambda: gzip.compress(nifti_header((512, 512, 1024))), "cut short"),
    "negative sizes": (lambda: nifti_header((-5, 512, 512)), "makes no sense"),
    "sizes of nothing": (lambda: nifti_header((0, 512, 512)), "makes no sense"),
    "a huge gap before the voxels": (
        lambda: packed_with_zeros(nifti_header((4, 4, 4), offset=2.0**30), 60),
        "before its",
    ),
    "zeros without end": (lambda: packed_with_zeros(nifti_header((4, 4, 4)), 200), "damaged"),
    "a billion volumes": (lambda: gzip.compress(nifti_header((512, 512, 500, 32767), 8)), "too much"),
    "NIfTI-2, 2^62 voxels": (lambda: second_header((2**31, 2**31, 1)), "the limit is 256 million"),
    "gigapixel DICOM": (lambda: claims(Rows=65535, Columns=65535), "the limit is 256 million"),
    "DICOM frames without end": (lambda: claims(NumberOfFrames=2**31 - 1), "the limit is 256 million"),
    "DICOM frames that are not there": (lambda: claims(NumberOfFrames=60_000), "cut short"),
    "half of an enhanced DICOM": (enhanced_bomb, "describes 5"),
    "sequences in sequences": (lambda: nested(200_000), "damaged"),
    "a deflated DICOM": (deflated, "deflated as a whole"),
    "a zip bomb": (zip_bomb, "unpacks to far more"),
    "a zip that lies about sizes": (lambda: zip_bomb(5000), "damaged zip archive"),
    "NRRD of 2^50 voxels": (lambda: text_header("NRRD0004", "1048576 1048576 1024"), "the limit is 256 million"),
    "NRRD of 2 GB that are not there": (lambda: text_header("NRRD0004", "512 512 1000"), "cut short"),
    "MetaImage of 2^50 voxels": (lambda: text_header("", "1048576 1048576 1024"), "the limit is 256 million"),
    "a megabyte of header": (lambda: b"NRRD0004\n" + b"# nothing\n" * 200_000, "makes no sense"),
    "gigapixel PNG": (bomb, "60000 x 60000 pixels"),
    "gigapixel TIFF": (lambda: tiff(60000), "60000 x 60000 pixels"),
    "pages in a circle": (looping_tiff, "damaged"),
    "pages in one another": (overlapping_tiff, "damaged"),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """For every bomb, and a sound study of 100 MB: message, growth in MB, seconds."""
    place = tmp_path_factory.mktemp("limits")
    (place / "bombs").mkdir()
    for number, (make, _) in enumerate(BOMBS.values()):
        (place / "bombs" / str(number)).write_bytes(make())
    nib.save(nib.Nifti1Image(np.zeros((512, 512, 400), np.uint8), np.eye(4)), place / "bombs" / "sound.nii")
    nib.save(nib.Nifti1Image(ramp().astype(np.int16), np.eye(4)), place / "warm.nii")
    (place / "warm.dcm").write_bytes(written(placed(ramp())[0]))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:This process is multi-threaded", "-c", CHILD, str(place)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_memory(measured, name):
    message, grown, seconds = measured[str(list(BOMBS).index(name))]
    assert BOMBS[name][1] in message
    assert "\n" not in message
    assert grown <= GROWTH_MB
    assert seconds <= SECONDS


def test_the_measure_sees_what_a_study_takes(measured):
    """A sound volume of 100 MB is over the limit of growth: the tests above can fail."""
    message, grown, _ = measured["sound.nii"]
    assert message == ""
    assert grown > 100
