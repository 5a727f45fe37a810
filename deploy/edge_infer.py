#!/usr/bin/env python3
"""Masks from a dfqsam bundle with numpy and ONNX Runtime alone: one file, no package, no server, no network.

    python edge_infer.py BUNDLE IMAGE --box 40 60 200 180 -o mask.png --trust hospital.pub
    python edge_infer.py BUNDLE --bench --trust hospital.pub

Pillow is needed to read and write pictures, and ``cryptography`` or the program ``openssl`` to verify signatures. From
Python: ``edge = Edge("bundle", trust=["hospital.pub"]); edge.set_image(array); mask, quality = edge.predict(box)``.
Masks are those of ``dfqsam.runtime.Predictor``, bit for bit on x86: a test compares them.
"""

import argparse
import hashlib
import io
import json
import math
import os
import platform
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the library loads: later it does nothing

import numpy as np
import onnxruntime

SITE = Path("/etc/dfqsam/trust")
MAX_PIXELS, MAX_FILE, MAX_MANIFEST = 64_000_000, (1 << 31) - 1, 1 << 20
PARTS, DICE = 4, 0.95  # of the self-test: the grid of means, and the least agreement of masks
X86 = platform.machine().lower() in ("x86_64", "amd64", "i686")
DOMAINS = (b"", b"ai.onnx", b"com.microsoft")


class EdgeError(Exception):
    """What cannot be used; one sentence: what is wrong, where, and what to do."""


# --- The bundle: exactly the files of its manifest, signed by a key that is trusted -----------------------------------


def _read(path, limit):
    """A plain file of at most ``limit`` bytes; links are not followed."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or len(data := file.read(limit + 1)) > limit:
                raise EdgeError(f"{path} is no plain file of at most {limit} bytes; the bundle is damaged.")
    except OSError as error:
        raise EdgeError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    return data


def _canonical(document):
    return (json.dumps(document, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def read_bundle(folder):
    """Manifest, its bytes, its signature (None for none), and the files by name, once every bit is right."""
    folder = Path(folder)
    data = _read(folder / "manifest.json", MAX_MANIFEST)
    try:
        manifest = json.loads(data)
        rest = {key: value for key, value in manifest.items() if key != "sha256"}
        whole = manifest["sha256"] == hashlib.sha256(_canonical(rest)).hexdigest() and _canonical(manifest) == data
        whole = whole and manifest["format"] == 1 and 1 <= manifest["model"]["image_size"] <= 4096
        known = {name: (record["sha256"], record["bytes"]) for name, record in manifest["files"].items()}
        whole = whole and {"encoder.onnx", "decoder.onnx"} <= known.keys() and bool(manifest["prompts"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole, known = False, {}
    if not whole:
        raise EdgeError(f"{folder / 'manifest.json'} is damaged or of another format; copy the bundle again.")
    found = set(os.listdir(folder))
    for name in sorted((found - {"manifest.json", "manifest.sig"}) ^ known.keys()):
        raise EdgeError(
            f"{folder / name} is {'not in the manifest' if name in found else 'missing'}; copy the bundle again."
        )
    files = {}
    for name, (digest, size) in known.items():
        content = _read(folder / name, MAX_FILE)
        if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
            raise EdgeError(f"{folder / name} does not match its hash in the manifest; it was altered or damaged.")
        if name in ("encoder.onnx", "decoder.onnx", "selftest.npz"):
            files[name] = content
    signature = _read(folder / "manifest.sig", 64) if "manifest.sig" in found else None
    return manifest, data, signature, files


def _keys(trust):
    """PEM files: those given, else the site's (/etc/dfqsam/trust), else those that DFQSAM_TRUST names."""
    named = [os.environ["DFQSAM_TRUST"]] if os.environ.get("DFQSAM_TRUST") else []
    places = [Path(place) for place in trust or ([SITE] if os.path.lexists(SITE) else named)]
    keys = [key for place in places for key in (sorted(place.glob("*.pub")) if place.is_dir() else [place])]
    if places and not keys:
        raise EdgeError(f"The trust store {places[0]} holds no public key (*.pub); put one there.")
    return keys


def _verifies(key, signature, data):
    """Whether ``signature`` is that of the Ed25519 key in ``key`` over ``data``."""
    pem = _read(key, 1 << 14)
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        return _openssl_verifies(pem, signature, data)
    try:
        public = load_pem_public_key(pem)
        if not isinstance(public, Ed25519PublicKey):
            raise ValueError
        public.verify(signature, data)
    except InvalidSignature:
        return False
    except Exception as error:  # one class for each thing that a file can be
        raise EdgeError(f"{key} is no Ed25519 public key in PEM; dfqsam keygen makes one.") from error
    return True


