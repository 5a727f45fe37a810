"""The notebooks run from top to bottom, in quick mode, and show pictures; they are kept without outputs."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = ("01_checkpoint_to_bundle", "02_choosing_a_profile", "03_accepting_a_model_on_site")


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NAMES)
def test_is_kept_without_outputs(name):
    notebook = read(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert "DFQSAM_NOTEBOOK_QUICK" in code[0].source


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_runs_and_shows_pictures(name, tmp_path, monkeypatch):
    # The kernel takes over this environment; its history and caches stay in the test's folder.
    monkeypatch.setenv("DFQSAM_NOTEBOOK_QUICK", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    assert "DFQSAM_CACHE" in os.environ
    notebook = read(name)
    client = NotebookClient(
        notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
