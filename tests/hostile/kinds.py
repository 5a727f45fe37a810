"""Every kind of file that somebody else may hand over: sound ones, and the reader that they go through."""

import contextlib
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from onnxruntime.capi import onnxruntime_pybind11_state
from safetensors.torch import save as safetensors

from dfqsam.bundle import strict
from dfqsam.bundle.keys import make_keys, open_public
from dfqsam.bundle.manifest import Manifest
from dfqsam.bundle.preflight import check_graph
from dfqsam.bundle.sign import Signer, check_acceptance, sign_record
from dfqsam.bundle.store import Bundle, read_bundle
from dfqsam.bundle.trust import TrustStore
from dfqsam.errors import InputError
from dfqsam.evaluate import medseg
from dfqsam.imaging import open_study, read_study_mask, write_study_mask
from dfqsam.runtime.predictor import DECODER_INPUTS, DECODER_OUTPUTS
from dfqsam.runtime.selftest import SelfTest
from dfqsam.runtime.sessions import check_signature, session
from dfqsam.sam.allowed import read_list
from dfqsam.sam.checkpoint import read_state
from dfqsam.segment.table import read_prompts
from tests.evaluate import world
from tests.imaging import test_hostile as studies
from tests.imaging.made import marked, placed, ramp, written

FAILURES = tuple(
    kind for kind in vars(onnxruntime_pybind11_state).values() if isinstance(kind, type) and issubclass(kind, Exception)
)
Survive = Callable[[Path, bytes], Any]


def _picture(ending: str) -> bytes:
    values = np.random.default_rng(0).integers(0, 255, (24, 17, 3), np.uint8)
    return cv2.imencode(ending, values)[1].tobytes()


def _study(folder: Path, data: bytes) -> None:
    """Read it, look at it and write a mask of it."""
    path = folder / "study"
    path.write_bytes(data)
    volume = open_study(path)
    assert volume.array.size <= 1 << 28
    for k in {0, volume.shape[0] - 1}:
        assert volume.picture(k).shape == (*volume.view().shape, 3)
    mask = volume.empty_mask()
    mask[0, 0, 0] = 1
    for name in ("mask.nii", "mask.dcm"):
        with contextlib.suppress(InputError):  # not every study has what each format needs
            write_study_mask(folder / name, volume, mask)


def _named(name: str, read: Callable[[Path], Any]) -> Survive:
    def survive(folder: Path, data: bytes) -> None:
        (folder / name).write_bytes(data)
        read(folder / name)

    return survive


def _graph(inputs: tuple[str, ...], outputs: tuple[str, ...], run: bool) -> Survive:
    """What preflight lets through is loaded, and run where that costs what a sound graph does (shapes that a graph
    computes are bounded by the limits of its process only): it may fail, and must not take the process with it."""

    def survive(_folder: Path, data: bytes) -> None:
        check_graph(data, "a.onnx")
        loaded = session(data, threads=1)
        check_signature(loaded, inputs, outputs, "a.onnx")
        feeds = {one.name: np.zeros([n if type(n) is int else 1 for n in one.shape]) for one in loaded.get_inputs()}
        kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
        with contextlib.suppress(KeyError, *FAILURES):  # of other types, or as ONNX Runtime has it
            if run and all(value.size < 1 << 20 for value in feeds.values()):
                loaded.run(None, {one.name: feeds[one.name].astype(kinds[one.type]) for one in loaded.get_inputs()})

    return survive


def _manifest_alone(_folder: Path, data: bytes) -> None:
    """As it is, and with its own hash made to fit, so that what is behind the hash sees it too."""
    try:
        Manifest.from_json(data)
    finally:
        document = strict.parse(data)
        if type(document) is dict:
            document.pop("sha256", None)
            Manifest.from_json(Manifest.of(document).to_json())


def _gzipped(folder: Path, data: bytes) -> None:
    """What is damaged inside of a sound archive gets past its checksum."""
    _study(folder, gzip.compress(data, 1))


def _member(archive: bytes, ending: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as sound:
        return next(sound.read(name) for name in sound.namelist() if name.endswith(ending))


def _in_zip(archive: bytes, ending: str, read: Survive) -> Survive:
    """As the member of a sound zip whose name ends so."""

    def survive(folder: Path, data: bytes) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(archive)) as sound, zipfile.ZipFile(out, "w") as packed:
            for name in sound.namelist():
                packed.writestr(name, data if name.endswith(ending) else sound.read(name))
        read(folder, out.getvalue())

    return survive


