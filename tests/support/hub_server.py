"""A small Hugging Face Hub on loopback: repositories with commits, branches, large files behind a redirect, and faults.

It speaks as much of the Hub's protocol as `huggingface_hub` needs to create, push to and pull from a model repository.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

try:
    from huggingface_hub.utils import close_session
except ImportError:  # the client before 1.0 uses requests
    from huggingface_hub.utils import reset_sessions as close_session

LARGE = (".safetensors", ".bin")  # endings of files that the Hub keeps in large-file storage


@dataclass
class Repo:
    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        former = self.branches.get(branch)
        oid = hashlib.sha1(f"{former} {len(self.commits)} {message}".encode()).hexdigest()
        self.commits[oid] = {**self.commits.get(former or "", {}), **files}
        self.branches[branch] = oid
        self.messages.append(message)
        return oid

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class HubServer:
    """Serves `http://127.0.0.1:port`. A fault is asked for each request, in order, and may answer in its place."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.storage_url = f"http://localhost:{port}"  # another host: the token must not go there
        self.repos: dict[str, Repo] = {}
        self.storage: dict[str, bytes] = {}
        self.writers = {"writer"}
        self.readers = {"writer", "reader"}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: list[Callable[[Any], bool]] = []

    def start(self) -> None:
        close_session()  # before 1.0, the client of a test that was offline stays offline
        handler = type("Handler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            close_session()  # a connection that is kept alive would go on being served
        self.server = None

    def fail(self, times: int, status: int = 503, where: str = "", code: str = "") -> None:
        """Answers the next requests whose path contains `where` with an error."""
        left = [times]

        def fault(handler: Handler) -> bool:
            if left[0] == 0 or where not in handler.path:
                return False
            left[0] -= 1
            handler.answer(status, b"no such luck", {"X-Error-Code": code} if code else None)
            return True

        self.faults.append(fault)

    def cut(self, times: int, after: int) -> None:
        """Cut the connection while a large file is downloaded, after this many of its bytes."""
        left = [times]

        def fault(handler: Handler) -> bool:
            if left[0] == 0 or handler.command != "GET" or not handler.path.startswith("/storage/"):
                return False
            left[0] -= 1
            content = self.storage[handler.path.split("/")[-1]]
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content[:after])
            handler.close_connection = True
            return True

        self.faults.append(fault)

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        repo = self.repos[repo_id]
        return repo.commits[repo.resolve(revision)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.respond()

    do_HEAD = do_POST = do_PUT = do_GET

    def respond(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append((self.command, self.path, dict(self.headers.items())))
        if any(fault(self) for fault in self.hub.faults):
            return
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        for method, pattern, action in ROUTES:
            match = re.fullmatch(pattern, parts.path)
            if match and self.command in method:
                action(self, *(unquote(group) if group else group for group in match.groups()))
                return
        self.answer(404, b"no such page")

    # answers

    def answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), **(headers or {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, value: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def error(self, status: int, code: str, message: str = "", **headers: str) -> None:
        self.answer(status, b"", {"X-Error-Code": code, "X-Error-Message": message or code, **headers})

    # who may do what

    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def may_write(self) -> bool:
        if self.token() in self.hub.writers:
            return True
        self.error(403 if self.token() else 401, "Forbidden", "You need a token with write access")
        return False

    def find(self, repo_id: str) -> Repo | None:
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and self.token() not in self.hub.readers):
            self.error(401 if not self.token() else 404, "RepoNotFound", "Repository not found")
            return None
        return repo

    # pages

    def create(self) -> None:
        if not self.may_write():
            return
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if repo_id in self.hub.repos:
            self.answer_json({"error": "You already created this model repo", "url": f"{self.hub.url}/{repo_id}"}, 409)
            return
        private = asked.get("private") or asked.get("visibility") == "private"
        repo = self.hub.repos[repo_id] = Repo(bool(private))
        repo.commit(
            "main", {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, "initial commit"
        )
        self.answer_json({"url": f"{self.hub.url}/{repo_id}"})

    def validate(self) -> None:
        content = json.loads(self.body)["content"]
        block = re.match(r"---\n(.*?)\n---\n", content, flags=re.DOTALL)
        try:
            assert block
            assert isinstance(yaml.safe_load(block[1]), dict)
        except (AssertionError, yaml.YAMLError) as error:
            self.answer_json({"errors": [{"message": str(error)}], "warnings": []}, 400)
            return
        self.answer_json({"errors": [], "warnings": []})

    def info(self, repo_id: str, revision: str | None = None) -> None:
        repo = self.find(repo_id)
        if repo is None:
            return
        oid = repo.resolve(revision or "main")
        if oid is None:
            self.error(404, "RevisionNotFound")
            return
        siblings = [{"rfilename": name} for name in repo.commits[oid]]
        self.answer_json({"id": repo_id, "sha": oid, "private": repo.private, "tags": [], "siblings": siblings})

    def branch(self, repo_id: str, name: str) -> None:
        repo = self.find(repo_id)
        if repo is None or not self.may_write():
            return
        if name in repo.branches:
            self.answer_json({"error": "exists"}, 409)
            return
        repo.branches[name] = repo.branches["main"]
        self.answer_json({}, 201)

    def preupload(self, repo_id: str, revision: str) -> None:
        repo = self.find(repo_id)
        if repo is None or not self.may_write():
            return
        oid = repo.resolve(revision)
        if oid is None:
            self.error(404, "RevisionNotFound")
            return
        present = repo.commits[oid]
        files = []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            content = present.get(path)
            mode = "lfs" if path.endswith(LARGE) else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": _oid(path, content)})
        self.answer_json({"files": files})

    def batch(self, repo_id: str) -> None:
        if self.find(repo_id) is None or not self.may_write():
            return
        objects = []
        for item in json.loads(self.body)["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.storage:
                answer["actions"] = {
                    "upload": {"href": f"{self.hub.storage_url}/storage/{item['oid']}"},
                    "verify": {"href": f"{self.hub.url}/verify"},
                }
            objects.append(answer)
        self.answer_json({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self.answer(400, b"the content is of another hash")
            return
        self.hub.storage[oid] = self.body
        self.answer(200)

    def verify(self) -> None:
        asked = json.loads(self.body)
        stored = self.hub.storage.get(asked["oid"])
        self.answer(200 if stored is not None and len(stored) == asked["size"] else 404)

    def commit(self, repo_id: str, revision: str) -> None:
        repo = self.find(repo_id)
        if repo is None or not self.may_write():
            return
        header, *operations = [json.loads(line) for line in self.body.splitlines()]
        files = {}
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.hub.storage[value["oid"]]
        pull_request = "create_pr" in self.query
        if pull_request:
            number = 1 + sum(name.startswith("refs/pr/") for name in repo.branches)
            repo.branches[f"refs/pr/{number}"] = repo.branches[revision]
            revision = f"refs/pr/{number}"
        oid = repo.commit(revision, files, header["value"]["summary"])
        answer = {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{oid}"}
        if pull_request:
            answer["pullRequestUrl"] = f"{self.hub.url}/{repo_id}/discussions/{number}"
        self.answer_json(answer)

    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        repo = self.find(repo_id)
        if repo is None:
            return
        oid = repo.resolve(revision)
        if oid is None:
            self.error(404, "RevisionNotFound")
            return
        content = repo.commits[oid].get(path)
        if content is None:
            self.error(404, "EntryNotFound", **{"X-Repo-Commit": oid})
            return
        headers = {"X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        if path.endswith(LARGE):
            etag = _oid(path, content)
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            self.answer(302, b"", {**headers, "Location": f"{self.hub.storage_url}/storage/{etag}"})
        else:
            self.answer(200, content, {**headers, "ETag": f'"{_oid(path, content)}"'})

    def download(self, oid: str) -> None:
        if "Authorization" in self.headers:
            self.answer(400, b"the token was sent to the storage")
            return
        content = self.hub.storage[oid]
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start:
            rest = content[int(start[1]) :]
            span = f"bytes {start[1]}-{len(content) - 1}/{len(content)}"
            self.answer(206, rest, {"Content-Range": span})
        else:
            self.answer(200, content)


def _oid(path: str, content: bytes | None) -> str | None:
    """The hash by which the Hub knows a file: SHA-256 of a large one, git's of the others."""
    if content is None:
        return None
    if path.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


REPO = r"([^/]+/[^/]+)"
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("POST", r"/api/repos/create", Handler.create),
    ("POST", r"/api/validate-yaml", Handler.validate),
    ("POST", rf"/api/models/{REPO}/branch/([^/]+)", Handler.branch),
    ("POST", rf"/api/models/{REPO}/preupload/([^/]+)", Handler.preupload),
    ("POST", rf"/api/models/{REPO}/commit/([^/]+)", Handler.commit),
    ("GET", rf"/api/models/{REPO}/revision/([^/]+)", Handler.info),
    ("GET", rf"/api/models/{REPO}", Handler.info),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", r"/storage/([0-9a-f]+)", Handler.upload),
    ("GET", r"/storage/([0-9a-f]+)", Handler.download),
    ("POST", r"/verify", Handler.verify),
    ("GET HEAD", rf"/{REPO}/resolve/([^/]+)/(.+)", Handler.resolve),
]
