"""Tables in DICOM files: of the modality (what a stored value means) and of grey levels (what it looks like)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut
from pydicom.sequence import Sequence as Items

from dfqsam.errors import InputError
from dfqsam.imaging import TableWindow, Window, open_study
from tests.imaging.made import RGB, dataset, one


def table(descriptor, data, vr="US", **values):
    made = Dataset()
    made.add_new("LUTDescriptor", "US", descriptor)
    made.add_new("LUTData", vr, data)
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return Items([made])


def test_levels_by_hand():
    window = TableWindow.of(-2, [0, 1, 2, 4, 15], 4)
    # 15 levels of 17 each; below the table its first entry, beyond it its last, halves to the even neighbour.
    assert window.apply([-9, -2, -1, 0, 1, 1.4, 2, 7, np.nan, np.inf, -np.inf]).tolist() == [
        *(0, 0, 17, 34, 68, 68, 255, 255, 0, 255, 0),
    ]
    assert (window.centre, window.width) == (0, 5)
    assert TableWindow.of(0, [7], 3).apply([[1, 2]]).tolist() == [[255, 255]]


@pytest.mark.parametrize(("entries", "bits"), [([], 8), ([256], 8), ([-1], 8), ([0], 0), ([0], 17), ([[1]], 8)])
def test_tables_that_are_none_are_refused(entries, bits):
    with pytest.raises(InputError, match="table of grey levels"):
        TableWindow.of(0, entries, bits)


def test_values_far_beyond_a_table_of_eight_bits_have_its_last_level():
    assert TableWindow.of(0, [0, 1], 8).apply([255, 256, 257, 511, 65535]).tolist() == [1, 1, 1, 1, 1]
    assert TableWindow.of(7, [3, 200], 8).apply([6, 7, 8, 263, 264]).tolist() == [3, 3, 200, 200, 200]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tables_agree_with_pydicom(data):
    bits = data.draw(st.sampled_from([8, 10, 12, 16]))
    first = data.draw(st.integers(0, 300))
    entries = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=2, max_size=60))
    values = np.array(data.draw(st.lists(st.integers(0, 400), min_size=1, max_size=30)), np.uint16)
    made = dataset(values[None], VOILUTSequence=table([len(entries), first, bits], entries))
    theirs = np.rint(apply_voi_lut(values, made).astype(float) * 255 / (2**bits - 1))
    if bits == 8:  # pydicom counts places of such a table in eight bits: value 256 gets its first entry again
        theirs[values.astype(int) - first > 255] = entries[-1]
    assert np.array_equal(TableWindow.of(first, entries, bits).apply(values), theirs)


@pytest.mark.parametrize(
    ("bits", "vr", "kept"),
    [
        (12, "US", [0, 4095, 1365, 2730]),
        (12, "OW", np.array([0, 4095, 1365, 2730], "<u2").tobytes()),
        (8, "OW", bytes([0, 255, 85, 170])),
    ],
    ids=["numbers", "words", "bytes"],
)
def test_a_files_table_is_what_is_shown_first(tmp_path, bits, vr, kept):
    picture = np.array([[0, 10, 11, 12], [13, 14, 99, 11]], np.uint16)
    voi = table([4, 10, bits], kept, vr, LUTExplanation="FLAT")
    volume = open_study(one(tmp_path / "x", dataset(picture, Modality="MG", VOILUTSequence=voi)))
    assert volume.notes == ("The file does not say how the patient lies, so sides are unknown.",)
    assert np.array_equal(volume.array[0], picture)
    assert [window.name for window in volume.windows] == ["FLAT"]
    assert volume.picture(0)[..., 0].tolist() == [[0, 0, 255, 85], [170, 170, 170, 255]]
    inverted = dataset(picture, PhotometricInterpretation="MONOCHROME1", VOILUTSequence=voi)
    assert np.array_equal(open_study(one(tmp_path / "y", inverted)).picture(0), 255 - volume.picture(0))
    both = dataset(picture, VOILUTSequence=voi, WindowCenter=12, WindowWidth=4, VOILUTFunction="SIGMOID")
    assert open_study(one(tmp_path / "z", both)).windows == (volume.windows[0], Window(12, 4, "SIGMOID"))


def test_a_table_may_begin_below_zero(tmp_path):
    """Its first value is then written as an unsigned number."""
    picture = np.array([[0, 1000, 1001, 1002]], np.uint16)
    voi = table([3, 65536 - 24, 8], [0, 100, 255])
    made = dataset(picture, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=voi)
    assert open_study(one(tmp_path / "x", made)).picture(0)[0, :, 0].tolist() == [0, 0, 100, 255]


@pytest.mark.parametrize(
    "voi",
    [
        table([4, 0, 8], [0, 1, 2]),
        table([3, 0, 8], [0, 1, 256]),
        table([3, 0], [0, 1, 2]),
        table([3, 0, 99], [0, 1, 2]),
        table([0, 0, 16], [0, 1, 2]),
        Items([Dataset()]),
    ],
    ids=["too few", "too large", "no depth", "depth", "65536", "empty"],
)
def test_a_table_without_sense_is_said_and_left_out(tmp_path, voi):
    made = dataset(np.arange(6, dtype=np.uint16).reshape(2, 3), VOILUTSequence=voi, WindowCenter=3, WindowWidth=6)
    volume = open_study(one(tmp_path / "x", made))
    assert volume.windows == (Window(3, 6),)
    assert "A table of grey levels of the file makes no sense and is not used." in volume.notes


def test_colours_have_no_table(tmp_path):
    volume = open_study(one(tmp_path / "x", dataset(RGB, VOILUTSequence=table([2, 0, 8], [255, 0]))))
    assert volume.windows == ()
    assert np.array_equal(volume.picture(0), RGB)


@pytest.mark.parametrize("vr", ["US", "OW"])
def test_values_go_through_the_table_of_the_modality(tmp_path, vr):
    """Below the table lies its first entry, beyond it its last; windows are then in its units."""
    entries = [5, 300, 2000]
    data = entries if vr == "US" else np.array(entries, "<u2").tobytes()
    picture = np.array([[0, 10, 11], [12, 13, 200]], np.uint16)
    lut = table([3, 10, 16], data, vr, ModalityLUTType="OD")
    made = dataset(picture, Modality="DX", ModalityLUTSequence=lut, WindowCenter=1000, WindowWidth=2000)
    volume = open_study(one(tmp_path / "x", made))
    assert volume.array[0].tolist() == [[5, 5, 300], [2000, 2000, 2000]]
    assert volume.picture(0)[0, 2, 0] == round(((300 - 999.5) / 1999 + 0.5) * 255)
