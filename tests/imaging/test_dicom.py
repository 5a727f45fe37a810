"""DICOM as scanners write it: scaling, colours, compression, multi-frame, gaps, copies, several series, archives."""

import io
import subprocess
import sys
import zipfile

import cv2
import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dfqsam.errors import InputError
from dfqsam.imaging import (
    area_mm2,
    millilitres,
    open_study,
    open_uploads,
    study_series,
    upload_series,
    write_study_mask,
)
from dfqsam.imaging.dicom.worker import Worker
from tests.imaging.made import SECONDARY, affine_of, dataset, enhanced, folder, marked, placed, ramp, written

RGB = np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8)


def one(path, made):
    """A dataset written alone, under a name that says nothing."""
    path.write_bytes(written(made))
    return path


def test_rescaling_keeps_whole_numbers(tmp_path):
    stack = ramp()
    volume = open_study(
        folder(tmp_path / "a", placed(stack, RescaleSlope=1, RescaleIntercept=-1024, BitsStored=12, HighBit=11))
    )
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, stack.astype(int) - 1024)
    volume = open_study(folder(tmp_path / "b", placed(stack, RescaleSlope=0.5, RescaleIntercept=2)))
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, stack * 0.5 + 2)
    signed = stack.astype(np.int16) - 100
    assert np.array_equal(open_study(folder(tmp_path / "c", placed(signed))).array, signed)


def test_slices_of_different_slopes_keep_their_values(tmp_path):
    """PET scales every slice by itself."""
    series = placed(ramp(), Modality="PT")
    for k, made in enumerate(series):
        made.RescaleSlope, made.RescaleIntercept = (1, 0) if k == 0 else (0.25 * k, 0)
    values = open_study(folder(tmp_path / "s", series)).array
    assert np.array_equal(values, ramp() * np.array([1, 0.25, 0.5, 0.75, 1])[:, None, None])


def test_monochrome1_is_shown_inverted_and_stored_as_it_is(tmp_path):
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16)
    common = {"WindowCenter": 128, "WindowWidth": 256, "Modality": "DX"}
    plain = open_study(one(tmp_path / "2", dataset(picture, **common)))
    inverted = open_study(one(tmp_path / "1", dataset(picture, PhotometricInterpretation="MONOCHROME1", **common)))
    assert np.array_equal(inverted.array, plain.array)
    assert np.array_equal(plain.picture(0)[..., 0], picture)
    assert np.array_equal(inverted.picture(0), 255 - plain.picture(0))


