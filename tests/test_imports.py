"""Who may import whom, and what an edge device must never load."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

PACKAGE = Path(__file__).parents[1] / "dfqsam"
LEAVES = {"errors", "config", "progress", ""}  # "" is the package itself, for its version
NUMPY_ONLY = ("sam.geometry", "sam.prompts", "sam.preprocessing")
MAY_IMPORT = {
    "errors": set(),
    "config": {"errors"},
    "progress": set(),
    "memory": set(),
    "processor": set(),
    "assets": set(),
    "sam": LEAVES | {"sam"},
    # Learns from drawn and real pictures and is measured on them; nothing in dfqsam imports it.
    "sam.reference": LEAVES | {"sam", "synth", "evaluate", "imaging"},
    "quant": LEAVES | {"quant", "sam.sites", "sam.prompter", "sam.device"},
    "synth": LEAVES | {"synth", "sam"},
    "export": LEAVES | {"export", "quant", "sam", "assets"},
    "mended": LEAVES | {"quant", "sam"},
    "mixed": LEAVES | {"export", "quant", "sam", "mended"},
    "experiment": LEAVES
    | {"experiment", "sam", "quant", "synth", "evaluate", "assets", "memory", "mended", "mixed", "processor"},
    "bundle": LEAVES | {"bundle"},
    "audit": {"", "errors", "judgement"},
    "runtime": LEAVES | {"runtime", "bundle", "memory", *NUMPY_ONLY},
    "bench": LEAVES | {"bench", "bundle", "runtime", "processor", "audit"},
    # Times attention as exports have it, by hand, on a machine that can export.
    "bench.products": LEAVES | {"bench", "runtime", "export.whole"},
    "imaging": LEAVES | {"imaging"},
    "segment": LEAVES | {"segment", "runtime", "imaging", "bundle", "assets", *NUMPY_ONLY},
    "evaluate": LEAVES | {"evaluate", "runtime", "imaging", "bundle", "processor"},
    "judgement": {"", "errors", "judgement"},
    "console": {"errors"},
    "cli_bench": LEAVES | {"console", "bench", "bundle"},
    "cli_inspect": LEAVES | {"console", "bundle", "runtime", "imaging", "sam", "export.census", "pipeline"},
    "cli_models": LEAVES | {"console", "sam.known"},
    "cli_policy": LEAVES | {"audit", "bundle"},
    "cli_trust": LEAVES | {"console", "audit", "bundle"},
    "cli_records": LEAVES | {"bundle"},
    "cli_audit": LEAVES | {"console", "audit", "judgement.chain"},
    "cli_checkpoint": LEAVES | {"console", "sam.convert"},
    "cli_segment": LEAVES | {"console", "segment", "runtime", "imaging", "assets"},
    "cli_evaluate": LEAVES | {"console", "evaluate", "audit", "bundle", "cli_trust"},
    "cli_judgement": LEAVES | {"console", "judgement"},
    "app": LEAVES
    | {"app", "segment", "runtime", "imaging", "evaluate", "bundle", "assets", "judgement", "sam.prompts"},
    "cli_app": LEAVES | {"app"},
    "serve": LEAVES | {"serve", "runtime", "imaging", "bundle", "audit"},
    "cli_serve": LEAVES | {"serve", "bundle", "assets"},
}
TORCH_FREE = (
    "errors",
    "config",
    "progress",
    "assets",
    "memory",
    "processor",
    "bundle",
    "audit",
    "runtime",
    "bench",
    "imaging",
    "segment",
    "cli_policy",
    "cli_trust",
    "cli_records",
    "cli_audit",
    "cli_checkpoint",
    "cli_segment",
    "evaluate",
    "judgement",
    "cli_evaluate",
    "cli_judgement",
    "app",
    "cli_app",
    "serve",
    "cli_serve",
)
STUDIES = {"nibabel", "pydicom", "highdicom", "SimpleITK"}
BY_HAND = {
    "bench/flash.py",
    "bench/operators.py",
    "bench/products.py",
    "bench/load_users.py",
    "bench/serve_load.py",
    "segment/measured.py",
}  # run by name; nothing imports it
HEAVY = {"torch", "onnx", "onnxscript", "segment_anything", "safetensors", "scipy", "matplotlib", "monai"} | STUDIES
# What a room needs an extra for; imported inside functions, so that the room loads without it.
EXTRAS = {"imaging": STUDIES, "evaluate": {"scipy", "matplotlib"}, "app": {"scipy"}, "bench": {"matplotlib"}}


# Of the viewer, only what draws the page knows Streamlit; models, masks, figures and prompts are tested without it.
STREAMLIT = {"main.py", "page.py", "open_page.py", "study_page.py", "serve.py", "login.py", "who.py"} | {
    "volume_page.py",
    "heard.py",
    "judge.py",
    "vote.py",
    "reference_page.py",
    "report_page.py",
    "review_page.py",
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in MAY_IMPORT)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_downwards_only(path):
    own = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    room = own if own in MAY_IMPORT else own.partition(".")[0]
    room = "sam.reference" if path.parent == PACKAGE / "sam" / "reference" else room
    for name in imports(path):
        if name.startswith("dfqsam"):
            assert room == "sam.reference" or not name.startswith("dfqsam.sam.reference")
            inner = name.removeprefix("dfqsam").removeprefix(".")
            inner = "" if inner == "__version__" else inner
            allowed = any(inner == a or (a and inner.startswith(f"{a}.")) for a in MAY_IMPORT[room])
            assert allowed, f"{room} may not import {name}"
        elif room in TORCH_FREE and str(path.relative_to(PACKAGE)) not in BY_HAND:
            assert name.split(".")[0] not in HEAVY - EXTRAS.get(room, set())


def test_only_the_pages_know_streamlit():
    known = {path for path in modules() if any(name.split(".")[0] == "streamlit" for name in imports(path))}
    assert known <= {PACKAGE / "app" / name for name in STREAMLIT}


def test_the_viewer_loads_without_torch():
    names = sorted(path.stem for path in (PACKAGE / "app").glob("*.py") if path.stem not in ("__init__", "main"))
    code = f"import sys, importlib; [importlib.import_module('dfqsam.app.' + name) for name in {names}]"
    assert run(code + "; print({*sys.modules} & {'torch', 'onnx', 'segment_anything', 'monai'})").strip() == "set()"


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_what_is_run_by_hand_is_imported_by_nothing(name):
    module = f"dfqsam.{name.removesuffix('.py').replace('/', '.')}"
    assert not [path for path in PACKAGE.rglob("*.py") if any(found.startswith(module) for found in imports(path))]


def test_a_bundle_needs_the_standard_library_and_two_small_packages_only():
    found = {name for path in (PACKAGE / "bundle").glob("*.py") for name in imports(path)}
    assert {name.split(".")[0] for name in found} <= {*sys.stdlib_module_names, "dfqsam", "cryptography", "packaging"}
    loaded = "import dfqsam.bundle, dfqsam.cli, sys; print({'cryptography', 'packaging', 'numpy'} & {*sys.modules})"
    assert run(loaded).strip() == "set()"  # only where there is something to verify


def test_judgements_need_the_standard_library_only():
    found = {name for path in (PACKAGE / "judgement").glob("*.py") for name in imports(path)}
    assert {name.split(".")[0] for name in found} <= {*sys.stdlib_module_names, "dfqsam"}


@pytest.mark.parametrize("name", NUMPY_ONLY)
def test_geometry_and_prompts_are_numpy_only(name):
    path = PACKAGE / f"{name.replace('.', '/')}.py"
    assert not {item.split(".")[0] for item in imports(path)} & (HEAVY | {"onnxruntime"})


def run(code: str, **environment: str) -> str:
    quiet = {
        k: v for k, v in os.environ.items() if k not in ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY")
    }
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**quiet, **environment}, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_runtime_and_the_command_line_load_without_torch():
    heavy = {"torch", "onnx", "scipy", "matplotlib", "nibabel"}
    rooms = "dfqsam.runtime, dfqsam.cli, dfqsam.segment.batch, dfqsam.evaluate.run"
    code = f"import {rooms}, sys; print({{*sys.modules}} & {heavy})"
    assert run(code).strip() == "set()"


def test_the_command_line_loads_without_the_extra_for_the_service():
    code = "import dfqsam.cli, sys; print({*sys.modules} & {'fastapi', 'starlette', 'uvicorn', 'prometheus_client'})"
    assert run(code).strip() == "set()"


def test_the_service_loads_without_torch_and_streamlit():
    names = sorted(path.stem for path in (PACKAGE / "serve").glob("*.py") if path.stem != "__init__")
    code = f"import sys, importlib; [importlib.import_module('dfqsam.serve.' + name) for name in {names}]"
    assert run(code + "; print({*sys.modules} & {'torch', 'onnx', 'streamlit', 'nibabel'})").strip() == "set()"


def test_imaging_and_segment_load_without_the_extra_for_studies():
    code = f"import dfqsam.imaging, dfqsam.segment.batch, sys; print({{*sys.modules}} & {STUDIES})"
    assert run(code).strip() == "set()"


def test_the_base_install_reads_pictures_and_names_the_extra_for_studies(tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), np.full((4, 5), 7, np.uint8))
    (tmp_path / "v.nii").write_bytes((348).to_bytes(4, "little") + bytes(340) + b"n+1\0" + bytes(200))
    (tmp_path / "d.dcm").write_bytes(bytes(128) + b"DICM" + bytes(200))
    code = f"""
