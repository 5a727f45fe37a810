"""NRRD and MetaImage, as 3D Slicer, ITK-SNAP and others write them: the same study as in NIfTI, or one sentence."""

import gzip
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (its own documentation's name)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.evaluate.sources import open_data
from dfqsam.imaging import open_study, open_uploads, read_study_mask, sniff, write_study_mask
from dfqsam.imaging.describe import describe
from dfqsam.imaging.itk import child, reading
from dfqsam.imaging.itk.header import read_header
from dfqsam.imaging.volume import ItkSource
from tests.imaging.made import marked, nifti, nifti_affine, orientations, ramp
from tests.imaging.test_geometry import array_points, nibabel_points

ENDINGS = ("nrrd", "nhdr", "mha", "mhd")


@pytest.fixture
def here(monkeypatch):
    """ITK reads in this process, without the second that a process of its own takes to begin."""

    def asked(kind, data, name):
        image = child._read(kind, data)
        answer = {"components": image.GetNumberOfComponentsPerPixel(), "spacing": image.GetSpacing()}
        answer |= {"origin": image.GetOrigin(), "direction": image.GetDirection()}
        return answer, sitk.GetArrayFromImage(image)

    monkeypatch.setattr(reading, "_asked", asked)


def same_study(path, source, packed=False):
    """``source``, a NIfTI file, written by ITK under another name."""
    sitk.WriteImage(sitk.ReadImage(str(source)), str(path), packed)
    return path


@pytest.mark.parametrize("index", range(48))
def test_every_orientation_is_the_same_study_as_in_nifti(tmp_path, here, index):
    data = ramp(7, 6, 5).astype(np.int16)
    source = nifti(tmp_path / "v.nii", data, nifti_affine(orientations()[index]))
    expected = open_study(source)
    ending = ENDINGS[index % 4]
    path = same_study(tmp_path / f"v.{ending}", source, index % 8 > 3)
    volume = open_study(path)
    assert sniff(path) == "itk"
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, expected.array)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-5)
    np.testing.assert_allclose(volume.spacing, expected.spacing, atol=1e-6)
    assert volume.notes == ()
    assert volume.natural_plane == expected.natural_plane
    mask = marked(volume.shape)
    write_study_mask(tmp_path / "m.nii.gz", volume, mask)
    for label in (1, 2):
        points = array_points(expected, mask, label)
        np.testing.assert_allclose(nibabel_points(tmp_path / "m.nii.gz", label), points, atol=1e-4)
    # A mask in the one format lies on the study in the other, from whichever side.
    turned = nib.Nifti1Image(mask.transpose(2, 1, 0), nib.load(tmp_path / "m.nii.gz").affine)
    nib.save(turned.as_reoriented([[2, 1], [0, -1], [1, 1]]), tmp_path / "turned.nii")
    same_study(tmp_path / f"turned.{ending}", tmp_path / "turned.nii")
    assert np.array_equal(read_study_mask(tmp_path / f"turned.{ending}", expected, whole=True), mask)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_of_its_own_reads_it(tmp_path, ending):
    source = nifti(tmp_path / "v.nii", ramp().astype(np.float32) / 7, nifti_affine(orientations()[9]))
    volume = open_study(same_study(tmp_path / f"v.{ending}", source, ending in ("nrrd", "mhd")))
    assert np.array_equal(volume.array, open_study(source).array)
    assert describe(volume)["format"] == ("NRRD" if ending[0] == "n" else "MetaImage")
    assert isinstance(volume.source, ItkSource)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]
)
def test_values_of_every_kind_are_those_of_nifti(tmp_path, here, dtype):
    data = np.arange(60).reshape(3, 4, 5).astype(dtype)
    source = nib.Nifti1Image(data, np.diag([1, 2, 3, 1]), dtype=dtype)
    nib.save(source, tmp_path / "v.nii")
    for ending in ("nrrd", "mha"):
        image = sitk.GetImageFromArray(data.transpose(2, 1, 0))
        sitk.WriteImage(image, str(tmp_path / f"v.{ending}"))
        array = open_study(tmp_path / f"v.{ending}").array
        assert np.array_equal(array, data.transpose(2, 1, 0))
        assert array.dtype == open_study(tmp_path / "v.nii").array.dtype


def test_planes_colours_and_volumes_of_time(tmp_path, here):
    rng = np.random.default_rng(3)
    flat = rng.integers(0, 99, (6, 8)).astype(np.int16)
    colour = rng.integers(0, 256, (2, 6, 8, 3), np.uint8)
    times = rng.integers(0, 99, (3, 2, 6, 8)).astype(np.int16)
    for ending in ("nrrd", "mha"):
        path = tmp_path / f"flat.{ending}"
        sitk.WriteImage(sitk.GetImageFromArray(flat), str(path))
        assert np.array_equal(open_study(path).array, flat[None])
        assert open_study(path).spacing == (None, 1, 1)
        path = tmp_path / f"colour.{ending}"
        sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(path))
        if ending == "mha":  # ITK writes colours to NRRD as mere vectors
            assert np.array_equal(open_study(path).array, colour)
        path = tmp_path / f"times.{ending}"
        sitk.WriteImage(sitk.GetImageFromArray(times, isVector=False), str(path))
        volume = open_study(path)
        assert volume.notes[-1] == "The file holds 3 volumes; this is the first (volume 0)."
        assert (volume.affine is None) == (ending == "nrrd")  # ITK names no space in an NRRD of four axes
        assert np.array_equal(volume.array, times[0])
        assert np.array_equal(open_study(path, volume=2).array, times[2])
        with pytest.raises(InputError, match=r"no volume 3 in .*; there are 3"):
            open_study(path, volume=3)
    text = (tmp_path / "colour.nrrd").read_bytes().replace(b"kinds: vector", b"kinds: RGB-color")
    (tmp_path / "colour.nrrd").write_bytes(text)
    assert np.array_equal(open_study(tmp_path / "colour.nrrd").array, colour)


