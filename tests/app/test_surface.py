"""Surfaces of masks, against solids whose volume, place and distance are known."""

import base64

import numpy as np
import pytest

from dfqsam.app import surface, whole
from dfqsam.app.surface import enclosed, surfaces
from dfqsam.app.surface_scene import surface_scene
from dfqsam.errors import InputError
from dfqsam.imaging import Volume
from tests.imaging import made

SPACING = (2.5, 0.8, 0.5)
SHAPE = (24, 60, 90)
CENTRE, RADIUS = (11.6, 29.0, 44.2), 17.0  # voxels and mm


def ball(shift=(0.0, 0.0, 0.0), radius: float = RADIUS, spacing=SPACING, shape=SHAPE) -> np.ndarray:
    grids = np.indices(shape).reshape(3, -1).T
    mm = (grids - np.add(CENTRE, shift)) * spacing
    return (np.linalg.norm(mm, axis=1) < radius).reshape(shape)


def volume(directions=None) -> Volume:
    affine = None
    if directions is not None:
        affine = made.nifti_affine(directions, SPACING[::-1])[:, [2, 1, 0, 3]]
    return Volume(np.zeros(SHAPE, np.int16), SPACING, affine)


@pytest.mark.parametrize("number", [None, *range(0, 48, 7)])
def test_a_ball_has_its_volume_and_its_place_in_the_patient_and_looks_outwards(number):
    study = volume(None if number is None else made.orientations()[number])
    mesh, none = surfaces(study, ball())
    assert none is None
    assert enclosed(mesh) == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.02)
    middle = np.array(CENTRE)
    expected = (middle * SPACING)[::-1] if study.affine is None else (study.affine @ [*middle, 1])[:3]
    out = mesh.vertices - expected
    away = np.linalg.norm(out, axis=1)
    assert np.abs(away - RADIUS).max() < 1.3  # half of the thickest step
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1)
    cosines = (mesh.normals * out).sum(axis=1) / away
    assert cosines.min() > 0.6
    assert np.median(cosines) > 0.98


def test_the_surface_is_closed():
    mesh, _ = surfaces(volume(), ball())
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    there = {tuple(edge) for edge in edges.tolist()}
    assert len(there) == len(edges)
    assert all((b, a) in there for a, b in there)


def test_the_distance_to_the_other_mask_is_that_between_two_balls():
    inner, outer = ball(), ball(radius=RADIUS + 3)
    mesh, other = surfaces(volume(made.orientations()[3]), inner, outer)
    assert other.apart is None
    assert np.median(mesh.apart) == pytest.approx(3, abs=0.3)
    assert np.percentile(mesh.apart, 95) < 4.2
    same, _ = surfaces(volume(), inner, inner)
    assert np.percentile(same.apart, 99) < 0.25


def test_where_steps_between_slices_differ_the_slices_lie_where_they_are():
    positions = tuple(np.concatenate([np.arange(12) * 1.0, 11 + np.arange(1, 13) * 4.0]))
    steps = (positions[-1] - positions[0]) / (len(positions) - 1)
    affine = np.array([[0, 0, -0.5, 9], [0, -0.8, 0, 7], [steps, 0, 0, -4], [0, 0, 0, 1]])
    study = Volume(np.zeros(SHAPE, np.int16), (steps, 0.8, 0.5), affine, positions=positions)
    mask = np.zeros(SHAPE, bool)
    mask[3:20, 20:40, 30:60] = True
    mesh, _ = surfaces(study, mask)
    low, high = mesh.vertices[:, 2].min() + 4, mesh.vertices[:, 2].max() + 4
    assert low == pytest.approx((positions[2] + positions[3]) / 2, abs=0.6)
    assert high == pytest.approx((positions[19] + positions[20]) / 2, abs=2.1)


def test_a_single_voxel_and_a_single_slice_are_not_lost():
    one = np.zeros(SHAPE, bool)
    one[5, 6, 7] = True
    assert len(surfaces(volume(), one)[0].faces) >= 8
    thin = np.zeros(SHAPE, bool)
    thin[23, 0:20, 0:30] = True  # at the edge of the volume
    assert enclosed(surfaces(volume(), thin)[0]) > 0


def test_a_large_mask_is_made_coarser_and_stays_where_it_is(monkeypatch):
    fine, _ = surfaces(volume(), ball())
    monkeypatch.setattr(surface, "MOST_VOXELS", 9_000)
    monkeypatch.setattr(surface, "MOST_FACES", 1_500)
    coarse, _ = surfaces(volume(), ball())
    assert len(coarse.faces) <= 1_500 < len(fine.faces)
    assert enclosed(coarse) == pytest.approx(enclosed(fine), rel=0.06)
    assert np.abs(coarse.vertices.mean(axis=0) - fine.vertices.mean(axis=0)).max() < 0.6


def test_empty_masks_have_no_surface_and_another_shape_is_refused():
    empty = np.zeros(SHAPE, bool)
    assert surfaces(volume(), empty, empty) == (None, None)
    mine, other = surfaces(volume(), empty, ball())
    assert mine is None
    assert other is not None
    mine, other = surfaces(volume(), ball(), empty)
    assert (other, mine.apart) == (None, None)
    with pytest.raises(InputError, match="has shape"):
        surfaces(volume(), np.zeros((2, 3, 4), bool))


def test_the_scene_packs_what_the_page_unpacks():
    masks = ball().astype(np.uint8) * whole.QUANTIZED_BIT | ball((0, 3, 0)).astype(np.uint8) * whole.FULL_BIT
    scene = surface_scene(volume(made.orientations()[0]), masks, True, "4")
    assert [one["title"] for one in scene["panels"]] == ["Full precision", "Quantized", "Distance to full"]
    mesh = scene["panels"][2]["mesh"]
    vertices = np.frombuffer(base64.b64decode(mesh["vertices"]), "<i2").reshape(-1, 3) * mesh["step"]
    faces = np.frombuffer(base64.b64decode(mesh["faces"]), "<u4").reshape(-1, 3)
    assert np.linalg.norm(vertices, axis=1).max() == pytest.approx(scene["radius"], rel=0.02)
    assert faces.max() == len(vertices) - 1
    assert len(base64.b64decode(mesh["shades"])) == len(vertices)
    assert (scene["patient"], scene["unit"]) == (True, "mm")
    assert surface_scene(volume(), np.zeros(SHAPE, np.uint8), True, "4") is None
    assert len(surface_scene(volume(), ball().astype(np.uint8), False, "4")["panels"]) == 1