def _openssl_verifies(pem, signature, data):
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: os.path.join(folder, name) for name in ("inkey", "in", "sigfile")}
        for path, content in zip(paths.values(), (pem, data, signature), strict=True):
            Path(path).write_bytes(content)
        options = [word for name, path in paths.items() for word in (f"-{name}", path)]
        try:
            done = subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-rawin", *options], capture_output=True)
        except OSError as error:
            raise EdgeError("Signatures cannot be verified here; install cryptography or openssl.") from error
    return done.returncode == 0


def check_signature(folder, data, signature, trust):
    """EdgeError unless a trusted key has signed the manifest."""
    keys = _keys(trust)
    if signature is None or not keys:
        what = "is not signed" if signature is None else "is signed, but no key is trusted here (--trust KEY.pub)"
        raise EdgeError(f"{folder} {what}; to run it all the same: --allow-unsigned.")
    if len(signature) != 64 or not any(_verifies(key, signature, data) for key in keys):
        raise EdgeError(f"{folder} is signed by a key that is not trusted here; ask who signed it.")


def _varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number, at, shift = number | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128 or shift > 63:
            return number, at


def _fields(data):
    """Number and content of each field of a protobuf message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 == 0:
            value, at = _varint(data, at)
        else:
            size, at = {1: (8, at), 5: (4, at)}.get(key & 7) or _varint(data, at)
            if key & 7 not in (1, 2, 5) or at + size > len(data):
                raise ValueError
            value, at = data[at : at + size], at + size
        yield key >> 3, value


def check_graph(model, name):
    """What ``dfqsam`` looks for first: no weights in other files, functions, graphs in graphs or foreign operators."""

    def none_of(message, *numbers):
        if any(number in numbers for number, _ in _fields(message)):
            raise ValueError

    try:
        none_of(model, 20, 25)  # training, functions
        for graph in (value for number, value in _fields(model) if number == 7):
            none_of(graph, 15)  # sparse weights
            for number, part in _fields(graph):
                if number == 5:  # weights
                    none_of(part, 13, 14)  # external data
                for inner, value in _fields(part) if number == 1 else ():  # a node
                    if inner == 7 and bytes(value) not in DOMAINS:
                        raise ValueError
                    if inner == 5:  # an attribute
                        none_of(value, 6, 10, 11, 22, 23)  # graphs, lists of tensors, sparse tensors
                        for tensor in (content for which, content in _fields(value) if which == 5):
                            none_of(tensor, 13, 14)
    except (ValueError, IndexError, TypeError) as error:
        raise EdgeError(f"{name} holds what no bundle of dfqsam holds, and was not loaded; ask who made it.") from error


# --- Pictures: OpenCV's resizing as numpy, rounding included ----------------------------------------------------------


def _shape(height, width, size):
    scale = size / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def _cells(before, after):
    """For each new pixel, the old ones that it covers and their shares: two arrays of taps x ``after``."""
    scale = before / after
    start = np.arange(after) * scale
    end, width = start + scale, np.minimum(scale, before - start)
    high = np.minimum(np.floor(end).astype(int), before - 1)
    low = np.minimum(np.ceil(start).astype(int), high)
    index, share = np.zeros((math.ceil(scale) + 2, after), int), np.zeros((math.ceil(scale) + 2, after), np.float32)
    taps = np.zeros(after, int)

    def add(where, pixel, part):
        columns = np.nonzero(where)[0]
        index[taps[columns], columns], share[taps[columns], columns] = pixel[columns], part[columns]
        taps[columns] += 1

    add(low - start > 1e-3, low - 1, (low - start) / width)
    for step in range(math.ceil(scale)):
        add(low + step < high, low + step, 1 / width)
    add(end - high > 1e-3, high, np.minimum(np.minimum(end - high, 1.0), width) / width)
    return index, share


def _shrink(image, height, width):
    """H x W x 3 uint8 as ``cv2.resize(..., INTER_AREA)`` has it."""
    tall, wide = image.shape[:2]
    if tall % height == 0 and wide % width == 0:
        down, across = tall // height, wide // width
        total = image.reshape(height, down, width, across, 3).sum((1, 3), dtype=np.int32)
        if (down, across) == (2, 2):
            return ((total + 2) >> 2).astype(np.uint8)
        return np.rint(total.astype(np.float32) * np.float32(1 / (down * across))).astype(np.uint8)
    rows = np.zeros((tall, width, 3), np.float32)
    for index, share in zip(*_cells(wide, width), strict=True):
        rows += image[:, index] * share[:, None]
    out = np.zeros((height, width, 3), np.float32)
    for index, share in zip(*_cells(tall, height), strict=True):
        out += rows[index] * share[:, None, None]
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def _neighbours(before, after, kind):
    """For each new pixel, the two old ones beside it and how far it is from the first towards the second (0 to 1)."""
    place = ((np.arange(after) + 0.5) * (before / after) - 0.5).astype(kind)
    first = np.floor(place).astype(int)
    return first, (place - first).astype(np.float32)


def _grow(image, height, width):
    """H x W x 3 uint8 as ``cv2.resize(..., INTER_LINEAR)`` has it: weights of 11 bits."""
    first, far = _neighbours(image.shape[1], width, np.float32)
    far[(first < 0) | (first >= image.shape[1] - 1)] = 0
    first = np.clip(first, 0, image.shape[1] - 1)
    second = np.minimum(first + 1, image.shape[1] - 1)
    near, far = (np.rint(part * np.float32(2048)).astype(np.int32)[:, None] for part in (np.float32(1) - far, far))
    rows = (image[:, first] * near + image[:, second] * far) >> 4
    first, far = _neighbours(image.shape[0], height, np.float32)
    near, far = (np.rint(p * np.float32(2048)).astype(np.int32)[:, None, None] for p in (np.float32(1) - far, far))
    first, second = (np.clip(index, 0, image.shape[0] - 1) for index in (first, first + 1))
    return ((((near * rows[first]) >> 16) + ((far * rows[second]) >> 16) + 2) >> 2).astype(np.uint8)


def _interpolate(plane, height, width):
    """H x W float32 as ``cv2.resize`` has it: on x86 Intel's a + (b - a) * f with a single rounding; where a side has
    one pixel, and on other processors, OpenCV's own sum of two products."""
    fused = X86 and 1 not in plane.shape
    for axis, after in ((1, width), (0, height)):
        before = plane.shape[axis]
        first, far = _neighbours(before, after, np.float64 if fused else np.float32)
        if fused or axis:
            far[(first < 0) | (first >= before - 1)] = 0
        a, b = (plane.take(np.clip(index, 0, before - 1), axis) for index in (first, first + 1))
        far = far if axis else far[:, None]
        if fused:
            plane = ((b - a).astype(np.float64) * far + a).astype(np.float32)
        else:
            plane = a * (np.float32(1) - far) + b * far
    return plane


