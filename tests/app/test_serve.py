"""What Streamlit is started with: the options in force, whatever files and the environment say."""

import json
import os
import subprocess
import sys

import pytest

from dfqsam.app import serve
from dfqsam.app.settings import Settings
from dfqsam.errors import InputError

SAFE = {
    "server.address": "127.0.0.1",
    "server.enableXsrfProtection": True,
    "server.enableCORS": True,
    "server.enableStaticServing": False,
    "server.maxUploadSize": 500,
    "server.enableAgentApi": False,
    "browser.gatherUsageStats": False,
    "browser.serverAddress": "localhost",
    "client.showErrorDetails": "none",
    "client.toolbarMode": "viewer",
    "global.minCachedMessageSize": float(1 << 40),
}

# In a home and a folder whose settings undo every one of them, and variables that do so too.
HOSTILE = """[server]
address = "0.0.0.0"
enableXsrfProtection = false
enableCORS = false
enableStaticServing = true
maxUploadSize = 100000
enableAgentApi = true
[browser]
gatherUsageStats = true
serverAddress = ""
[client]
showErrorDetails = "full"
toolbarMode = "developer"
"""


def run(code: str, tmp_path) -> str:
    for folder in (tmp_path, tmp_path / "home"):
        (folder / ".streamlit").mkdir(parents=True)
        (folder / ".streamlit" / "config.toml").write_text(HOSTILE)
    variables = {
        "HOME": str(tmp_path / "home"),
        "STREAMLIT_SERVER_ADDRESS": "0.0.0.0",
        "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "true",
        "STREAMLIT_CLIENT_SHOW_ERROR_DETAILS": "full",
        "STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION": "false",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **variables},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_options_in_force_are_the_safe_ones(tmp_path):
    code = f"""
import json, sys
from dfqsam.app.serve import prepare
from dfqsam.app.settings import Settings
prepare(Settings())
from streamlit import config
from streamlit.runtime.secrets import secrets_singleton
from starlette.formparsers import MultiPartParser
print(json.dumps([{{name: config.get_option(name) for name in {list(SAFE)}}}, MultiPartParser.spool_max_size,
    sorted({{"torch", "onnx", "matplotlib"}} & {{*sys.modules}})]))
"""
    options, spool, heavy = json.loads(run(code, tmp_path))
    assert options == SAFE
    assert spool > 500 << 20
    assert heavy == []


def test_other_origins_are_refused_without_asking_anybody(tmp_path):
    code = """
import json, sys
asked = []
sys.addaudithook(lambda event, args: asked.append(event) if event in ("socket.getaddrinfo", "urllib.Request") else None)
from dfqsam.app.serve import prepare
from dfqsam.app.settings import Settings
prepare(Settings(), name="viewer.hospital.example")
from streamlit import config
from streamlit.web.server.server_util import is_url_from_allowed_origins as allowed
places = ["http://localhost:8501", "https://viewer.hospital.example", "https://evil.example", "https://hospital.example"]
print(json.dumps([[allowed(place) for place in places], asked, config.get_option("server.allowedHosts")]))
"""
    allowed, asked, hosts = json.loads(run(code, tmp_path))
    assert allowed == [True, True, False, False]
    assert asked == []
    assert hosts == ["localhost", "127.0.0.1", "viewer.hospital.example"]


def test_starting_asks_no_service_for_an_address(tmp_path):
    code = """
import socket, sys, threading, time
asked = []
sys.addaudithook(lambda event, args: asked.append(args) if event in ("socket.getaddrinfo", "socket.connect") else None)
from dfqsam.app.serve import prepare, MAIN
from dfqsam.app.settings import Settings
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
flags = prepare(Settings(), port=port)
from streamlit.web import bootstrap
bootstrap.run(str(MAIN), False, [], flags, stop_immediately_for_testing=True)
print([str(one) for one in asked if "127.0.0.1" not in str(one) and "localhost" not in str(one)])
"""
    assert run(code, tmp_path).strip().splitlines()[-1] == "[]"


def test_uploads_of_any_allowed_size_stay_in_memory(monkeypatch, tmp_path):
    import asyncio

    from starlette.formparsers import MultiPartParser
    from starlette.requests import Request

    monkeypatch.setattr(MultiPartParser, "spool_max_size", MultiPartParser.spool_max_size)
    serve.keep_uploads_in_memory()
    body = (
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="v.nii"\r\n\r\n' + bytes(3 << 20) + b"\r\n--x--\r\n"
    )

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def rolled() -> bool:
        headers = [(b"content-type", b"multipart/form-data; boundary=x")]
        form = await Request({"type": "http", "method": "POST", "headers": headers}, receive).form()
        try:
            return form["f"].file._rolled
        finally:
            await form.close()

    assert asyncio.run(rolled()) is False


def test_a_study_folder_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="is not there; name a folder"):
        serve.prepare(Settings(studies=tmp_path / "nowhere"))


@pytest.mark.parametrize("module", ["streamlit", "pydicom"])
def test_the_command_names_the_extra_that_is_missing(module, tmp_path):
    code = f"""
import sys
sys.modules["{module}"] = None
import importlib.util
real = importlib.util.find_spec
import dfqsam.cli_app
dfqsam.cli_app.find_spec = lambda name: None if name == "{module}" else real(name)
sys.argv = ["dfqsam", "app"]
from dfqsam.cli import main
try:
    main()
except SystemExit as end:
    print(end.code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2"
    assert done.stderr == f"Error: The viewer needs {module}; install it with: pip install 'dfqsam[app]'.\n"
