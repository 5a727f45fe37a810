"""NIfTI as tools write it: both versions, both byte orders, scaling, colour, time, units, missing orientation."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from dfqsam.errors import InputError
from dfqsam.imaging import millilitres, open_study, write_study_mask
from tests.imaging.made import nifti, nifti_affine, orientations, ramp


def saved(path, data, affine=None, **header):
    image = nib.Nifti1Image(data, np.eye(4) if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_versions_byte_orders_and_packing(tmp_path, kind, order, name):
    data = ramp(4, 3, 2).astype(np.int16) - 7
    image = kind(data, nifti_affine(orientations()[17]))
    swapped = kind(data.astype(f"{order}i2"), image.affine, image.header.as_byteswapped(order))
    nib.save(swapped, tmp_path / name)
    volume = open_study(tmp_path / name)
    assert np.array_equal(volume.array.transpose(2, 1, 0), data)
    assert volume.array.dtype == np.int16
    write_study_mask(tmp_path / f"m{name}", volume, volume.array > 0)
    mask = nib.load(tmp_path / f"m{name}")
    assert type(mask) is kind
    assert mask.affine.tobytes() == swapped.affine.tobytes()
    assert np.array_equal(np.asanyarray(mask.dataobj), data > 0)


def test_the_name_says_nothing(tmp_path):
    packed = nifti(tmp_path / "v.nii.gz", ramp(), np.eye(4))
    for name in ("scan.png", "scan.dcm", "scan", "scan.nii"):
        (tmp_path / name).write_bytes(packed.read_bytes())
        assert np.array_equal(open_study(tmp_path / name).array, ramp().transpose(2, 1, 0))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64])
def test_values_of_every_kind_agree_with_nibabel(tmp_path, dtype):
    data = np.arange(-60, 60).reshape(4, 5, 6)
    data = (data - data.min() if np.dtype(dtype).kind == "u" else data).astype(dtype)
    for slope, inter in ((1, 0), (1, -30), (0.5, 3), (-2, 0.25)):
        path = saved(tmp_path / "v.nii", data)
        raw = bytearray(path.read_bytes())
        raw[112:120] = np.array([slope, inter], "<f4").tobytes()
        path.write_bytes(raw)
        expected = nib.load(path).get_fdata()
        volume = open_study(path)
        np.testing.assert_allclose(volume.array.transpose(2, 1, 0), expected, rtol=1e-6)
        whole = np.dtype(dtype).kind != "f" and slope == 1 and (inter == 0 or np.dtype(dtype).itemsize <= 2)
        assert (volume.array.dtype.kind in "iu") == whole


def test_colour_becomes_rgb(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    packed = np.ascontiguousarray(rgb).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    saved(tmp_path / "v.nii", packed)
    volume = open_study(tmp_path / "v.nii")
    assert np.array_equal(volume.array.transpose(2, 1, 0, 3), rgb)
    view = volume.view("axial")
    assert volume.picture(2, view).shape == (*view.shape, 3)
    write_study_mask(tmp_path / "m.nii", volume, volume.array[..., 0] > 99)
    assert np.array_equal(np.asanyarray(nib.load(tmp_path / "m.nii").dataobj), rgb[..., 0] > 99)


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_one_volume_of_a_series_is_read(tmp_path, name):
    data = ramp(60, 4, 5).reshape(3, 4, 5, 20).astype(np.int16)
    saved(tmp_path / name, data)
    volume = open_study(tmp_path / name)
    assert volume.notes[0] == "The file holds 20 volumes; this is the first (volume 0)."
    assert np.array_equal(volume.array.transpose(2, 1, 0), data[..., 0])
    volume = open_study(tmp_path / name, volume=13)
    assert volume.notes == ()
    assert np.array_equal(volume.array.transpose(2, 1, 0), data[..., 13])
    write_study_mask(tmp_path / "m.nii", volume, volume.array > 3)
    assert nib.load(tmp_path / "m.nii").shape == (3, 4, 5)
    with pytest.raises(InputError, match="no volume 20"):
        open_study(tmp_path / name, volume=20)
    saved(tmp_path / "five.nii", np.zeros((2, 2, 2, 2, 3), np.uint8))
    with pytest.raises(InputError, match="5 axes"):
        open_study(tmp_path / "five.nii")


def test_units_become_millimetres(tmp_path):
    for unit, factor in (("meter", 1000), ("mm", 1), ("micron", 0.001)):
        image = nib.Nifti1Image(ramp(2, 2, 2).astype(np.int16), np.diag([2, 3, 4, 1]))
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / "v.nii")
        volume = open_study(tmp_path / "v.nii")
        assert volume.spacing == pytest.approx((4 * factor, 3 * factor, 2 * factor))
        assert millilitres(volume, np.ones((2, 2, 2))) == pytest.approx(8 * 24 * factor**3 / 1000)


def test_without_codes_sides_are_unknown_and_kept_unknown(tmp_path):
    image = nib.Nifti1Image(ramp().astype(np.int16), None)
    image.header["pixdim"][1:4] = [2, 3, 4]
    nib.save(image, tmp_path / "v.nii")
    volume = open_study(tmp_path / "v.nii")
    assert volume.affine is None
    assert volume.spacing == (4, 3, 2)
    assert volume.view().sides is None
    assert "sides are unknown" in volume.notes[0]
    write_study_mask(tmp_path / "m.nii", volume, volume.array > 3)
    out = nib.load(tmp_path / "m.nii")
    assert (int(out.header["sform_code"]), int(out.header["qform_code"])) == (0, 0)
    assert out.affine.tobytes() == nib.load(tmp_path / "v.nii").affine.tobytes()


def test_damage_is_one_sentence(tmp_path):
    whole = nifti(tmp_path / "v.nii.gz", ramp(20, 20, 20), np.eye(4)).read_bytes()
    plain = gzip.decompress(whole)
    flipped = bytearray(whole)
    flipped[-6] ^= 1  # the checksum
    cases = {
        "cut.nii": (plain[:2000], "cut short"),
        "head.nii": (plain[:200], "no NIfTI"),
        "cut.nii.gz": (whole[: len(whole) // 2], "damaged or cut short"),
        "sum.nii.gz": (bytes(flipped), "damaged or cut short"),
        "pair.hdr": (plain[:344] + b"ni1\0", "header of a pair"),
        "other.gz": (gzip.compress(b"hello"), "packed with gzip"),
        "nrrd.nii": (b"NRRD0004\n", "header of NRRD that makes no sense"),
        "text.nii": (b"hello", "whatever its name says"),
        "empty.nii": (b"", "is empty"),
    }
    for name, (data, words) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=words) as error:
            open_study(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="There is no file"):
        open_study(tmp_path / "none.nii")
    saved(tmp_path / "complex.nii", np.zeros((2, 2, 2), np.complex64))
    with pytest.raises(InputError, match="whole or real numbers"):
        open_study(tmp_path / "complex.nii")