class World:
    """Sound files of all kinds, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        bundle = world.toy_bundle(folder / "toy", 0, full=False)
        self.manifest = (bundle.path / "manifest.json").read_bytes()
        self.key = make_keys(folder / "key")
        self.volume = open_study(studies.folder(folder / "s", placed(ramp(), "oblique")))
        for name in ("m.dcm", "m.nii"):
            write_study_mask(folder / name, self.volume, marked(self.volume.shape))
        self.bundle: Bundle = bundle

    def _read_bundle(self, folder: Path, data: bytes) -> None:
        place = folder / "bundle"
        place.mkdir(exist_ok=True)
        for path in self.bundle.path.iterdir():
            (place / path.name).write_bytes(path.read_bytes())
        (place / "manifest.json").write_bytes(data)
        assert read_bundle(place).data == self.manifest

    def _acceptance(self, folder: Path, data: bytes) -> None:
        (folder / "acceptance.json").write_bytes(data)
        sign_record(folder / "acceptance.json", Signer(self.folder / "key"))
        check_acceptance(folder / "acceptance.json", self.bundle, TrustStore.of([self.folder / "key.pub"]))

    def _self_test(self, folder: Path, data: bytes) -> None:
        class Fake(Bundle):
            def read(self, name: str) -> bytes:
                return data

        assert SelfTest.of(Fake(folder, self._with_self_test())) is not None

    def _with_self_test(self) -> Manifest:
        document = json.loads(self.manifest)
        document.pop("sha256")
        document["files"]["selftest.npz"] = {"sha256": "0" * 64, "bytes": 1}
        return Manifest.of(document)

    def kinds(self) -> dict[str, tuple[bytes, Survive]]:
        """Name to a sound file and the reader of its kind."""
        tensors = {"image_encoder.a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
        zipped, bare = io.BytesIO(), io.BytesIO()
        torch.save({"model": tensors}, zipped)
        torch.save({"model": tensors}, bare, _use_new_zipfile_serialization=False)
        test = SelfTest(np.zeros((8, 8, 3), np.uint8), np.zeros((4, 4, 4), np.float32), np.eye(8, dtype=bool), 0.1)
        record = {"verdict": "PASS", "bundle": {"sha256": self.bundle.sha256}}
        table = b"study,slice,x0,y0,x1,y1,plane,label,propagate,first,last\na.nii,3,1,2,30,40,axial,liver,yes,1,5\n"
        rows = ",".join(medseg.COLUMNS).encode() + b"\n" + b"a,b.png,c.png,validation\n"
        masks = {f"mask, {n}": ((self.folder / n).read_bytes(), self._mask) for n in ("m.dcm", "m.nii")}
        images = {name: (data, _study) for name, data in studies.SOUND.items()}
        images |= {kind: (_picture(f".{kind}"), _study) for kind in ("png", "jpg")}
        checkpoint, of_pictures = _named("c.pth", read_state), studies.SOUND["zip"]
        inside = {
            "nifti, in gzip": (studies.SOUND["nifti"], _gzipped),
            "dicom, in zip": (_member(of_pictures, "0"), _in_zip(of_pictures, "0", _study)),
            "checkpoint, its pickle": (
                _member(zipped.getvalue(), "data.pkl"),
                _in_zip(zipped.getvalue(), "data.pkl", checkpoint),
            ),
            "self-test, its array": (
                _member(test.to_bytes(), "means.npy"),
                _in_zip(test.to_bytes(), "means.npy", self._self_test),
            ),
        }
        native = {f"dicom, {name}": (data, _study) for name, data in studies.NATIVE_DECODERS.items()}
        return (
            images
            | masks
            | inside
            | {
                "manifest": (self.manifest, _manifest_alone),
                "manifest in a bundle": (self.manifest, self._read_bundle),
                "public key": ((self.folder / "key.pub").read_bytes(), _named("k.pub", open_public)),
                "acceptance": (json.dumps(record).encode(), self._acceptance),
                "self-test": (test.to_bytes(), self._self_test),
                "prompts": (table, _named("prompts.csv", read_prompts)),
                "manifest.csv": (rows, _named("manifest.csv", lambda path: medseg.samples(path.parent))),
                "encoder": (
                    (self.bundle.path / "encoder.onnx").read_bytes(),
                    _graph(("image",), ("embedding",), run=False),
                ),
                "decoder": (
                    (self.bundle.path / "decoder.onnx").read_bytes(),
                    _graph(DECODER_INPUTS, DECODER_OUTPUTS, run=True),
                ),
                "checkpoint": (zipped.getvalue(), checkpoint),
                "checkpoint, bare": (bare.getvalue(), checkpoint),
                "safetensors": (safetensors(tensors), _named("c.safetensors", read_state)),
                "list of checkpoints": (b"# ours\n" + b"a" * 64 + b"  c.pth\n", _named("l", read_list)),
            }
            | native
        )

    def _mask(self, folder: Path, data: bytes) -> None:
        (folder / "mask").write_bytes(data)
        assert read_study_mask(folder / "mask", self.volume).shape == self.volume.shape


__all__ = ["Survive", "World", "written"]
