"""What schemathesis sends as a file: pictures, and bytes that are none."""

import schemathesis
from hypothesis import strategies as st

from tests.serve.world import png

schemathesis.openapi.format("binary", st.sampled_from([png(level) for level in (0, 90, 255)]) | st.binary(max_size=200))