def test_colours_come_as_rgb(tmp_path):
    assert np.array_equal(open_study(one(tmp_path / "rgb", dataset(RGB))).array, RGB[None])
    planar = dataset(RGB, PlanarConfiguration=1, PixelData=RGB.transpose(2, 0, 1).tobytes())
    volume = open_study(one(tmp_path / "planar", planar))
    assert np.array_equal(volume.array, RGB[None])
    assert volume.axes == ("slices", "rows", "columns", "colour")
    assert np.array_equal(volume.picture(0), RGB)
    ycc = cv2.cvtColor(RGB, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    ybr = open_study(one(tmp_path / "ybr", dataset(ycc, PhotometricInterpretation="YBR_FULL"))).array[0]
    assert np.abs(ybr.astype(int) - RGB).max() <= 2


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_are_resolved(tmp_path, bits):
    colours = np.random.default_rng(1).integers(0, 256, (3, 256))
    indices = np.arange(48, dtype=np.uint8).reshape(6, 8)
    made = dataset(indices, PhotometricInterpretation="PALETTE COLOR")
    for name, table in zip(("Red", "Green", "Blue"), colours, strict=True):
        values = table.astype(np.uint8) if bits == 8 else (table * 257).astype(np.uint16)
        setattr(made, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
        setattr(made, f"{name}PaletteColorLookupTableData", values.tobytes())
    volume = open_study(one(tmp_path / "p", made))
    assert np.array_equal(volume.array[0], colours.T[indices])


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=lambda uid: uid.keyword)
def test_lossless_compression_changes_nothing(tmp_path, syntax):
    stack = ramp(3, 64, 70) * 3
    series = placed(stack, RescaleSlope=1, RescaleIntercept=-10)
    for made in series:
        made.compress(syntax, generate_instance_uid=False)
    volume = open_study(folder(tmp_path / "s", series, (2, 0, 1)))
    assert np.array_equal(volume.array, stack.astype(int) - 10)
    coloured = dataset(np.tile(RGB, (12, 8, 1)))
    coloured.compress(syntax, generate_instance_uid=False)
    assert np.array_equal(open_study(one(tmp_path / "c", coloured)).array[0], np.tile(RGB, (12, 8, 1)))


def lossless_jpeg(path, made):
    """Process 14, first-order prediction, which pydicom cannot write: by GDCM."""
    gdcm = pytest.importorskip("gdcm")
    path.write_bytes(written(made))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path


def test_jpeg_lossless_and_baseline(tmp_path):
    picture = ramp(1, 40, 50)[0]
    path = lossless_jpeg(tmp_path / "lossless", placed(picture[None])[0])
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
    assert np.array_equal(open_study(path).array[0], picture)
    grey = np.add.outer(np.arange(40) * 2, np.arange(50)).astype(np.uint8)
    made = dataset(grey)
    made.PixelData = encapsulate([cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()])
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    made["PixelData"].is_undefined_length = True
    volume = open_study(one(tmp_path / "baseline", made))
    assert np.abs(volume.array[0].astype(int) - grey).max() <= 3


def test_a_cine_of_colour_jpegs_comes_as_rgb(tmp_path):
    """As ultrasound machines write it: YCbCr with halved chroma, several frames."""
    rows, columns = np.mgrid[:48, :64]
    frames = [np.stack([rows * 5, columns * 4, 255 - rows * 2 - k * 20], -1).astype(np.uint8) for k in range(3)]
    options = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422]
    made = dataset(frames[0], PhotometricInterpretation="YBR_FULL_422", NumberOfFrames=3, Modality="US")
    made.PixelData = encapsulate([cv2.imencode(".jpg", frame[..., ::-1], options)[1].tobytes() for frame in frames])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    volume = open_study(one(tmp_path / "cine", made))
    assert volume.array.shape == (3, 48, 64, 3)
    assert np.abs(volume.array.astype(int) - np.stack(frames)).max() <= 8
    assert np.array_equal(volume.picture(2), volume.array[2])


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda uid: uid.keyword)
def test_other_encodings(tmp_path, syntax):
    series = placed(ramp())
    for made in series:
        if syntax == ExplicitVRBigEndian:
            made.PixelData = np.frombuffer(made.PixelData, np.uint16).byteswap().tobytes()
        made.file_meta.TransferSyntaxUID = syntax
    volume = open_study(folder(tmp_path / "s", series))
    assert np.array_equal(volume.array, ramp())
    assert volume.array.dtype == np.uint16


