"""An OIDC issuer on loopback, at which a test's browser chooses who it is. It checks client, redirect, PKCE and codes."""

import base64
import hashlib
import html
import json
import secrets
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm


class Issuer:
    """`people` are the claims of those who can sign in, by name."""

    def __init__(self, client, people):
        self.client, self.people = client, people
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.codes = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                path, _, query = self.path.partition("?")
                issuer.get(self, path, dict(urllib.parse.parse_qsl(query)))

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                issuer.token(self, dict(urllib.parse.parse_qsl(body)))

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def get(self, request, path, query):
        if path == "/.well-known/openid-configuration":
            answer(request, 200, {
                "issuer": self.url, "jwks_uri": f"{self.url}/keys", "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token", "token_endpoint_auth_methods_supported": ["client_secret_post"],
            })
        elif path == "/keys":
            answer(request, 200, {"keys": [{**json.loads(RSAAlgorithm.to_jwk(self.key.public_key())), "kid": "a", "alg": "RS256", "use": "sig"}]})
        elif path == "/authorize" and query.get("client_id") == self.client and query.get("code_challenge_method") == "S256":
            links = "".join(f'<p><a href="{html.escape(self.back(query, name))}">{html.escape(name)}</a></p>' for name in self.people)
            page(request, f"<!doctype html><html lang=en><title>Who are you?</title><h1>Who are you?</h1>{links}")
        else:
            answer(request, 404, {})

    def back(self, query, name):
        code = secrets.token_urlsafe(16)
        self.codes[code] = (name, query)
        return f"{query['redirect_uri']}?{urllib.parse.urlencode({'code': code, 'state': query['state']})}"

    def token(self, request, form):
        name, query = self.codes.pop(form.get("code"), (None, {}))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        if name is None or challenge != query["code_challenge"] or form.get("redirect_uri") != query["redirect_uri"]:
            answer(request, 400, {"error": "invalid_grant"})
            return
        now = int(time.time())
        claims = {"iss": self.url, "aud": self.client, "iat": now, "exp": now + 3600, "nonce": query["nonce"], **self.people[name]}
        token = jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": "a"})
        answer(request, 200, {"id_token": token, "access_token": "unused", "token_type": "Bearer", "expires_in": 3600})


def answer(request, status, body):
    send(request, status, "application/json", json.dumps(body))


def page(request, text):
    send(request, 200, "text/html; charset=utf-8", text)


def send(request, status, kind, text):
    data = text.encode()
    request.send_response(status)
    request.send_header("content-type", kind)
    request.send_header("content-length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
