import json
import os
import zipfile

import cv2
import numpy as np
import pytest

from dfqsam.errors import InputError
from dfqsam.imaging import open_study, sniff
from dfqsam.imaging.describe import describe, describe_study, is_study
from tests.commands import in_a_process
from tests.imaging.made import folder, nifti, nifti_affine, orientations, placed, ramp, written


def test_inspect_says_what_was_understood_and_nothing_of_the_patient(tmp_path):
    place = folder(tmp_path / "s", [made for k, made in enumerate(placed(ramp(), "coronal")) if k != 2])
    done = in_a_process("inspect", place, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["shape"] == [4, 6, 7]
    assert said["axes"] == ["slices", "rows", "columns"]
    assert said["spacing_mm"] == [pytest.approx(10 / 3, abs=1e-5), 0.75, 0.5]
    assert said["sides"] == {"left": "R", "right": "L", "top": "S", "bottom": "I"}
    assert (said["format"], said["modality"]) == ("DICOM", "CT")
    assert said["slice_thickness_mm"] == [2.5, 3.75, 3.75, 2.5]
    assert said["notes"] == ["1 slice missing (steps of 2.50 mm, longer after slice 1)."]
    table = in_a_process("inspect", place).stdout
    for text in (done.stdout, table):
        assert not [word for word in ("Test", "ID-4711", "1.2.3", "ACC", "1900") if word in text]


def test_several_series_are_listed(tmp_path):
    other = placed(ramp(2), SeriesInstanceUID="1.2.3.9", SeriesNumber=2, Modality="MR")
    place = folder(tmp_path / "s", [*placed(ramp()), *other])
    assert describe_study(place) == {"series": ["1: CT, 5 of 7 x 6", "2: MR, 2 of 7 x 6"]}


def test_what_is_no_study_stays_a_bundle_or_a_checkpoint(tmp_path):
    assert is_study(folder(tmp_path / "d", placed(ramp())))
    (tmp_path / "d" / "manifest.json").write_text("{}")
    assert not is_study(tmp_path / "d")
    (tmp_path / "empty").mkdir()
    assert not is_study(tmp_path / "empty")
    assert not is_study(tmp_path / "none")
    with zipfile.ZipFile(tmp_path / "model.pth", "w") as packed:
        packed.writestr("model/data.pkl", b"")
    assert not is_study(tmp_path / "model.pth")
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as packed:
        packed.writestr("a", written(placed(ramp())[0]))
    assert is_study(tmp_path / "study.zip")
    # A safetensors file whose header is 65544 bytes long begins with what may look like group 8 of DICOM.
    (tmp_path / "model.safetensors").write_bytes((65544).to_bytes(8, "little") + b'{"a":{"dtype":"F32"' + b" " * 65536)
    assert not is_study(tmp_path / "model.safetensors")
    (tmp_path / "text").write_text("hello")
    assert not is_study(tmp_path / "text")
    assert is_study(nifti(tmp_path / "v.nii", ramp(), np.eye(4)))


def test_odd_files_in_a_folder_are_passed_over(tmp_path):
    place = folder(tmp_path / "s", placed(ramp()))
    os.mkfifo(place / "pipe")
    (place / "broken").symlink_to(place / "nowhere")
    (place / "empty").touch()
    (place / ".hidden").write_bytes(b"x")
    assert open_study(place).shape == (5, 6, 7)
    with pytest.raises(InputError, match="no regular file"):
        sniff(place / "pipe")
    (place / "file000").rename(tmp_path / "elsewhere")
    (place / "file000").symlink_to(tmp_path / "elsewhere")
    assert open_study(place).shape == (5, 6, 7)


@pytest.mark.parametrize("bits", [np.uint8, np.uint16])
def test_pages_of_a_tiff_are_slices(tmp_path, bits):
    pages = np.random.default_rng(0).integers(0, np.iinfo(bits).max, (3, 8, 9), bits)
    (tmp_path / "stack.dat").write_bytes(cv2.imencodemulti(".tiff", list(pages))[1].tobytes())
    volume = open_study(tmp_path / "stack.dat")
    assert volume.array.shape == (3, 8, 9, 3)
    scaled = pages if bits is np.uint8 else np.rint((pages - pages.min()) * (255.0 / np.ptp(pages)))
    assert np.abs(volume.array[..., 0] - scaled).max() <= 1
    assert volume.axes[-1] == "colour"
    described = describe(volume)
    assert described["format"] == "picture"
    assert described["spacing_mm"] is None
    json.dumps(described)
    mixed = [pages[0], pages[1, :4]]
    (tmp_path / "mixed.tif").write_bytes(cv2.imencodemulti(".tiff", mixed)[1].tobytes())
    assert open_study(tmp_path / "mixed.tif").array.shape == (1, 8, 9, 3)


def test_the_natural_plane_is_the_one_that_was_scanned(tmp_path):
    zooms = {"axial": (0.5, 0.5, 3), "coronal": (0.5, 3, 0.5), "sagittal": (3, 0.5, 0.5)}
    for directions in orientations()[::5]:
        for plane, steps in zooms.items():
            # steps are those of R, A and S; a voxel's axis runs along one of them
            along = [steps[int(np.argmax(np.abs(directions[:, axis])))] for axis in range(3)]
            path = nifti(tmp_path / "v.nii", ramp(), nifti_affine(directions, along))
            assert open_study(path).natural_plane == plane
    assert open_study(nifti(tmp_path / "v.nii", ramp(), np.diag([2.0, 2, 2, 1]))).natural_plane == "axial"