def read_picture(path):
    """H x W x 3 uint8, RGB, of a PNG or JPEG of 8 bits: grey three times, transparency dropped, a JPEG upright."""
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # the limit below is ours
    data = _read(path, 1 << 29)
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
        if image.width * image.height > MAX_PIXELS:
            raise EdgeError(
                f"{path} has {image.width} x {image.height} pixels; the limit is {MAX_PIXELS // 10**6} million."
            )
        if image.mode == "CMYK" or (image.format == "PNG" and data[24] == 16):
            raise EdgeError(f"{path} has colours in CMYK or 16 bits a value; save it as grey or RGB of 8 bits.")
        upright = ImageOps.exif_transpose(image) if image.format == "JPEG" else image
        return np.array(upright.convert("RGB"))
    except EdgeError:
        raise
    except Exception as error:  # Pillow's readers raise whatever they stumble over
        raise EdgeError(f"{path} is no sound PNG or JPEG picture; export it again.") from error


# --- The model --------------------------------------------------------------------------------------------------------


class Edge:
    """A bundle made ready: ``set_image`` once a picture, ``predict`` once a prompt.

    Args:
        bundle: its folder.
        trust: public keys (PEM, Ed25519) or folders of them; None for the site's (/etc/dfqsam/trust, DFQSAM_TRUST).
        allow_unsigned: run it whoever made it.
        threads: of ONNX Runtime; None for one a core.
        self_test: see first that this device computes what it must.

    Raises:
        EdgeError: when the bundle is altered, not trusted, does not load, or when this device computes wrong results.
    """

    def __init__(self, bundle, trust=None, allow_unsigned=False, threads=None, self_test=True):
        self.manifest, data, signature, files = read_bundle(bundle)
        if not allow_unsigned:
            check_signature(bundle, data, signature, trust)
        self.sha256, self.size = self.manifest["sha256"], self.manifest["model"]["image_size"]
        self._encoder, self._decoder = (
            self._session(files, f"{part}.onnx", threads) for part in ("encoder", "decoder")
        )
        self._embedding, self._shape = None, (0, 0)
        if self_test and "selftest.npz" in files:
            self._test(files["selftest.npz"])

    @staticmethod
    def _session(files, name, threads):
        check_graph(memoryview(files[name]), name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.enable_mem_pattern = 3, False
        options.intra_op_num_threads = threads or 0
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            providers = ["CPUExecutionProvider"]
            return onnxruntime.InferenceSession(files[name], options, providers=providers, enable_fallback=0)
        except Exception as error:  # the library raises a class of its own for each kind of failure
            raise EdgeError(f"ONNX Runtime {onnxruntime.__version__} cannot load {name}; update it.") from error

    def set_image(self, image):
        """Encode a picture: H x W or H x W x 3 (RGB), uint8."""
        image = np.asarray(image)
        if (
            image.dtype != np.uint8
            or image.ndim not in (2, 3)
            or image.shape[2:] not in ((), (1,), (3,))
            or not image.size
        ):
            raise EdgeError(f"The picture has shape {image.shape} and dtype {image.dtype}; give H x W x 3, uint8.")
        rgb = np.broadcast_to(image.reshape(*image.shape[:2], -1), (*image.shape[:2], 3))
        height, width = _shape(*rgb.shape[:2], self.size)
        if (height, width) != rgb.shape[:2]:
            rgb = (_shrink if height * width < rgb.shape[0] * rgb.shape[1] else _grow)(rgb, height, width)
        (self._embedding,) = self._encoder.run(["embedding"], {"image": np.ascontiguousarray(rgb)})
        self._shape = image.shape[:2]

    def predict(self, box=None, points=None, labels=None):
        """The mask (H x W, bool) and its predicted IoU (about 0 to 1) for a box (x0, y0, x1, y1), points (N x 2, x and
        y) with labels (N, 1 inside and 0 outside), or both; in pixels of the picture."""
        low, quality = self._logits(box, points, labels)
        square = low if low.shape == (self.size, self.size) else _interpolate(low, self.size, self.size)
        height, width = _shape(*self._shape, self.size)
        return _interpolate(square[:height, :width], *self._shape) > 0, quality

    def _logits(self, box, points, labels):
        if self._embedding is None:
            raise EdgeError("No picture is set; call set_image first.")
        asked = {"box": box is not None, "point": points is not None}
        for kind in (kind for kind, present in asked.items() if present and kind not in self.manifest["prompts"]):
            raise EdgeError(f"The model was trained on {', '.join(self.manifest['prompts'])} only; a {kind} is no use.")
        if not any(asked.values()):
            raise EdgeError("There is no prompt; give a box or points.")
        tall, wide = self._shape
        try:
            places = np.asarray([] if points is None else points, np.float64).reshape(-1, 2)
            marks = np.asarray([] if points is None else labels, np.float64).reshape(-1)
            corners = np.asarray([[0, 0]] if box is None else box, np.float64).reshape(-1, 2)
        except (TypeError, ValueError) as error:
            raise EdgeError("A box has four numbers, a point two, a label one; give these.") from error
        every = np.concatenate([places, corners])
        if not (np.isfinite(every).all() and (every >= 0).all() and (every <= (wide, tall)).all()):
            raise EdgeError(f"A prompt is outside the picture, which is {wide} wide and {tall} high (pixels).")
        if box is not None and (len(corners) != 2 or not (corners[0] < corners[1]).all()):
            raise EdgeError("The box is empty; give x0 y0 x1 y1 with x0 < x1 and y0 < y1.")
        if len(marks) != len(places) or not np.isin(marks, (0, 1)).all() or (points is not None and not len(places)):
            raise EdgeError("Each point needs a label; give 1 for inside the object, 0 for outside.")
        height, width = _shape(tall, wide, self.size)
        coords = (every * (width / wide, height / tall)).astype(np.float32)
        marks = np.concatenate([marks, [-1] if box is None else [2, 3]]).astype(np.float32)  # as SAM numbers them
        side = 4 * self._embedding.shape[-1]
        feeds = {"embedding": self._embedding, "point_coords": coords[None], "point_labels": marks[None]}
        feeds |= {"mask_input": np.zeros((1, 1, side, side), np.float32), "has_mask_input": np.zeros(1, np.float32)}
        logits, quality = self._decoder.run(["low_res_logits", "iou_predictions"], feeds)
        return logits[0, 0], float(quality[0, 0])

    def _test(self, content):
        """The picture of the bundle's self-test must give the means and the mask that it gave where it was made."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                picture, expected, mask, limit = (file[name] for name in ("picture", "means", "mask", "limit"))
            if (picture.ndim, expected.shape[1:], mask.dtype, limit.dtype) != (3, (PARTS, PARTS), bool, float):
                raise ValueError
        except Exception as error:  # numpy, zipfile and zlib each raise classes of their own
            raise EdgeError("selftest.npz is no self-test; the bundle is damaged.") from error
        self.set_image(picture)
        height, width = picture.shape[:2]
        if "box" in self.manifest["prompts"]:
            low, _ = self._logits([width / 4, height / 4, 3 * width / 4, 3 * height / 4], None, None)
        else:
            low, _ = self._logits(None, [[width / 2, height / 2]], [1])
        rows = [part.mean(1, dtype=np.float64) for part in np.array_split(self._embedding[0], PARTS, axis=1)]
        parts = [part.mean(1) for row in rows for part in np.array_split(row, PARTS, axis=1)]
        means = np.stack(parts, 1).reshape(-1, PARTS, PARTS)
        error = np.linalg.norm(means - expected) / max(float(np.linalg.norm(expected)), 1e-12)
        if means.shape != expected.shape or low.shape != mask.shape:
            raise EdgeError("selftest.npz is of another model; the bundle is damaged.")
        both = int((low > 0).sum() + mask.sum())
        dice = 2 * ((low > 0) & mask).sum() / both if both else 1.0
        if not (error <= limit and dice >= DICE):
            raise EdgeError(
                f"This device computes wrong results: its self-test differs by {error:.3f} (at most {limit:.3f}), its "
                f"mask agrees at Dice {dice:.3f} (at least {DICE}); do not use the bundle here."
            )
        self._embedding = None


def bench(edge, runs):
    """Milliseconds of encoder and decoder (with resizing), 50th and 95th percentile, and the peak memory in MB."""
    picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    seconds = {"image": [], "prompt": []}
    box = [128, 128, 384, 384] if "box" in edge.manifest["prompts"] else None
    for _ in range(runs + 1):  # the first is not counted
        for part, call in (
            ("image", lambda: edge.set_image(picture)),
            ("prompt", lambda: edge.predict(box, *(([[256, 256]], [1]) if box is None else ()))),
        ):
            start = time.perf_counter()
            call()
            seconds[part].append(1000 * (time.perf_counter() - start))
    found = {f"{k}_p{p}_ms": round(float(np.percentile(v[1:], p)), 2) for k, v in seconds.items() for p in (50, 95)}
    try:
        import resource

        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        found["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    except ImportError:  # Windows
        pass
    return found | {"runs": runs, "onnxruntime": onnxruntime.__version__, "bundle": edge.sha256}


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("image", nargs="?", help="PNG or JPEG")
    parser.add_argument("--box", nargs=4, type=float, metavar=("X0", "Y0", "X1", "Y1"))
    parser.add_argument("--point", nargs=3, type=float, action="append", metavar=("X", "Y", "LABEL"))
    parser.add_argument("-o", "--output", help="mask, PNG of 0 and 255; IMAGE.mask.png where none is given")
    parser.add_argument("--trust", action="append", metavar="KEY.pub", help="key or folder of keys; may be repeated")
    parser.add_argument("--allow-unsigned", action="store_true", help="run the bundle whoever made it")
    parser.add_argument("--skip-self-test", action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--bench", nargs="?", type=int, const=20, metavar="RUNS", help="measure this device")
    asked = parser.parse_args(words)
    try:
        if asked.image is None and asked.bench is None:
            raise EdgeError("There is no picture; give one, or --bench.")
        if asked.allow_unsigned:
            print(f"Warning: {asked.bundle} is run whoever made it (--allow-unsigned).", file=sys.stderr)
        edge = Edge(asked.bundle, asked.trust, asked.allow_unsigned, asked.threads, not asked.skip_self_test)
        if asked.bench is not None:
            print(json.dumps(bench(edge, max(1, asked.bench))))
            return 0
        edge.set_image(read_picture(asked.image))
        points = [point[:2] for point in asked.point] if asked.point else None
        mask, quality = edge.predict(asked.box, points, [point[2] for point in asked.point or ()])
        output = asked.output or f"{os.path.splitext(asked.image)[0]}.mask.png"
        _write(output, mask)
    except EdgeError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"mask": output, "pixels": int(mask.sum()), "predicted_iou": quality, "bundle": edge.sha256}))
    return 0


def _write(path, mask):
    from PIL import Image

    try:
        Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(path, format="PNG")
    except OSError as error:
        raise EdgeError(f"{path} cannot be written ({error.strerror or error}).") from error


if __name__ == "__main__":
    sys.exit(main())
