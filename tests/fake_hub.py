"""A hub on the loopback address that answers what `huggingface_hub` asks."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading

import yaml

TOKEN = "hf_of_the_tests"


class FakeHub(http.server.ThreadingHTTPServer):
    """Keeps repositories in memory, and takes every file within its commit, large ones too.

    Attributes:
        repositories: Dictionary from `user/name` to the commits, each a dictionary of files.
        asked: List of `(method, path)`.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repositories, self.visibility, self.asked = {}, {}, []

    def add(self, repository, **files):
        """Commits files by hand; a name has `__` in the place of its dot."""
        content = {name.replace("__", "."): value for name, value in files.items()}
        commits = self.repositories.setdefault(repository, [])
        commits.append({**(commits[-1] if commits else {}), **content})

    def commit_of(self, repository, revision):
        """The hash and the files of a revision."""
        commits = self.repositories[repository]
        hashes = [
            hashlib.sha1(f"{repository}{i}".encode()).hexdigest() for i in range(len(commits))
        ]
        if revision == "main":
            return hashes[-1], commits[-1]
        return revision, commits[hashes.index(revision)]


@contextlib.contextmanager
def serving(monkeypatch, home):
    """Yields a hub that `huggingface_hub` takes for the real one, with a cache of its own."""
    from huggingface_hub import constants, utils

    with FakeHub() as hub:
        threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
        utils.disable_progress_bars()
        yield hub
        hub.shutdown()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """The tests read what was asked."""

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def _answer(self):
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        for pattern, answer in _ANSWERS.items():
            found = re.fullmatch(pattern, f"{self.command} {path}")
            if found:
                return answer(self, body, *found.groups())
        return self._send(404)

    def _chunks(self):
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, code, content=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value, code=200):
        self._send(code, json.dumps(value).encode(), Content_Type="application/json")

    def _may_write(self):
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._send(401)
        return False

    # === Answers ===
    def create(self, body):
        if not self._may_write():
            return None
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        is_new = name not in self.server.repositories
        if is_new:
            self.server.repositories[name] = []
            self.server.visibility[name] = asked.get("visibility")
        return self._json({"url": f"{self.server.address}/{name}"}, 200 if is_new else 409)

    def resolve(self, body, repository, revision, file):
        if not self.server.repositories.get(repository):
            # As the real one answers whoever may not see one, too.
            code = "RepoNotFound" if repository not in self.server.repositories else "EntryNotFound"
            return self._send(404, X_Error_Code=code)
        try:
            commit, files = self.server.commit_of(repository, revision)
        except ValueError:
            return self._send(404, X_Error_Code="RevisionNotFound")
        if file not in files:
            return self._send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        etag = f'"{hashlib.sha256(files[file]).hexdigest()}"'
        return self._send(200, files[file], ETag=etag, X_Repo_Commit=commit)

    def validate(self, body):
        _, header, _ = json.loads(body)["content"].split("---\n", 2)
        is_valid = isinstance(yaml.safe_load(header), dict)
        errors = [] if is_valid else [{"message": "The card has no metadata"}]
        return self._json({"errors": errors, "warnings": []})

    def preupload(self, body, repository, revision):
        if not self._may_write():
            return None
        names = [file["path"] for file in json.loads(body)["files"]]
        answers = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
        return self._json({"files": answers})

    def commit(self, body, repository, revision):
        if not self._may_write():
            return None
        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
        commits = self.server.repositories[repository]
        commits.append({**(commits[-1] if commits else {}), **files})
        oid, _ = self.server.commit_of(repository, "main")
        url = f"{self.server.address}/{repository}/commit/{oid}"
        return self._json({"success": True, "commitOid": oid, "commitUrl": url})


_NAME = "([^/]+/[^/]+)"
_ANSWERS = {
    "POST /api/repos/create": _Handler.create,
    "POST /api/validate-yaml": _Handler.validate,
    f"(?:HEAD|GET) /{_NAME}/resolve/([^/]+)/(.+)": _Handler.resolve,
    f"POST /api/models/{_NAME}/preupload/([^/]+)": _Handler.preupload,
    f"POST /api/models/{_NAME}/commit/([^/]+)": _Handler.commit,
}
