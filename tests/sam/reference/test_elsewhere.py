"""Slices of volumes that packages carry: made archives in place of the real ones."""

import csv
import tarfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dfqsam.errors import InputError
from dfqsam.evaluate.medseg import cases
from dfqsam.imaging import read_picture
from dfqsam.sam.reference import elsewhere

SIDE, SLICES = 32, 12


def nrrd(values: np.ndarray) -> bytes:
    """Of a volume in NRRD's order of axes."""
    kind = "uint8" if values.dtype == np.uint8 else "int16"
    sizes = " ".join(map(str, values.shape[::-1]))
    header = f"NRRD0004\ntype: {kind}\ndimension: 3\nsizes: {sizes}\nencoding: raw\nendian: little\n"
    space = "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,5)\nspace origin: (0,0,0)\n"
    return (header + space + "\n").encode() + values.tobytes()


@pytest.fixture
def archives(tmp_path: Path) -> list[Path]:
    image = np.random.default_rng(0).integers(-1500, 400, (SLICES, SIDE, SIDE)).astype("<i2")
    mask = np.zeros((SLICES, SIDE, SIDE), np.uint8)
    mask[2:11, 4:20, 6:18] = 1
    mask[2, 8:] = 0  # below 80 pixels
    (tmp_path / "in").mkdir()
    for source in elsewhere.SOURCES:
        if not source.image.endswith(".gz"):
            for name, values in ((source.image, image), *((one, mask) for one in source.masks)):
                (tmp_path / "in" / name).write_bytes(nrrd(values))
        else:
            for name, values in ((source.image, image), *((one, mask) for one in source.masks)):
                nib.save(nib.Nifti1Image(values.transpose(2, 1, 0), np.eye(4)), tmp_path / "in" / name)
    first, second = tmp_path / "a.tar.gz", tmp_path / "b.whl"
    with tarfile.open(first, "w:gz") as made:
        for path in (tmp_path / "in").glob("*.nrrd"):
            made.add(path, f"package/data/{path.name}")
    with zipfile.ZipFile(second, "w") as made:
        for path in (tmp_path / "in").glob("*.gz"):
            made.write(path, f"package/data/{path.name}")
    return [first, second]


def test_slices_that_show_the_object_are_written_with_a_manifest(archives, tmp_path):
    output = tmp_path / "out"
    elsewhere.main([*map(str, archives), str(output)])
    found = cases(output)
    assert len(found) == 8 * len(elsewhere.SOURCES)
    assert {case.dataset for case in found} == {source.dataset for source in elsewhere.SOURCES}
    assert all(case.box().tolist() == [6, 4, 17, 19] for case in found)
    assert all(case.picture().shape == (SIDE, SIDE, 3) for case in found)
    with open(output / "manifest.csv", newline="") as file:
        patients = {row["patient_or_group"] for row in csv.DictReader(file)}
    assert len(patients) == len(elsewhere.SOURCES)
    names = sorted(path.name for path in (output / "radiomics_lung" / "images").glob("lung1-*"))
    assert (names[0], names[-1], len(names)) == ("lung1-003.png", "lung1-010.png", 8)
    lung = read_picture(output / "radiomics_lung" / "images" / names[0])[..., 0]
    image = np.random.default_rng(0).integers(-1500, 400, (SLICES, SIDE, SIDE))[3]
    assert np.array_equal(lung == 0, image < -1347.05)
    assert np.array_equal(lung == 255, image > 147.05)


def test_what_cannot_be_made_is_said(archives, tmp_path, capsys):
    with pytest.raises(InputError, match=r"There is no mni_icbm152_t1.*give PyRadiomics"):
        elsewhere.make(archives[:1], tmp_path / "out")
    (tmp_path / "broken.tar.gz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"broken.tar.gz cannot be read"):
        elsewhere.make([tmp_path / "broken.tar.gz"], tmp_path / "out")
    with pytest.raises(SystemExit) as stopped:
        elsewhere.main([*map(str, archives), str(tmp_path)])
    assert stopped.value.code == 2
    assert "is there already" in capsys.readouterr().err
