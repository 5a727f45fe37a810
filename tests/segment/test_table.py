"""CSV files of boxes, good and bad."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.segment import Prompt
from dfqsam.segment.table import read_prompts

HEAD = "study,slice,x0,y0,x1,y1"


def table(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "boxes.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_rows_are_prompts_of_studies_in_their_order(tmp_path):
    text = f"""{HEAD},plane,label,propagate,first,last
a/ct.nii.gz,12,1,2,30.5,40,axial,liver,,,
b.png,,0,0,9,9,,,no,,

a/ct.nii.gz,3,5,6,7,8,CORONAL,spleen,Yes,1,9
"c, d",0,1,1,2,2,,liver,,,
"""
    found = read_prompts(table(tmp_path, text))
    assert found == {
        "a/ct.nii.gz": [
            Prompt((1, 2, 30.5, 40), 12, "axial", 2, "liver"),
            Prompt((5, 6, 7, 8), 3, "coronal", 3, "spleen", True, 1, 9),
        ],
        "b.png": [Prompt((0, 0, 9, 9), None, None, 1, "", False)],  # without a label, 1, which no name gets
        "c, d": [Prompt((1, 1, 2, 2), 0, None, 2, "liver")],
    }
    assert found["a/ct.nii.gz"][1].origin.endswith("boxes.csv, line 5")


def test_names_are_numbered_past_the_numbers_that_rows_give(tmp_path):
    rows = [f"s{i},0,1,1,2,2,{label}" for i, label in enumerate(["2", "kidney", "1", "cyst", "kidney", "700"])]
    found = read_prompts(table(tmp_path, "\n".join([f"{HEAD},label", *rows])))
    assert [(one.label, one.name) for (one,) in found.values()] == [
        (2, ""),
        (3, "kidney"),
        (1, ""),
        (4, "cyst"),
        (3, "kidney"),
        (700, ""),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_what_spreadsheets_write_is_read(tmp_path, encoding, line_end, delimiter):
    text = line_end.join([HEAD, "Säge.nii,1,2,3,4,5", "", ",,,,,"]).replace(",", delimiter)
    assert read_prompts(table(tmp_path, text, encoding)) == {"Säge.nii": [Prompt((2, 3, 4, 5), 1)]}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a,1,2,3,4", "line 3: 5 cells in place of 10"),
        ("a,1,2,3,4,5,,,,,", "line 3: 11 cells in place of 10"),
        ("a,1,2,3,x,5,,,,", "line 3: x1 is 'x'; give a number of pixels"),
        ("a,1,2,3,nan,5,,,,", "line 3: x1 is 'nan'"),
        ("a,1,2,3,inf,5,,,,", "line 3: x1 is 'inf'"),
        ("a,1,2,3,,5,,,,", "line 3: x1 is ''"),
        ("a,1.5,2,3,4,5,,,,", "line 3: slice is '1.5'; give a whole number"),
        ("a,-1,2,3,4,5,,,,", "line 3: slice is '-1'"),
        ("a,1,4,3,2,5,,,,", "line 3: the box 4,3,2,5 is empty or below 0"),
        ("a,1,-4,3,2,5,,,,", "line 3: the box -4,3,2,5 is empty or below 0"),
        (",1,2,3,4,5,,,,", "line 3: study is empty"),
        (".,1,2,3,4,5,,,,", "line 3: study is empty"),
        ("../a,1,2,3,4,5,,,,", "line 3: study is '../a'; give a path below"),
        ("/a,1,2,3,4,5,,,,", "line 3: study is '/a'; give a path below"),
        ("a,1,2,3,4,5,up,,,", "line 3: plane is 'up'; give one of stored, axial"),
        ("a,1,2,3,4,5,,0,,", "line 3: label is 0; give 1 to 65535"),
        ("a,1,2,3,4,5,,65536,,", "line 3: label is 65536"),
        ("a,1,2,3,4,5,,a\\b,,", "line 3: label is no name"),
        (f"a,1,2,3,4,5,,{'9' * 5000},,", "line 3: label is no name"),
        ("a,1,2,3,4,5,,,perhaps,", "line 3: propagate is 'perhaps'; give yes or no"),
        ("a,1,2,3,4,5,,,,x", "line 3: first is 'x'"),
        ('a,1,2,3,4,"5,,,,', "line 3: "),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path, row, words):
    path = table(tmp_path, f"{HEAD},plane,label,propagate,first\na,1,2,3,4,5,,,,\n{row}\n")
    with pytest.raises(InputError) as error:
        read_prompts(path)
    assert f"{path}, {words}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no rows"),
        (HEAD, "has no rows"),
        ("study,slice,x0,y0,x1\na,1,2,3,4", "has no column y1; its first line names study,slice,x0"),
        (f"{HEAD},colour\na,1,2,3,4,5,6", "has a column 'colour'"),
        (f"{HEAD},x0\na,1,2,3,4,5,6", "names a column twice"),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_prompts(table(tmp_path, text))


def test_files_that_are_no_text_are_refused(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        read_prompts(tmp_path / "none.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_prompts(tmp_path)
    with pytest.raises(InputError, match="no text in UTF-8"):
        read_prompts(table(tmp_path, HEAD, "utf-16"))


@given(st.binary(max_size=300) | st.text(alphabet='study,slice;x01y."\r\n -9e\0', max_size=200).map(str.encode))
def test_nothing_else_than_one_sentence_comes_of_any_file(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "boxes.csv"
    path.write_bytes((HEAD + "\n").encode() + data)
    said = ""
    try:
        assert read_prompts(path)
    except InputError as error:
        said = str(error)
    assert "\n" not in said