def nrrd(fields, data=b"\0" * 24, version=b"NRRD0005"):
    lines = {"type": "uint8", "dimension": 3, "sizes": "4 3 2", "encoding": "raw", **fields}
    return version + b"\n" + "".join(f"{k}: {v}\n" for k, v in lines.items() if v is not None).encode() + b"\n" + data


def meta(fields, data=b"\0" * 24):
    lines = {"NDims": 3, "DimSize": "4 3 2", "ElementType": "MET_UCHAR", **fields}
    lines.setdefault("ElementDataFile", "LOCAL")
    last = f"ElementDataFile = {lines.pop('ElementDataFile')}\n"
    return "".join(f"{k} = {v}\n" for k, v in lines.items() if v is not None).encode() + last.encode() + data


def test_what_the_header_does_not_say_is_unknown(tmp_path, here):
    size = "The header names no usable voxel size, so nothing is measured in mm."
    sides = "The header does not say how the patient lies, so sides are unknown."
    axes = "(1,0,0) (0,2,0) (0,0,3)"
    for data, spacing, notes in (
        (nrrd({}), None, (size, sides)),
        (nrrd({"spacings": "1 2 3"}), (3, 2, 1), (sides,)),
        (nrrd({"spacings": "1 nan 3"}), None, (size, sides)),
        (nrrd({"space": "scanner-xyz", "space directions": axes}), (3, 2, 1), (sides,)),
        (nrrd({"space": "LPS", "space directions": axes, "space units": '"cm" "cm" "cm"'}), (30, 20, 10), ()),
        (nrrd({"space": "LPS", "space directions": axes, "space units": '"ells" "ells" "ells"'}), None, (size, sides)),
        (meta({}), None, (size, sides)),
        (meta({"ElementSpacing": "1 2 3"}), (3, 2, 1), (sides,)),
        (meta({"ElementSpacing": "1 2 3", "TransformMatrix": "1 0 0 0 1 0 0 0 1"}), (3, 2, 1), ()),
    ):
        (tmp_path / "v").write_bytes(data)
        volume = open_study(tmp_path / "v")
        assert (volume.spacing, volume.notes) == (spacing, notes), data
        assert (volume.affine is None) == (sides in notes)
    # ITK's space is LPS: a step to the right of the picture is one to the patient's left.
    np.testing.assert_array_equal(volume.affine[:3, :3], [[0, 0, -1], [0, -2, 0], [3, 0, 0]])
    (tmp_path / "v").write_bytes(nrrd({"space": "RAS", "space directions": axes}))
    np.testing.assert_array_equal(open_study(tmp_path / "v").affine[:3, :3], [[0, 0, 1], [0, 2, 0], [3, 0, 0]])


