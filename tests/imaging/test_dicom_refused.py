"""DICOM in archives and uploads, and what is refused: damage, traps, decoders that die."""

import io
import subprocess
import sys
import zipfile

import cv2
import nibabel as nib
import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dfqsam.errors import InputError
from dfqsam.imaging import (
    open_study,
    open_uploads,
    study_series,
    upload_series,
    write_study_mask,
)
from dfqsam.imaging.dicom.worker import Worker
from tests.imaging.made import RGB, affine_of, folder, marked, one, placed, ramp, written


def test_deflated_and_dicomdir_are_refused(tmp_path):
    made = placed(ramp())[0]
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with pytest.raises(InputError, match="deflated as a whole"):
        open_study(one(tmp_path / "d", made))
    made = placed(ramp())[0]
    made.SOPClassUID = UID("1.2.840.10008.1.3.10")
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=False)
    (tmp_path / "DICOMDIR").write_bytes(
        b"\0" * 128 + b"DICM" + out.getvalue() if b"DICM" not in out.getvalue()[:132] else out.getvalue()
    )
    with pytest.raises(InputError, match="is a DICOMDIR"):
        open_study(tmp_path / "DICOMDIR")


def zipped(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return path


def test_a_zipped_series_is_read_without_unpacking_to_disk(tmp_path, monkeypatch):
    files = {f"study/CT/{k}": written(made) for k, made in enumerate(placed(ramp(), "oblique"))}
    packed = zipped(tmp_path / "study.zip", {**files, "study/DICOMDIR": b"x", "__MACOSX/._0": b"y", "readme.txt": b"z"})
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    volume = open_study(packed)
    assert np.array_equal(volume.array, ramp())
    np.testing.assert_allclose(volume.affine, affine_of("oblique"), atol=1e-6)
    assert [str(s) for s in study_series(packed)] == ["1: CT, 5 of 7 x 6"]
    assert list((tmp_path / "temporary").iterdir()) == []
    write_study_mask(tmp_path / "m.dcm", volume, marked(volume.shape))


def test_uploads_are_read_from_memory(tmp_path):
    """The same as from a disk, for one file of any kind and for many of a series."""
    files = {f"IM{k}": written(made) for k, made in enumerate(placed(ramp(), "coronal"))}
    volume = open_uploads({**files, "notes.txt": b"no DICOM"})
    assert np.array_equal(volume.array, ramp())
    np.testing.assert_allclose(volume.affine, affine_of("coronal"), atol=1e-6)
    assert [str(one) for one in upload_series(files)] == ["1: CT, 5 of 7 x 6"]
    assert [str(one) for one in upload_series({"IM0": files["IM0"]})] == ["1: CT, 1 of 7 x 6"]
    packed = zipped(tmp_path / "z", files).read_bytes()
    picture = cv2.imencode(".png", RGB[..., ::-1])[1].tobytes()
    nib.save(nib.Nifti1Image(ramp().astype(np.int16), np.eye(4)), tmp_path / "v.nii.gz")
    nifti = (tmp_path / "v.nii.gz").read_bytes()
    for data, shape in ((packed, (5, 6, 7)), (files["IM0"], (1, 6, 7)), (picture, (1, 6, 8)), (nifti, (7, 6, 5))):
        assert open_uploads({"upload": data}).shape == shape
    assert [s.images for s in upload_series({"z": packed})] == [5]
    refused = {
        "No file": {},
        "a is empty": {"a": b""},
        "a is no NIfTI": {"a": b"text"},
        "no DICOM": {"a": b"1", "b": b"2"},
    }
    for words, given in refused.items():
        with pytest.raises(InputError, match=words):
            open_uploads(given)


def test_archives_that_are_traps_are_refused(tmp_path):
    good = written(placed(ramp())[0])
    for number, name in enumerate(("../up", "/root", "a/../../b", "C:/windows", "a\\..\\b")):
        packed = tmp_path / f"{number}.zip"
        zipped(packed, {"good": good, "x" * len(name): good})
        packed.write_bytes(packed.read_bytes().replace(b"x" * len(name), name.encode()))
        with pytest.raises(InputError, match="points outside"):
            open_study(packed)
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="points outside"):
        open_study(tmp_path / "l.zip")
    with pytest.raises(InputError, match="unpacks to far more"):
        open_study(zipped(tmp_path / "b.zip", {"a": bytes(40 << 20)}))
    with pytest.raises(InputError, match="holds no DICOM"):
        open_study(zipped(tmp_path / "n.zip", {"a.txt": b"hello"}))
    cut = zipped(tmp_path / "c.zip", {"a": good}).read_bytes()
    (tmp_path / "c.zip").write_bytes(cut[:-30])
    with pytest.raises(InputError, match="damaged zip"):
        open_study(tmp_path / "c.zip")
    wrong = bytearray(zipped(tmp_path / "w.zip", {"a": good}, zipfile.ZIP_STORED).read_bytes())
    wrong[200] ^= 1
    (tmp_path / "w.zip").write_bytes(wrong)
    with pytest.raises(InputError, match="damaged"):
        open_study(tmp_path / "w.zip")


def test_a_damaged_file_in_a_series_is_named(tmp_path):
    place = folder(tmp_path / "s", placed(ramp(rows=30, columns=40)))
    whole = (place / "file004").read_bytes()
    for length in range(133, len(whole) - 1, 97):
        (place / "file004").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"file004 is (cut short|damaged)"):
            open_study(place)
        with pytest.raises(InputError, match=r"file004 is (cut short|damaged)"):
            open_study(place / "file004")


def test_a_picture_whose_codestream_names_another_size_is_refused(tmp_path):
    made = placed(ramp(1, 40, 50))[0]
    made.compress(JPEG2000Lossless, generate_instance_uid=False)
    made.Rows, made.Columns = 20, 25
    with pytest.raises(InputError, match="names 25 x 20 pixels and holds 50 x 40"):
        open_study(one(tmp_path / "j", made))


def test_a_decoder_that_dies_or_hangs_takes_nothing_with_it(tmp_path, monkeypatch):
    """The child is a process of its own; its death is one sentence, and the next study is read."""
    made = placed(ramp(1, 40, 50))[0]
    made.compress(RLELossless, generate_instance_uid=False)
    path = one(tmp_path / "r", made)
    real = subprocess.Popen
    for code, words in (
        ("import os; os.abort()", "its decoder failed"),
        ("import time; time.sleep(60)", "come to an end"),
    ):
        monkeypatch.setattr("dfqsam.imaging.dicom.worker.SECONDS", 0.5)
        monkeypatch.setattr(Worker.__init__, "__defaults__", (0.5,))
        monkeypatch.setattr(
            subprocess, "Popen", lambda command, code=code, **how: real([sys.executable, "-c", code], **how)
        )
        with pytest.raises(InputError, match=words):
            open_study(path)
    monkeypatch.undo()
    assert np.array_equal(open_study(path).array[0], ramp(1, 40, 50)[0])


def test_a_syntax_that_nobody_reads_is_named(tmp_path):
    made = placed(ramp())[0]
    made.PixelData = encapsulate([b"\0" * 20])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.102")
    with pytest.raises(InputError, match="encoded as 'MPEG-4"):
        open_study(one(tmp_path / "v", made))
