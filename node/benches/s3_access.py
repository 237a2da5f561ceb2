"""What an S3 server is asked: its own access log, and a proxy before it that adds what the log leaves out."""

import http.client
import http.server
import json
import socket
import sys
import threading
import time
import urllib.parse


class Request:
    def __init__(self, method, target):
        self.target = target
        parts = urllib.parse.urlsplit(target)
        query = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
        self.bucket, _, self.key = urllib.parse.unquote(parts.path).lstrip("/").partition("/")
        # POST begins or ends an upload in parts, and costs what PUT costs.
        self.kind = "PUT" if method == "POST" else method
        if method == "POST" and "delete" in query:
            self.kind = "DELETE"
        elif method == "GET" and not self.key:
            self.kind = "LIST"
            self.key = query.get("prefix", [""])[0]
        self.up = self.down = 0
        self.id = self.status = self.time = None


class Proxy(http.server.ThreadingHTTPServer):
    """Passes requests on, unchanged, and notes them in `seen`. Bytes are those of the bodies."""

    daemon_threads = True

    def __init__(self, store):
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = urllib.parse.urlsplit(store).netloc
        self.seen = []
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        # Clients that are stopped at the end drop their connections.
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return content

    def forward(self):
        request = Request(self.command, self.path)
        content = self.body()
        request.up = len(content)
        if request.kind == "DELETE" and b"<Key>" in content:
            # The first of many stands for all: no client here mixes databases or levels.
            request.key = content.split(b"<Key>")[1].split(b"</Key>")[0].decode()
        store = http.client.HTTPConnection(self.server.store, timeout=60)
        store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect", "transfer-encoding", "content-length"):
                store.putheader(name, value)
        if content or self.command in ("PUT", "POST"):
            store.putheader("Content-Length", str(len(content)))
        store.endheaders(content)
        answer = store.getresponse()
        given = answer.read()
        store.close()
        request.down = len(given)
        request.id, request.status, request.time = answer.headers["x-amz-request-id"], answer.status, time.monotonic()
        self.server.seen.append(request)
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        if self.command == "HEAD":
            self.send_header("Content-Length", answer.headers.get("Content-Length", "0"))
        elif answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(given)))
        self.end_headers()
        self.wfile.write(given)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward


class AccessLog:
    """What the server itself says that it was asked: SeaweedFS sends its audit log as Fluentd would have it, in JSON."""

    def __init__(self, work):
        self.records = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.config = work / "access-log.json"
        port = self.listener.getsockname()[1]
        self.config.write_text(
            json.dumps({"fluent_host": "127.0.0.1", "fluent_port": port, "marshal_as_json": True})
        )
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.read, args=(connection,), daemon=True).start()

    def read(self, connection):
        text = ""
        decoder = json.JSONDecoder()
        while content := connection.recv(1 << 16):
            text += content.decode()
            while text := text.lstrip():
                try:
                    (_, _, record, *_), end = decoder.raw_decode(text)
                except ValueError:
                    break
                self.records.append(record)
                text = text[end:]

    def of(self, buckets):
        # Whether the server answers at all was asked without credentials, beside the proxy.
        return [record for record in self.records if record["bucket"] in buckets and record["requester"]]

    def confirmed(self, buckets, seen):
        """The requests that both have seen; ends the program if there are others."""
        noted = {request.id: request for request in seen}
        logged = {record["request_id"] for record in self.of(buckets)}
        unlogged = [f"{one.kind} {one.target} {one.status}" for one in seen if one.id not in logged]
        unseen = logged - set(noted)
        if unlogged or unseen:
            sys.exit(f"the access log and the proxy do not agree: without {unlogged[:5]}, beside {list(unseen)[:5]}")
        return [noted[name] for name in logged]
