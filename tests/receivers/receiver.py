"""A webhook receiver that trusts nothing but PyPI's standardwebhooks.

    receiver.py PORT SECRET LOG [CERTIFICATE KEY]

Prints the port that it listens on. Each message that verifies is written to LOG as one line of
JSON, with its headers, and is answered 204; any other is answered 400.
"""

import json
import os
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

port, secret, path = sys.argv[1:4]
webhook = Webhook(secret)
log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            message = webhook.verify(body, headers)
        except WebhookVerificationError as error:
            line = {"refused": str(error)}
            status = 400
        else:
            line = {"headers": headers, "message": message, "path": self.path}
            status = 204
        os.write(log, json.dumps(line).encode() + b"\n")
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(port)), Receiver)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[4:6])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
