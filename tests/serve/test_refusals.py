"""What is not done gets a status, one sentence and what to do; never a traceback, and nothing of what was sent."""

import gzip
import io
import json
import zipfile

import pytest

from dfqsam.serve.answers import chosen_format
from dfqsam.serve.problems import RequestError
from tests.evaluate.world import SIDE
from tests.imaging.test_hostile import nifti_bytes
from tests.imaging.test_limits import claims, nifti_header, zip_bomb
from tests.imaging.test_raster import bomb
from tests.serve.world import Asked, asked, form, png

SECRET = "Mrs-Example"
MAX_BODY = 300_000


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    with asked(tmp_path_factory.mktemp("serve"), rate=0, max_body=MAX_BODY, max_pixels=100_000) as one:
        yield one


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("a.dcm", claims())
    return out.getvalue()


def box(*values, **more):
    return [{"box": list(values), **more}]


IMAGES = {
    "nothing": (b"\0", 422, "is no NIfTI, DICOM, NRRD, MetaImage, PNG, JPEG or TIFF file"),
    "a text": (f"{SECRET}\n".encode() * 99, 422, "is no NIfTI, DICOM, NRRD, MetaImage, PNG, JPEG or TIFF file"),
    "cut short": (png()[:-20], 422, "damaged or cut short"),
    "a zip archive": (zipped(), 415, "Zip archives are not taken"),
    "a zip bomb": (zip_bomb(), 415, "Zip archives are not taken"),
    "NRRD": (b"NRRD0004\ntype: short\ndimension: 3\n", 415, "NRRD and MetaImage are not taken"),
    "MetaImage": (b"ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\n", 415, "NRRD and MetaImage are not taken"),
    "a gigapixel PNG": (bomb(), 422, "60000 x 60000 pixels"),
    "a PNG of too many pixels": (png(side=320), 413, "1 x 320 x 320 pixels.At most 100000 are taken here"),
    "a DICOM of too many pixels": (claims(Rows=400, Columns=400), 413, "1 x 400 x 400 pixels"),
    "447 GB in 177 bytes": (gzip.compress(nifti_header((4096, 4096, 3576))), 413, "4096 x 4096 x 3576"),
    "many volumes": (nifti_bytes(shape=(3, 2, 2, 9000)), 413, "3 x 2 x 2 x 9000 pixels"),
    "several slices": (nifti_bytes(), 422, "The image has"),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("path", ["/v1/segment", "/v1/images"])
def test_images(ask: Asked, name, path):
    image, status, words = IMAGES[name]
    prompts = None if path == "/v1/images" else box(1, 1, 3, 3)
    answer = ask("POST", path, **form(image, prompts, name=f"{SECRET}.png"))
    found = answer.json()
    assert (answer.status_code, found.keys()) == (status, {"error", "advice"}), found
    assert words in found["error"] + found["advice"]
    assert SECRET not in answer.text
    assert "\n" not in found["error"]


PROMPTS = {
    "no JSON": ("{", 400, "prompts: It is no JSON."),
    "deep JSON": ("[" * 50_000, 400, "prompts: It is no JSON."),
    "no list": ("{}", 400, "prompts: "),
    "none": ("[]", 400, "prompts: List should have at least 1 item"),
    "too many": (json.dumps(box(1, 1, 9, 9) * 65), 400, "prompts: List should have at most 64 items"),
    "a text": (json.dumps([{"box": [1, 1, 9, SECRET]}]), 400, "prompts[0].box[3]: Input should be a valid number"),
    "three numbers": (json.dumps(box(1, 1, 9)), 400, "prompts[0].box[3]: Field required"),
    "another field": (json.dumps([{SECRET: 1}]), 400, "prompts[0]: Extra inputs are not permitted"),
    "a label of nothing": (json.dumps(box(1, 1, 9, 9, label=0)), 400, "prompts[0].label: "),
    "not finite": ('[{"box": [1, 1, 1e999, 9]}]', 400, "prompts[0].box[2]: Input should be a finite number"),
    "NaN": ('[{"box": [1, 1, NaN, 9]}]', 400, "prompts"),
    "a point": (
        '[{"point_coords": [[1, 1]], "point_labels": [1]}]',
        422,
        "Toy was trained on boxes only",
    ),
    "a point too": ('[{"box": [1, 1, 9, 9], "point_coords": [[1, 1]]}]', 422, "has a point"),
    "nothing": ('[{"box": [1, 1, 9, 9]}, {"name": "x"}]', 422, "prompts[1] asks for nothing"),
    "an empty box": (json.dumps(box(9, 1, 9, 9)), 422, "prompts[0]: The box 9,1,9,9 is empty"),
    "outside": (json.dumps(box(1, 1, 65, 9)), 422, "reaches outside the picture"),
    "a name": (json.dumps(box(1, 1, 9, 9, name=f"{SECRET}\n")), 422, "A name holds what DICOM does not take"),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(ask: Asked, name):
    text, status, words = PROMPTS[name]
    answer = ask("POST", "/v1/segment", files={"image": ("p", png())}, data={"prompts": text})
    found = answer.json()
    assert (answer.status_code, found.keys()) == (status, {"error", "advice"}), found
    assert words in found["error"]
    assert SECRET not in answer.text
    key = ask("POST", "/v1/images", **form(prompts=None)).json()["id"]
    body = {"content": f'{{"prompts": {text}}}', "headers": {"Content-Type": "application/json"}}
    assert ask("POST", f"/v1/images/{key}/segment", **body).status_code == status


PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="p.png"\r\n\r\n%s\r\n'
WHOLE = PART % png() + b'--b\r\nContent-Disposition: form-data; name="prompts"\r\n\r\n[{"box":[1,1,9,9]}]\r\n--b--\r\n'
KIND = {"Content-Type": "multipart/form-data; boundary=b"}
BODIES = {
    "whole": ({"content": WHOLE, "headers": KIND}, 200, ""),
    "no body": ({}, 415, "is no multipart/form-data"),
    "JSON": ({"json": {}}, 415, "is no multipart/form-data"),
    "no boundary": ({"content": WHOLE, "headers": {"Content-Type": "multipart/form-data"}}, 400, "The form is damaged"),
    "a huge boundary": (
        {"content": WHOLE, "headers": {"Content-Type": f"multipart/form-data; boundary={'b' * 9999}"}},
        400,
        "The form is damaged",
    ),
    "another boundary": (
        {"content": WHOLE, "headers": {"Content-Type": "multipart/form-data; boundary=c"}},
        400,
        "form",
    ),
    "cut in the image": ({"content": WHOLE[:150], "headers": KIND}, 400, "The form has no image, or breaks off"),
    "cut in the prompts": ({"content": WHOLE[:-20], "headers": KIND}, 400, "The form has no prompts"),
    "image twice": ({"content": PART % b"1" + WHOLE, "headers": KIND}, 400, "an unknown field, or one twice"),
    "unknown field": (form(more="1"), 400, "an unknown field, or one twice"),
    "image as a text": ({"data": {"image": "x"}, "files": {"prompts": b"[]"}}, 400, "The field image is no file"),
    "a hundred parts": ({"content": PART % b"1" * 100 + WHOLE, "headers": KIND}, 400, "too many or too long fields"),
    "a long text": (form(prompts=None, slice=SECRET * 9999), 400, "too many or too long fields"),
    "a long header": (
        {"content": WHOLE.replace(b"form-data;", b"form-data; x=" + b"y" * 90_000, 1), "headers": KIND},
        400,
        "The form is damaged",
    ),
    "compressed": (
        {"content": gzip.compress(WHOLE), "headers": {**KIND, "Content-Encoding": "gzip"}},
        415,
        "Compressed bodies are not taken",
    ),
    "too large": (form(bytes(MAX_BODY)), 413, f"larger than {MAX_BODY} bytes"),
    "slice": (form(slice="-1"), 400, "The field slice is no whole number"),
    "slice that is not there": (form(slice="1"), 422, "There is no slice 1"),
    "plane": (form(plane=SECRET), 400, "The field plane is unknown"),
    "plane of a picture": (form(plane="axial"), 422, "does not say how the patient lies"),
    "window": (form(window=SECRET), 400, "The field window is unknown"),
    "window of no width": (form(window="1,0"), 400, "The field window is unknown"),
    "format": (form(format=SECRET), 400, "The format is unknown"),
    "SEG of a picture": (form(format="seg"), 422, "A DICOM SEG refers to DICOM images"),
    "NIfTI of a picture": (form(format="nifti"), 422, "has no size in mm"),
    "SEG of nothing": (form(png(255), box(1, 1, 3, 3), format="seg"), 422, ""),
    "Accept": ({**form(), "headers": {"Accept": "text/html"}}, 406, "Nothing that Accept names"),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(ask: Asked, name):
    options, status, words = BODIES[name]
    answer = ask("POST", "/v1/segment", **options)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert words in answer.json()["error"]
        assert SECRET not in answer.text


def test_a_body_that_does_not_say_how_long_it_is_is_cut_off_at_the_limit(ask: Asked):
    sent = 0

    async def endless():
        nonlocal sent
        yield PART[:-4]
        while True:
            sent += 1000
            yield bytes(1000)

    answer = ask("POST", "/v1/segment", content=endless(), headers=KIND)
    assert answer.status_code == 413
    assert sent <= MAX_BODY + 1000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/segment", 405),
        ("PUT", "/health", 405),
        ("POST", "/v1/images/x/segment", 404),
        ("POST", f"/v1/images/{'0' * 64}/segment", 415),
        ("DELETE", "/v1/images/..%2f..%2fetc", 404),
        ("GET", "/docs/", 404),
    ],
)
def test_paths(ask: Asked, method, path, status):
    answer = ask(method, path)
    assert answer.status_code == status
    assert answer.json().keys() == {"error", "advice"}
    if status == 405:
        assert answer.headers["allow"]


def test_masks_that_would_take_too_long_together_are_refused(ask: Asked, monkeypatch):
    monkeypatch.setattr("dfqsam.serve.work.MOST_MASKED", 3 * SIDE * SIDE)
    boxes = box(1, 1, 30, 30) * 4
    answer = ask("POST", "/v1/segment", **form(prompts=boxes))
    assert (answer.status_code, answer.json()["advice"]) == (413, "Send at most 3 prompts at a time.")
    assert ask("POST", "/v1/segment", **form(prompts=boxes[:3])).status_code == 200


def test_a_json_body_is_held_to_a_limit_of_its_own(ask: Asked):
    key = ask("POST", "/v1/images", **form(prompts=None)).json()["id"]
    body = {"content": b" " * 70_000, "headers": {"Content-Type": "application/json"}}
    assert ask("POST", f"/v1/images/{key}/segment", **body).status_code == 413


def test_a_defect_is_no_traceback_and_names_nobody(ask: Asked, monkeypatch, caplog):
    def broken(*_):
        raise ValueError(f"patient {SECRET}")

    monkeypatch.setattr("dfqsam.serve.work.make_answer", broken)
    answer = ask("POST", "/v1/segment", **form())
    assert (answer.status_code, answer.json()["error"]) == (500, "The service failed at this request.")
    assert answer.headers["x-request-id"] in caplog.text
    assert "ValueError at test_refusals.py" in caplog.text
    assert SECRET not in caplog.text


def test_accept_follows_its_weights():
    assert chosen_format(None, "") == "json"
    assert chosen_format(None, "image/png;q=0.1, application/dicom;q=0.2") == "seg"
    assert chosen_format(None, "application/*") == "json"
    assert chosen_format(None, "image/png;q=0, */*;q=x, application/gzip") == "nifti"
    for accept in ("image/png;q=0", "nonsense", ";;;,,,"):
        with pytest.raises(RequestError):
            chosen_format(None, accept)


def test_an_empty_mask_is_an_answer_but_no_dicom_seg(ask: Asked):
    tiny = box(10, 10, 12, 12)  # less four pixels on each side: nothing
    (mask,) = ask("POST", "/v1/segment", **form(prompts=tiny)).json()["masks"]
    assert (mask["area"], mask["bbox"], mask["segmentation"]["size"]) == (0, [0, 0, 0, 0], [SIDE, SIDE])
    assert ask("POST", "/v1/segment", **form(prompts=tiny, format="coco")).json()["annotations"] == []
