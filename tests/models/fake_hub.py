"""The part of the Hugging Face hub's HTTP interface that downloads and uploads use, on this machine."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock
from urllib.parse import unquote, urlsplit

#: The only token that the hub accepts, and whose repositories it may write.
TOKEN, OWNER = "hf_right", "org"


@dataclass
class Repository:
    """What a repository holds."""

    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0

    @property
    def sha(self) -> str:
        return hashlib.sha1(str(self.commits).encode()).hexdigest()


class FakeHub:
    """A hub in memory.

    Attributes:
        address: Where it listens.
        repositories: What it holds, by name.
        asked: Every request, as method and path.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_POST = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        path = unquote(urlsplit(asked.path).path)
        body = asked.rfile.read(int(asked.headers.get("Content-Length", 0)))
        self.asked.append(f"{asked.command} {path}")
        token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        status, content, headers = self.respond(asked.command, path, body, token)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        asked.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            asked.send_header(name, value)
        asked.end_headers()
        if asked.command != "HEAD":
            asked.wfile.write(data)

    def respond(self, method: str, path: str, body: bytes, token: str) -> tuple[int, Any, dict[str, str]]:
        """The status, the content and the headers of an answer."""
        if method == "POST" and token != TOKEN:
            return 401, {"error": "Invalid credentials"}, {"X-Error-Message": "Invalid credentials"}
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {}, {}
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        repository = self.repositories.get(name)
        if repository is None or (repository.private and token != TOKEN):
            said = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            return 404, {"error": "Repository not found"}, said
        files = repository.files
        if not path.startswith("/api/"):  # org/name/resolve/revision/file
            content = files["/".join(rest[2:])]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            return 200, content, {"ETag": etag, "X-Repo-Commit": repository.sha}
        if not rest or rest[0] == "revision":
            names = [{"rfilename": file} for file in files]
            info = {"id": name, "sha": repository.sha, "private": repository.private, "siblings": names}
            return 200, info, {}
        if rest[0] == "tree":
            oids = {file: hashlib.sha1(content).hexdigest() for file, content in files.items()}
            listed = [
                {"type": "file", "path": file, "size": len(files[file]), "oid": oids[file]} for file in files
            ]
            return 200, listed, {}
        if rest[0] == "preupload":
            wanted = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": file, "uploadMode": "regular", "shouldIgnore": False} for file in wanted]
            return 200, {"files": modes}, {}
        assert rest[0] == "commit", path
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repository.commits += 1
        address = f"{self.address}/{name}/commit/{repository.sha}"
        return 200, {"commitUrl": address, "commitOid": repository.sha}, {}

    def create(self, wanted: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        """Create a repository."""
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] != OWNER:
            message = "You don't have the rights to create a model under this namespace"
            return 403, {"error": message}, {"X-Error-Message": message}
        there = name in self.repositories
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.repositories.setdefault(name, Repository(private))
        return 409 if there else 200, {"url": f"{self.address}/{name}"}, {}


@contextmanager
def fake_hub(cache: str) -> Iterator[FakeHub]:
    """A hub that the hub's own client asks in place of the real one, with a cache of its own."""
    hub = FakeHub()
    thread = threading.Thread(target=hub.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    constants = {
        "ENDPOINT": hub.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": cache,
        "HF_TOKEN_PATH": f"{cache}/no-token",
    }
    try:
        with mock.patch.multiple("huggingface_hub.constants", **constants):
            yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()
        thread.join()
