"""The component's pure geometry under Node.js, and what Python puts together for the browser."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.app import component, display

NODE = shutil.which("node")
TESTS = Path(__file__).parent


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed; the geometry of the picture component is untested")
def test_the_geometry_of_the_picture_component():
    done = subprocess.run(
        [str(NODE), "--test", "geometry.test.mjs"], cwd=TESTS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"^# pass (\d+)$", done.stdout, re.MULTILINE)[0]) >= 15


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed; the component's script is not parsed")
def test_the_parts_make_one_module_that_parses():
    done = subprocess.run(
        [str(NODE), "--check", "--input-type=module"],
        input=component.script(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_component_fetches_nothing():
    text = component.script() + component.style() + component.HTML
    assert "export default function show" in text
    for word in ("http:", "https:", "fetch(", "XMLHttpRequest", "WebSocket", "@import", "url(", "import(", "import "):
        assert word not in text, word


@given(
    st.integers(1, 9).flatmap(
        lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=9)
    )
)
def test_run_lengths_say_the_mask(rows):
    mask = np.array(rows, bool)
    counts = display.runs(mask)
    assert sum(counts) == mask.size
    assert all(count > 0 for count in counts[1:])
    values = np.repeat(np.arange(len(counts)) % 2, counts)
    assert np.array_equal(values.reshape(mask.shape), mask)
