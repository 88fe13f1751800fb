#!/usr/bin/env python3
"""A custom credentials service for ringgate: a table of tokens, users and certificates over HTTP.

    SERVICE_TOKEN=change-me python3 credentials_service.py 8090

docs/operate/custom-credentials-service.md has the format. For real use, keep no passwords in the
source: look them up, hashed, where they belong.
"""

import hmac
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# (application, token): endpoint id and token id
TOKENS = {("demo", "token-1"): ("endpoint-1", "token-id-1")}
# (tenant, user name): password and credentials id
USERS = {("acme", "pump-1"): ("correct horse", "user-id-1")}
# (issuer, serial number): tenant and credentials id
CERTIFICATES = {("CN=acme,OU=tenant,O=ringgate", "4711"): ("acme", "certificate-id-1")}

BODY_BYTES_MAX = 64 * 1024
SERVICE_TOKEN = os.environ.get("SERVICE_TOKEN", "")


def same(one, other):
    return hmac.compare_digest(one.encode(), other.encode())


def answer(question):
    """The status and the body that answer a question."""
    kind = question["kind"]
    if kind == "endpoint-token":
        found = TOKENS.get((question["appName"], question["token"]))
        if found:
            return 200, {"endpointId": found[0], "tokenId": found[1]}
        return 404, {"reasonPhrase": "no such token"}
    if kind == "basic":
        password, known_as = USERS.get((question["tenantId"], question["username"]), ("", ""))
        if known_as and same(password, question["password"]):
            return 200, {"tenantId": question["tenantId"], "credentialsId": known_as}
        return 401, {"reasonPhrase": "wrong user name or password"}
    if kind == "certificate":
        found = CERTIFICATES.get((question["issuer"], question["serialNumber"]))
        if found:
            return 200, {"tenantId": found[0], "credentialsId": found[1]}
        return 401, {"reasonPhrase": "unknown certificate"}
    return 501, {"reasonPhrase": "unknown kind of question"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections
    disable_nagle_algorithm = True
    timeout = 60

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        if length > BODY_BYTES_MAX:
            self.close_connection = True
            return self.say(500, {"reasonPhrase": "the question is too long"})
        body = self.rfile.read(length)
        # 500, not 401: that the gateway is unknown says nothing of the device.
        if not same(self.headers.get("Authorization", ""), f"Bearer {SERVICE_TOKEN}"):
            return self.say(500, {"reasonPhrase": "unknown gateway"})
        try:
            return self.say(*answer(json.loads(body)))
        except (ValueError, KeyError, TypeError):
            return self.say(500, {"reasonPhrase": "the question cannot be read"})

    def say(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    if not SERVICE_TOKEN:
        sys.exit("set SERVICE_TOKEN to the token in ringgate.auth.http.bearer-token-file")
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8090
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
