"""Bombs cost little: each is refused in a process of its own, with what its memory grew by measured."""

import gzip
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

GROWTH_MB = 64
SECONDS = 10  # of work that takes hundredths: a machine may be busy

CHILD = """
import json, resource, sys, time
from dfqsam.errors import InputError
from dfqsam.imaging import open_study
warm, path = sys.argv[1:]
open_study(warm)  # libraries are loaded, so that growth is the bomb's own
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
message = ""
try:
    open_study(path)
except InputError as error:
    message = str(error)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(json.dumps([message, grown, time.perf_counter() - start]))
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


def enhanced_bomb():
    made = enhanced(ramp())
    made.NumberOfFrames = 60_000
    return written(made)


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
    "gigapixel PNG": (bomb, "60000 x 60000 pixels"),
    "gigapixel TIFF": (lambda: tiff(60000), "60000 x 60000 pixels"),
    "pages in a circle": (looping_tiff, "damaged"),
}


def judge(warm, path, words):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, str(warm), str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    message, grown, seconds = json.loads(done.stdout)
    assert words in message, message
    assert "\n" not in message
    assert grown <= GROWTH_MB, f"{grown:.0f} MB"
    assert seconds <= SECONDS


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_memory(tmp_path, name):
    make, words = BOMBS[name]
    (tmp_path / "study").write_bytes(make())
    if "DICOM" in name or "sequences" in name:
        (tmp_path / "warm").write_bytes(written(placed(ramp())[0]))
    else:
        nib.save(nib.Nifti1Image(ramp().astype(np.int16), np.eye(4)), tmp_path / "warm.nii")
        (tmp_path / "warm.nii").rename(tmp_path / "warm")
    judge(tmp_path / "warm", tmp_path / "study", words)


def test_the_measure_sees_what_a_study_takes(tmp_path):
    """A sound volume of 100 MB is over the limit of growth: the test above can fail."""
    nib.save(nib.Nifti1Image(np.zeros((512, 512, 400), np.uint8), np.eye(4)), tmp_path / "study.nii")
    nib.save(nib.Nifti1Image(ramp().astype(np.int16), np.eye(4)), tmp_path / "warm.nii")
    with pytest.raises(AssertionError, match="MB"):
        judge(tmp_path / "warm.nii", tmp_path / "study.nii", "")


def test_a_deflated_dicom_bomb_is_not_inflated(tmp_path):
    """100 MB of zeros behind a deflated transfer syntax: pydicom alone would unpack them to look at the header."""
    made = dataset(np.zeros((4, 4), np.uint16))
    made.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1.99")
    whole = written(made)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(100)]
    length = struct.unpack_from("<I", whole, 140)[0]
    (tmp_path / "study").write_bytes(whole[: 144 + length] + b"".join(parts) + packer.flush())
    (tmp_path / "warm").write_bytes(written(placed(ramp())[0]))
    judge(tmp_path / "warm", tmp_path / "study", "deflated as a whole")


def test_a_zip_bomb_is_refused_from_its_directory(tmp_path):
    with zipfile.ZipFile(tmp_path / "study", "w", zipfile.ZIP_DEFLATED) as packed, packed.open("a", "w") as member:
        for _ in range(100):
            member.write(bytes(1 << 20))
    (tmp_path / "warm").write_bytes(written(placed(ramp())[0]))
    judge(tmp_path / "warm", tmp_path / "study", "unpacks to far more")


def test_a_zip_that_lies_about_sizes_is_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / "study", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", bytes(100 << 20))
    data = bytearray((tmp_path / "study").read_bytes())
    for at in (data.index(b"PK\x03\x04") + 22, data.index(b"PK\x01\x02") + 24):
        struct.pack_into("<I", data, at, 5000)
    (tmp_path / "study").write_bytes(data)
    (tmp_path / "warm").write_bytes(written(placed(ramp())[0]))
    judge(tmp_path / "warm", tmp_path / "study", "damaged zip archive")
