"""Any bytes at all: a study is read or refused in one sentence, whatever was changed in a sound file."""

import io
import zipfile

import cv2
import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dfqsam.errors import InputError
from dfqsam.imaging import open_study, read_study_mask, sniff, write_study_mask
from tests.imaging.made import dataset, enhanced, folder, marked, nifti_affine, orientations, placed, ramp, written


def nifti_bytes(kind=nib.Nifti1Image, packed=False, shape=(4, 3, 5)):
    data = np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
    made = kind(data, nifti_affine(orientations()[11]))
    out = io.BytesIO()
    made.to_file_map({"image": nib.FileHolder(fileobj=out)})
    if not packed:
        return out.getvalue()
    import gzip

    return gzip.compress(out.getvalue(), mtime=0)


def compressed(syntax):
    made = placed(ramp(1, 64, 70))[0]
    made.compress(syntax, generate_instance_uid=False)
    return written(made)


def zipped():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for k, made in enumerate(placed(ramp(3))):
            packed.writestr(str(k), written(made))
    return out.getvalue()


def tiff_stack():
    return cv2.imencodemulti(".tiff", list(np.random.default_rng(0).integers(0, 255, (3, 9, 8, 3), np.uint8)))[
        1
    ].tobytes()


SOUND = {
    "nifti": nifti_bytes(),
    "nifti of time": nifti_bytes(shape=(3, 2, 2, 4)),
    "nifti-2": nifti_bytes(nib.Nifti2Image),
    "nifti, packed": nifti_bytes(packed=True),
    "dicom": written(placed(ramp(1), RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)[0]),
    "dicom in colour": written(dataset(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))),
    "dicom, enhanced": written(enhanced(ramp(3), "oblique")),
    "zip": zipped(),
    "tiff": tiff_stack(),
}
NATIVE_DECODERS = {
    "rle": compressed(RLELossless),
    "jpeg 2000": compressed(JPEG2000Lossless),
    "jpeg-ls": compressed(JPEGLSLossless),
}


@st.composite
def mutations(draw, sound):
    """A sound file with bytes changed, most of them where headers are, and sometimes cut or grown."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 5))):
        end = draw(st.sampled_from([min(len(data), 700), len(data)]))
        data[draw(st.integers(0, end - 1))] = draw(st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255))
    how = draw(st.sampled_from(["", "", "", "cut", "grown", "doubled"]))
    if how == "cut":
        del data[draw(st.integers(1, len(data))) :]
    elif how == "grown":
        at = draw(st.integers(0, len(data)))
        data[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data) * (2 if how == "doubled" else 1)


def survive(folder, data):
    """Read it, look at it and write a mask of it; nothing but an InputError of one line may come out."""
    path, message = folder / "study", ""
    path.write_bytes(data)
    try:
        sniff(path)
        volume = open_study(path)
        assert volume.array.size <= 1 << 28
        for k in {0, volume.shape[0] - 1}:
            assert volume.picture(k).shape == (*volume.view().shape, 3)
        if volume.affine is not None:
            volume.picture(0, volume.view("coronal"))
        mask = volume.empty_mask()
        mask[0, 0, 0] = 1
        for name in ("mask.nii", "mask.dcm"):
            write_study_mask(folder / name, volume, mask)
    except InputError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 600 + len(str(path))


@pytest.mark.parametrize("kind", SOUND)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_mutated_studies_never_crash(tmp_path, kind, data):
    survive(tmp_path, data.draw(mutations(SOUND[kind])))


@pytest.mark.parametrize("kind", NATIVE_DECODERS)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_mutated_compressed_pictures_never_crash(tmp_path, kind, data):
    whole = NATIVE_DECODERS[kind]
    at = len(whole) - 600  # where the codestream is
    survive(tmp_path, whole[:at] + data.draw(mutations(whole[at:])))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study, and masks of it as sound files."""
    place = tmp_path_factory.mktemp("masks")
    volume = open_study(folder(place / "s", placed(ramp(), "oblique")))
    sound = {}
    for name in ("m.dcm", "m.nii"):
        write_study_mask(place / name, volume, marked(volume.shape))
        sound[name] = (place / name).read_bytes()
    return volume, sound


@pytest.mark.parametrize("name", ["m.dcm", "m.nii"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_masks_never_crash(tmp_path, study, name, data):
    volume, sound = study
    message = ""
    (tmp_path / "mask").write_bytes(data.draw(mutations(sound[name])))
    try:
        assert read_study_mask(tmp_path / "mask", volume).shape == volume.shape
    except InputError as error:
        message = str(error)
    assert "\n" not in message


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=600),
    st.sampled_from([b"", b"\x5c\x01\0\0", b"\0" * 128 + b"DICM", b"PK\x03\x04", b"\x1f\x8b\x08"]),
)
def test_bytes_without_sense_are_refused(tmp_path, data, start):
    survive(tmp_path, start + data)
