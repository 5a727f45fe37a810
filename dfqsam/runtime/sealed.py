"""Files of a bundle as ONNX Runtime loads them best: by a path, but so that nobody can change them on the way.

From bytes, ONNX Runtime holds the file three times while it loads (SAM ViT-B, w8a8: 327 MB in place of 207), and the
copy in Python stays. From the path in the bundle, the file could be another one by then than the one that was verified.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dfqsam.bundle import Bundle


@contextmanager
def sealed(bundle: Bundle, name: str) -> Iterator[str | bytes]:
    """The file ``name`` of ``bundle``, verified: the path of a copy in memory that nothing can write to any more, as
    long as the block runs; where the system has no such thing (it is Linux's), its bytes.

    Raises:
        BundleError: when the bundle has no such file, or it was altered since the bundle was opened.
    """
    if sys.platform == "linux" and os.path.isdir("/proc/self/fd"):
        import fcntl

        handle = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(handle, "wb") as file:
            bundle.copy(name, file)
            file.flush()
            seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)
            yield f"/proc/self/fd/{handle}"
    else:
        yield bundle.read(name)