def test_a_file_without_preamble_is_dicom_too(tmp_path):
    made = placed(ramp())[0]
    out = io.BytesIO()
    del made.file_meta
    made.save_as(out, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert out.getvalue()[:2] == b"\x08\x00"
    (tmp_path / "old.img").write_bytes(out.getvalue())
    assert np.array_equal(open_study(tmp_path / "old.img").array, ramp()[:1])


def test_missing_slices_are_said_and_measured_around(tmp_path):
    stack = ramp(7)
    series = [made for k, made in enumerate(placed(stack)) if k not in (2, 3)]
    volume = open_study(folder(tmp_path / "s", series))
    assert volume.notes == ("2 slices missing (steps of 2.50 mm, longer after slice 1).",)
    assert volume.positions == pytest.approx((0, 2.5, 10, 12.5, 15))
    full = np.ones(volume.shape, bool)
    # Slices 1 and 4 reach half-way into the gap: 2.5, 5, 5, 2.5, 2.5 mm.
    assert millilitres(volume, full) == pytest.approx(17.5 * 42 * 0.375 / 1000)
    one_slice = [millilitres(volume, full & (np.arange(5) == k)[:, None, None]) for k in range(5)]
    assert one_slice == pytest.approx(np.array([2.5, 5, 5, 2.5, 2.5]) * 42 * 0.375 / 1000)
    # A sagittal slice is cut by the same steps: 17.5 mm by 6 rows of 0.75 mm.
    assert area_mm2(volume, volume.view("sagittal"), np.ones(volume.view("sagittal").shape)) == pytest.approx(
        17.5 * 4.5
    )
    assert area_mm2(volume, volume.view(), full[0]) == pytest.approx(42 * 0.375)
    with pytest.raises(InputError, match="steps between slices differ"):
        write_study_mask(tmp_path / "m.nii", volume, full)
    write_study_mask(tmp_path / "m.dcm", volume, full)
    made = hd.seg.segread(tmp_path / "m.dcm")
    places = [g.PlanePositionSequence[0].ImagePositionPatient[2] for g in made.PerFrameFunctionalGroupsSequence]
    assert sorted(places) == pytest.approx([5, 7.5, 15, 17.5, 20])


def test_uneven_shifted_and_leaning_slices(tmp_path):
    def moved(name, offsets):
        series = placed(ramp())
        for made, offset in zip(series, offsets, strict=True):
            made.ImagePositionPatient = [float(a) + b for a, b in zip(made.ImagePositionPatient, offset, strict=True)]
        return open_study(folder(tmp_path / name, series))

    uneven = moved("u", [(0, 0, z) for z in (0, 0, 0.9, 0.9, 1.3)])
    assert uneven.notes == ("The steps between slices differ (2.50 to 3.40 mm).",)
    assert uneven.positions is not None
    shifted = moved("s", [(0, 0, 0), (0, 0, 0), (3, 0, 0), (0, 0, 0), (0, 0, 0)])
    assert shifted.notes == ("Slices are shifted against each other by up to 3.0 mm.",)
    leaning = moved("l", [(0, 0.5 * k, 0) for k in range(5)])
    assert len(leaning.notes) == 1
    assert "tilted gantry" in leaning.notes[0]
    assert leaning.positions is None
    sheared = affine_of("axial")
    sheared[1, 0] = -0.5
    np.testing.assert_allclose(leaning.affine, sheared, atol=1e-6)
    assert millilitres(leaning, np.ones(leaning.shape)) == pytest.approx(5 * 42 * 0.75 * 0.5 * 2.5 / 1000)
    write_study_mask(tmp_path / "m.nii", leaning, marked(leaning.shape))
    image = nib.load(tmp_path / "m.nii")
    np.testing.assert_allclose(image.affine, sheared[:, [2, 1, 0, 3]], atol=1e-5)
    assert int(image.header["qform_code"]) == 0


def test_copies_and_repetitions(tmp_path):
    series = placed(ramp())
    volume = open_study(folder(tmp_path / "c", [*series, series[2], series[0]]))
    assert volume.notes == ("2 files left out that are copies of others.",)
    assert np.array_equal(volume.array, ramp())
    again = placed(ramp()[:2] + 1000)
    for made in again:
        made.InstanceNumber = 50
    volume = open_study(folder(tmp_path / "d", [*again, *series]))
    assert volume.notes == ("2 images at a place already taken left out; the lowest number was kept.",)
    assert np.array_equal(volume.array, ramp())
    second = placed(ramp() + 500)
    for k, made in enumerate(second):
        made.InstanceNumber = 6 + k
    whole = folder(tmp_path / "t", [*second, *series])
    volume = open_study(whole)
    assert volume.notes == ("The series holds 2 images at every place; these are the first (volume 0).",)
    assert np.array_equal(volume.array, ramp())
    assert np.array_equal(open_study(whole, volume=1).array, ramp() + 500)
    with pytest.raises(InputError, match="There is no volume 2"):
        open_study(whole, volume=2)


def test_several_series_are_listed_and_one_is_chosen(tmp_path):
    first = placed(ramp())
    second = placed(ramp(2, 8, 9), "coronal", SeriesInstanceUID=UID("1.2.3.9"), SeriesNumber=7, Modality="MR")
    report = dataset(np.zeros((2, 2), np.uint8), Modality="SR", SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.88.11"))
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(report, keyword)
    place = folder(tmp_path / "s", [*second, report, *first])
    (place / "notes.txt").write_text("no DICOM")
    (place / "DICOMDIR").write_bytes(b"anything")
    with pytest.raises(InputError, match=r"2 series.*1: CT, 5 of 7 x 6; 2: MR, 2 of 9 x 8"):
        open_study(place)
    assert [(s.modality, s.images) for s in study_series(place)] == [("CT", 5), ("MR", 2)]
    assert open_study(place, series=2).modality == "MR"
    assert open_study(place, series=1).shape == (5, 6, 7)
    with pytest.raises(InputError, match="no series 3"):
        open_study(place, series=3)
    with pytest.raises(InputError, match="one file"):
        open_study(place / "file000", series=1)
    with pytest.raises(InputError, match="no picture but a DICOM object of another kind"):
        open_study(place / "file002")


def test_slices_that_make_no_stack_are_refused(tmp_path):
    mixed = [*placed(ramp())[:3], *placed(ramp(), "coronal")[:1]]
    with pytest.raises(InputError, match="different directions"):
        open_study(folder(tmp_path / "d", mixed))
    with pytest.raises(InputError, match=r"different sizes.*7 x 6, 8 x 6"):
        open_study(folder(tmp_path / "s", [*placed(ramp())[:2], *placed(ramp(3, 6, 8))[2:]]))
    with pytest.raises(InputError, match="pixel spacings"):
        open_study(folder(tmp_path / "p", [*placed(ramp())[:2], *placed(ramp(), spacing=(2.5, 2, 2))[2:]]))


def test_frames_without_places_are_a_stack_without_geometry(tmp_path):
    stack = ramp()
    made = dataset(stack[0], NumberOfFrames=5, SOPClassUID=UID(SECONDARY), Modality="US", PixelSpacing=[0.2, 0.3])
    made.PixelData = stack.tobytes()
    volume = open_study(one(tmp_path / "cine", made))
    assert np.array_equal(volume.array, stack)
    assert volume.affine is None
    assert volume.spacing == (None, 0.2, 0.3)
    assert len(volume.notes) == 2
    with pytest.raises(InputError, match="how thick"):
        millilitres(volume, np.ones(volume.shape))
    with pytest.raises(InputError, match="no axial plane"):
        volume.view("axial")
    with pytest.raises(InputError, match=r"write COCO JSON"):
        write_study_mask(tmp_path / "m.dcm", volume, marked(volume.shape))


def test_a_radiograph_is_measured_at_the_detector_and_segmented(tmp_path):
    picture = ramp(1, 20, 30)[0]
    made = dataset(
        picture, Modality="DX", ImagerPixelSpacing=[0.2, 0.1], SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.1.1")
    )
    volume = open_study(one(tmp_path / "x", made))
    assert volume.spacing == (None, 0.2, 0.1)
    assert any("at the detector" in note for note in volume.notes)
    mask = np.zeros(volume.shape, bool)
    mask[0, 3:9, 4:20] = True
    assert area_mm2(volume, volume.view(), mask[0]) == pytest.approx(6 * 16 * 0.02)
    assert volume.view().aspect == pytest.approx(2)
    write_study_mask(tmp_path / "m.dcm", volume, mask)
    assert np.array_equal(hd.seg.segread(tmp_path / "m.dcm").pixel_array, mask[0])
    write_study_mask(tmp_path / "m.nii", volume, mask)
    write_study_mask(tmp_path / "m.png", volume, mask)
    assert np.array_equal(open_study(tmp_path / "m.png").array[0, ..., 0] > 0, mask[0])


def test_an_ultrasound_is_measured_by_its_region(tmp_path):
    region = pydicom.Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3  # cm
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.01, 0.02
    made = dataset(RGB, Modality="US", SequenceOfUltrasoundRegions=[region])
    assert open_study(one(tmp_path / "us", made)).spacing == (None, 0.2, 0.1)
    other = pydicom.Dataset()
    other.PhysicalUnitsXDirection = other.PhysicalUnitsYDirection = 3
    other.PhysicalDeltaX = other.PhysicalDeltaY = 0.05
    made = dataset(RGB, Modality="US", SequenceOfUltrasoundRegions=[region, other])
    volume = open_study(one(tmp_path / "two", made))
    assert volume.spacing is None
    with pytest.raises(InputError, match="in pixels only"):
        area_mm2(volume, volume.view(), np.ones((6, 8)))


def test_an_enhanced_frame_left_out_stays_empty_in_the_segmentation(tmp_path):
    volume = open_study(one(tmp_path / "e", enhanced(ramp(), "sagittal", (4, 2, 0, 1, 3))))
    assert volume.source.frames == ((0, 2), (0, 3), (0, 1), (0, 4), (0, 0))


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
