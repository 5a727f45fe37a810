"""DICOM pixels as scanners write them: scaling, colours, compression, encodings."""

import io

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dfqsam.imaging import (
    open_study,
)
from tests.imaging.made import RGB, dataset, folder, one, placed, ramp, written


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
