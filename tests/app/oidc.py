"""An identity provider on this machine, as far as a login needs one: discovery, consent, tokens and keys."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "viewer", "a secret between the two"


class _Provider(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, person: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.person = person
        self.key = RSAKey.generate_key(2048, {"kid": "one"}, auto_kid=False)
        self.codes: dict[str, dict[str, str]] = {}

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: _Provider

    def log_message(self, *_: Any) -> None:
        """Nothing to say."""

    def _json(self, document: Any, status: int = 200) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        url, issuer = urlsplit(self.path), self.server.issuer
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/.well-known/openid-configuration":
            self._json(
                {
                    "issuer": issuer,
                    "authorization_endpoint": f"{issuer}/authorize",
                    "token_endpoint": f"{issuer}/token",
                    "jwks_uri": f"{issuer}/keys",
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                }
            )
        elif url.path == "/keys":
            self._json({"keys": [{**self.server.key.as_dict(private=False), "alg": "RS256", "use": "sig"}]})
        elif url.path == "/authorize":
            code = f"code-{len(self.server.codes)}"
            self.server.codes[code] = query
            back = urlencode({"code": code, "state": query["state"]})
            self.send_response(302)
            self.send_header("Location", f"{query['redirect_uri']}?{back}")
            self.end_headers()
        else:
            self._json({}, 404)

    def do_POST(self) -> None:
        sent = {n: v[0] for n, v in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()}
        basic = b64decode(self.headers.get("Authorization", "Basic ").split(" ", 1)[1]).decode()
        name, _, secret = basic.partition(":")
        asked = self.server.codes.pop(sent.get("code", ""), None)
        if asked is None or (name or sent.get("client_id"), secret or sent.get("client_secret")) != (CLIENT, SECRET):
            self._json({"error": "invalid_grant"}, 400)
            return
        now = int(time.time())
        claims = {"iss": self.server.issuer, "aud": CLIENT, "iat": now, "exp": now + 600, **self.server.person}
        claims["nonce"] = asked["nonce"]
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.server.key)
        self._json({"access_token": "x", "token_type": "Bearer", "expires_in": 600, "id_token": token})


@contextmanager
def provider(**person: str) -> Iterator[str]:
    """A provider at which this person is logged in already; yields its issuer."""
    server = _Provider(person)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