def refused(path, **options):
    with pytest.raises(InputError) as error:
        open_study(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


HUGE = "100000 100000 100000"
REFUSED = {
    "bomb": (nrrd({"sizes": HUGE}), "claims 1000000000000000 voxels; the limit"),
    "bomb, packed": (nrrd({"sizes": "9999 999 9", "encoding": "gzip"}, gzip.compress(b"")), "is cut short"),
    "bomb, text": (nrrd({"sizes": "999 999 9", "encoding": "ascii"}, b"1 2"), "is cut short"),
    "bomb, meta": (meta({"DimSize": HUGE}), "claims 1000000000000000 voxels; the limit"),
    "channels": (meta({"ElementNumberOfChannels": 1 << 19, "DimSize": "999 999 9"}), "the limit is 256 million"),
    "cut": (nrrd({}, b"\0" * 23), "23 bytes cannot hold the 24"),
    "cut, meta": (meta({}, b"\0" * 23), "23 bytes cannot hold the 24"),
    "no end": (nrrd({})[:60], "makes no sense or is cut short"),
    "no end, meta": (meta({})[:40], "makes no sense or is cut short"),
    "no sizes": (nrrd({"sizes": None}), "makes no sense"),
    "negative": (nrrd({"sizes": "-4 3 2"}), "makes no sense"),
    "dimension": (nrrd({"dimension": 2}), "makes no sense"),
    "type": (nrrd({"type": "block"}), "makes no sense"),
    "bzip2": (nrrd({"encoding": "bzip2"}), "is packed as 'bzip2'"),
    "text in place of a number": (meta({"DimSize": "4 3 two"}), "makes no sense"),
    "elsewhere": (nrrd({"data file": "/etc/passwd"}), "does not lie beside it"),
    "above": (meta({"ElementDataFile": "../secret.raw"}), "does not lie beside it"),
    "on a drive": (meta({"ElementDataFile": "C:secret.raw"}), "does not lie beside it"),
    "in a folder": (nrrd({"data file": "a\\b.raw"}), "does not lie beside it"),
    "many": (meta({"ElementDataFile": "slice%03d.raw 1 9 1"}), "in several files"),
    "list": (nrrd({"data file": "LIST"}), "in several files"),
    "missing": (nrrd({"data file": "none.raw"}), "There is no file"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_headers_are_judged_before_anything_is_read(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(reading.subprocess, "run", lambda *_, **__: pytest.fail("ITK was asked"))
    data, words = REFUSED[kind]
    (tmp_path / "v").write_bytes(data)
    assert words in refused(tmp_path / "v")


def test_damaged_voxels_get_one_sentence(tmp_path):
    (tmp_path / "v.nrrd").write_bytes(nrrd({"encoding": "gzip"}, b"\x1f\x8b\x08\x00" + b"\xff" * 40))
    assert "is damaged, cut short or of a kind that ITK does not read" in refused(tmp_path / "v.nrrd")


def test_a_series_is_no_matter_of_one_file(tmp_path):
    (tmp_path / "v.mha").write_bytes(meta({}))
    assert "has no series to choose from" in refused(tmp_path / "v.mha", series=2)


def test_voxels_beside_the_header_are_read_from_there_only(tmp_path, here):
    data = ramp(2, 3, 4).astype("<u2")
    (tmp_path / "v.raw").write_bytes(b"HEAD" + data.tobytes())
    common = {"ElementType": "MET_USHORT", "ElementDataFile": "v.raw"}
    for fields in ({"HeaderSize": 4}, {"HeaderSize": -1}):
        (tmp_path / "v.mhd").write_bytes(meta({**fields, **common}, b""))
        assert np.array_equal(open_study(tmp_path / "v.mhd").array, data)
    (tmp_path / "v.nhdr").write_bytes(
        nrrd({"type": "ushort", "endian": "little", "byte skip": 4, "data file": "v.raw"}, b"")
    )
    assert np.array_equal(open_study(tmp_path / "v.nhdr").array, data)
    with pytest.raises(InputError, match="keeps its voxels in another file; save it as one file"):
        open_uploads({"v.mhd": (tmp_path / "v.mhd").read_bytes()})
    whole = nrrd({"type": "ushort", "endian": "little"}, data.tobytes())
    assert np.array_equal(open_uploads({"v.nrrd": whole}).array, data)


def test_without_its_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    (tmp_path / "v").write_bytes(nrrd({}))
    assert "needs SimpleITK; install it: pip install 'dfqsam[itk]'" in refused(tmp_path / "v")


def test_the_room_loads_without_itk():
    code = "import sys, dfqsam.imaging; print('SimpleITK' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_headers_are_read_or_refused(data):
    sound = data.draw(st.sampled_from([nrrd({"spacings": "1 2 3", "kinds": "domain domain domain"}), meta({})]))
    changed = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    changed = bytes(changed[: data.draw(st.integers(1, len(changed)))])
    message = ""
    try:
        assert read_header(changed, "v").values >= 1
    except InputError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["nrrd", "mha"])
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_never_crash(tmp_path, kind, data):
    packed = gzip.compress(bytes(range(24)), mtime=0)
    sound = nrrd({"encoding": "gzip", "spacings": "1 2 3"}, packed) if kind == "nrrd" else meta({})
    changed = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(len(changed) // 2, len(changed) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "v").write_bytes(changed)
    message = ""
    try:
        assert open_study(tmp_path / "v").array.size <= 1 << 28
    except InputError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize(("image", "mask"), [("nrrd", "mha"), ("mha", "nii"), ("mhd", "nrrd")])
def test_evaluation_takes_them_as_pairs(tmp_path, here, image, mask):
    """The same cases as of the NIfTI files that they were made of."""
    for place in ("nifti", "itk"):
        for kind in ("images", "masks"):
            (tmp_path / place / kind).mkdir(parents=True)
    affine = nifti_affine(orientations()[13])
    nifti(tmp_path / "nifti/images/p1.nii", ramp(7, 6, 5).astype(np.int16), affine)
    nifti(tmp_path / "nifti/masks/p1.nii", marked((7, 6, 5)), affine)
    same_study(tmp_path / f"itk/images/p1.{image}", tmp_path / "nifti/images/p1.nii")
    same_study(tmp_path / f"itk/masks/p1.{mask}", tmp_path / "nifti/masks/p1.nii")
    expected, found = open_data(tmp_path / "nifti"), open_data(tmp_path / "itk")
    assert [sample.key for sample in found] == [sample.key for sample in expected]
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.picture(), other.picture())
        assert np.array_equal(one.reference(), other.reference())
        assert one.spacing == pytest.approx(other.spacing)
        assert one.thickness == pytest.approx(other.thickness)