import sys
sys.modules.update(dict.fromkeys({STUDIES}))  # as if they were not installed
from dfqsam.errors import InputError
from dfqsam.imaging import open_study, write_study_mask
volume = open_study(r"{tmp_path / "p.png"}")
print(volume.array.shape, volume.picture(0).max())
write_study_mask(r"{tmp_path / "m.png"}", volume, volume.array[..., 0] > 0)
for name in ("v.nii", "d.dcm"):
    try:
        open_study(rf"{tmp_path}/{{name}}")
    except InputError as error:
        print(error)
"""
    shape, nifti, dicom = run(code).splitlines()
    assert shape == "(1, 4, 5, 3) 7"
    assert nifti == "This file needs nibabel; install it with: pip install 'dfqsam[studies]'."
    assert dicom == "This file needs pydicom; install it with: pip install 'dfqsam[studies]'."


def test_telemetry_is_off_whatever_is_imported_first(tmp_path):
    """The census, which quantize imports first, uses ONNX Runtime and does not ask the runtime to switch it off."""
    code = """
import dfqsam.export.census
import onnxruntime
from dfqsam.assets import shipped_bundle
onnxruntime.InferenceSession(str(shipped_bundle() / "decoder.onnx"), providers=["CPUExecutionProvider"])
"""
    run(code, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"), MPLCONFIGDIR=os.devnull)
    assert list(tmp_path.rglob("*")) == []


def test_segmenting_leaves_no_telemetry_behind(tmp_path):
    code = """
import numpy as np
from dfqsam.assets import shipped_bundle
from dfqsam.runtime import Predictor
p = Predictor(shipped_bundle())
p.set_image(np.zeros((64, 64), np.uint8))
p.predict(box=[1, 1, 50, 50])
"""
    run(code, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert list(tmp_path.rglob("*")) == []
