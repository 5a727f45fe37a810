"""What comes back is the mask that the model gives, in every format, where it was drawn."""

import gzip
import io
import json

import cv2
import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_masks

from dfqsam.imaging import open_uploads, read_uploaded_mask
from dfqsam.runtime import Predictor
from tests.evaluate.world import SIDE
from tests.imaging.made import dataset, nifti_affine, orientations, placed, written
from tests.serve.world import BOX, Asked, asked, expected, form, png

# pycocotools 2.0.11 hands numpy 2 an array type of before it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    with asked(tmp_path_factory.mktemp("serve"), rate=0) as one:
        yield one


def runs(mask: dict) -> np.ndarray:
    return coco_masks.decode({"size": mask["size"], "counts": mask["counts"].encode()}).astype(bool)


def test_run_lengths_by_default(ask: Asked):
    answer = ask("POST", "/v1/segment", **form())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found = answer.json()
    assert found["bundle"] == ask.service.bundle.sha256
    assert found["size"] == [SIDE, SIDE]
    (mask,) = found["masks"]
    assert (runs(mask["segmentation"]) == expected()).all()
    # Worked out by hand: 10 + 4 to 30 - 4 and 12 + 4 to 40 - 4, both ends in.
    assert mask["bbox"] == [14, 16, 13, 21]
    assert mask["area"] == 13 * 21
    assert (mask["label"], mask["name"], mask["quality"]) == (1, "", 0.9)


def test_brightness_reaches_the_model(ask: Asked):
    dark = ask("POST", "/v1/segment", **form(png(0))).json()["masks"][0]
    assert dark["bbox"] == [10, 12, 21, 29]


@pytest.mark.parametrize(("name", "accept"), [("png", ""), ("", "image/png"), ("", "text/html,image/*;q=0.5")])
def test_png(ask: Asked, name, accept):
    fields = {"format": name} if name else {}
    answer = ask("POST", "/v1/segment", **form(**fields), headers={"Accept": accept} if accept else {})
    assert answer.headers["content-type"] == "image/png"
    found = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (found == 255 * expected()).all()


def test_png_of_several_objects_holds_their_labels_and_the_later_one_wins(ask: Asked):
    prompts = [{"box": [5, 5, 40, 40], "label": 3}, {"box": [20, 20, 60, 60], "label": 300}]
    answer = ask("POST", "/v1/segment", **form(prompts=prompts, format="png"))
    found = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    wanted = 3 * expected((5, 5, 40, 40))
    wanted[expected((20, 20, 60, 60))] = 300
    assert found.dtype == np.uint16
    assert (found == wanted).all()


def test_coco(ask: Asked):
    prompts = [{"box": BOX, "name": "liver"}, {"box": [40, 5, 60, 30], "label": 2}]
    found = ask("POST", "/v1/segment", **form(prompts=prompts, format="coco")).json()
    assert found["categories"] == [{"id": 1, "name": "liver"}, {"id": 2, "name": "label 2"}]
    assert [image["file_name"] for image in found["images"]] == ["slice-0000.png"]
    for one, box in zip(found["annotations"], (BOX, (40, 5, 60, 30)), strict=True):
        assert (runs(one["segmentation"]) == expected(box)).all()


def test_dicom_seg_refers_to_the_image_and_keeps_its_geometry(ask: Asked):
    picture = np.full((1, SIDE, SIDE), 1000, np.uint16)
    image = written(placed(picture, "oblique", WindowCenter=500, WindowWidth=400)[0])
    prompts = [{"box": BOX, "name": "liver", "label": 7}]
    answer = ask("POST", "/v1/segment", **form(image, prompts), headers={"Accept": "application/dicom"})
    assert answer.headers["content-type"] == "application/dicom"
    found, source = pydicom.dcmread(io.BytesIO(answer.content)), pydicom.dcmread(io.BytesIO(image))
    assert found.Modality == "SEG"
    assert found.SegmentSequence[0].SegmentLabel == "liver"
    referenced = found.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
    assert referenced == source.SOPInstanceUID
    volume = open_uploads({"s": image})
    assert (read_uploaded_mask("m", answer.content, volume)[0].astype(bool) == expected()).all()


@pytest.mark.parametrize("number", [0, 11, 30])
def test_nifti_lies_exactly_on_the_volume_in_every_plane(ask: Asked, number):
    data = np.full((SIDE, SIDE - 4, 12), 255, np.uint8)
    made = nib.Nifti1Image(data, nifti_affine(orientations()[number]))
    image = io.BytesIO()
    made.to_file_map({"image": nib.FileHolder(fileobj=image)})
    for plane in ("stored", "axial", "coronal", "sagittal"):
        fields = {"plane": plane, "slice": "3", "window": "127.5,255"}
        kept = ask("POST", "/v1/images", **form(image.getvalue(), None, **fields)).json()
        box = [1, 1, kept["width"] - 1, kept["height"] - 1]
        answer = ask("POST", "/v1/segment", **form(image.getvalue(), [{"box": box}], format="nifti", **fields))
        assert answer.status_code == 200, answer.text
        mask = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
        assert np.array_equal(mask.affine, made.affine)
        volume = open_uploads({"v.nii": image.getvalue()})
        view = volume.view(plane)
        predictor = Predictor(ask.service.bundle)
        predictor.set_image(volume.picture(3, view, "percentiles"))
        wanted = volume.empty_mask()
        volume.put(wanted, 3, view, predictor.predict(box=box)[0][0])
        assert (np.asarray(mask.dataobj) == wanted.transpose(2, 1, 0)).all()


def test_a_dicom_in_colour_and_a_grey_one_are_read(ask: Asked):
    colour = written(dataset(np.full((SIDE, SIDE, 3), 255, np.uint8)))
    assert ask("POST", "/v1/segment", **form(colour)).json()["masks"][0]["bbox"] == [14, 16, 13, 21]


def test_points_are_understood_where_the_bundle_says_so(tmp_path):
    with asked(tmp_path, ("box", "point")) as ask:
        prompts = [{"point_coords": [[30, 30]], "point_labels": [1]}]
        (mask,) = ask("POST", "/v1/segment", **form(prompts=prompts)).json()["masks"]
        assert mask["bbox"] == [26, 26, 9, 9]  # eight pixels each way, less four
        assert ask("GET", "/v1/bundle").json()["prompts"] == ["box", "point"]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(box=st.tuples(*[st.floats(0, SIDE / 2 - 1)] * 2, *[st.floats(SIDE / 2, SIDE)] * 2), level=st.integers(0, 255))
def test_the_service_answers_what_the_predictor_answers(ask: Asked, box, level):
    predictor = Predictor(ask.service.bundle)
    predictor.set_image(np.full((SIDE, SIDE, 3), level, np.uint8))
    masks, quality, _ = predictor.predict(box=box)
    (found,) = ask("POST", "/v1/segment", **form(png(level), [{"box": box}])).json()["masks"]
    assert (runs(found["segmentation"]) == masks[0]).all()
    assert found["quality"] == pytest.approx(float(quality[0]), abs=1e-4)


def test_prompts_may_come_as_a_file(ask: Asked):
    files = {"image": ("p", png()), "prompts": ("boxes.json", json.dumps([{"box": BOX}]).encode(), "application/json")}
    assert ask("POST", "/v1/segment", files=files).status_code == 200
