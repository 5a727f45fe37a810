"""The folder of studies: what is in it, and no way out of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.app.studies import Entry, entries, inside
from dfqsam.errors import InputError
from tests.imaging import made


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "studies"
    (folder / "a" / "deep").mkdir(parents=True)
    (folder / "b.nii").write_bytes(b"x")
    (folder / ".hidden").write_bytes(b"x")
    made.folder(folder / "series", made.placed(np.zeros((2, 4, 5), np.uint16)))
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "s.nii").write_bytes(b"x")
    (folder / "link").symlink_to(secret)
    (folder / "a" / "link.nii").symlink_to(secret / "s.nii")
    (folder / "a" / "inner").symlink_to(folder / "series")
    (folder / "gone").symlink_to(tmp_path / "nothing")
    return folder


def test_folders_come_first_and_links_that_lead_out_are_left_out(root):
    assert entries(root) == [Entry("a", True), Entry("series", True, True), Entry("b.nii", False)]
    assert entries(root, ("a",)) == [Entry("deep", True), Entry("inner", True, True)]
    assert inside(root, ("a", "inner")) == (root / "series").resolve()


@pytest.mark.parametrize(
    "parts",
    [("..",), ("a", "..", ".."), ("../secret",), ("/etc",), ("a/../..",), ("",), (".",), ("a\0",), ("link",), ("x",)],
)
def test_there_is_no_way_out(root, parts):
    with pytest.raises(InputError, match="choose another"):
        inside(root, parts)


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["..", "a", "link", "secret", ".", "/", "series", "\\", "b.nii", "link.nii"]), max_size=5)
)
def test_whatever_is_asked_for_lies_inside(parts):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as place:
        base = Path(place, "root")
        (base / "a").mkdir(parents=True)
        (base / "link").symlink_to(place)
        try:
            found = inside(base, tuple(parts))
        except InputError:
            return
        assert found == base.resolve() or base.resolve() in found.parents
