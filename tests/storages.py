"""A staging root on every kind of storage, and what is needed to fill it."""

from __future__ import annotations

import io
import json
import uuid
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from upath import UPath

from tidepool_ingest.staging import storage

USER = "0123456789"


class BucketFile(AbstractBufferedFile):
    """Appears in the bucket when its upload is completed, and not before."""

    def _initiate_upload(self) -> None:
        self.parts = io.BytesIO()

    def _upload_chunk(self, final: bool = False) -> bool:
        self.parts.write(self.buffer.getvalue())
        if final:
            self.fs.objects[self.path] = self.parts.getvalue()
        return True

    def _fetch_range(self, start: int, end: int) -> bytes:
        self.fs.calls["get"] += 1
        return self.fs.objects[self.path][start:end]


class BucketFileSystem(AbstractFileSystem):
    """An object store: keys and no folders, listings by prefix, each call counted."""

    protocol = "bucket"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.objects: dict[str, bytes] = {}
        self.buckets: set[str] = set()
        self.calls: Counter[str] = Counter()

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        self.calls["list"] += 1
        prefix = self._strip_protocol(path).rstrip("/") + "/"
        found: dict[str, dict[str, Any]] = {}
        for key, content in self.objects.items():
            if key.startswith(prefix):
                name, deeper, _rest = key[len(prefix) :].partition("/")
                kind = "directory" if deeper else "file"
                found[name] = {"name": prefix + name, "type": kind, "size": 0 if deeper else len(content)}
        if path in self.objects:
            found = {"": {"name": path, "type": "file", "size": len(self.objects[path])}}
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else [entry["name"] for entry in found.values()]

    def info(self, path: str, **more: Any) -> Any:
        if "/" in self._strip_protocol(path):
            return super().info(path, **more)
        self.calls["head"] += 1
        if path not in self.buckets:
            raise FileNotFoundError(path)
        return {"name": path, "size": 0, "type": "directory"}

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **_: Any
    ) -> Any:
        self.calls["list"] += 1
        prefix = self._strip_protocol(path).rstrip("/") + "/"
        names = sorted(key for key in self.objects if key.startswith(prefix))
        found = {name: {"name": name, "size": len(self.objects[name]), "type": "file"} for name in names}
        return found if detail else names

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Object stores have no folders."""

    def rmdir(self, path: str) -> None:
        raise FileNotFoundError(path)

    def rm_file(self, path: str) -> None:
        del self.objects[path]

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        for key in path:
            self.rm_file(key)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self.calls["put"] += 1
        self.objects[self._strip_protocol(path)] = value

    def _open(self, path: str, mode: str = "rb", block_size: Any = None, **_: Any) -> BucketFile:
        if mode == "rb" and path not in self.objects:
            raise FileNotFoundError(path)
        return BucketFile(self, path, mode, size=len(self.objects[path]) if mode == "rb" else None)


fsspec.register_implementation("bucket", BucketFileSystem, clobber=True)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> UPath:
    """A staging root in an object store."""
    monkeypatch.setattr(storage, "_OBJECT_STORES", storage._OBJECT_STORES | {"bucket"})
    name = uuid.uuid4().hex
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UPath has no class of its own for it, as for other stores
        made = UPath(f"bucket://{name}/staging")
    made.fs.buckets.add(name)
    return made


@pytest.fixture(params=["local", "memory", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    """A staging root on a local disk, in memory and in an object store."""
    if request.param == "local":
        return UPath(tmp_path / "staging")
    if request.param == "memory":
        return UPath(f"memory://{uuid.uuid4().hex}/staging")
    return request.getfixturevalue("bucket")  # type: ignore[no-any-return]


Put = Callable[[UPath, bytes], UPath]


@pytest.fixture
def put() -> Put:
    """Write a file on any storage."""

    def put(path: UPath, content: bytes) -> UPath:
        path.fs.makedirs(path.path.rpartition("/")[0], exist_ok=True)
        path.fs.pipe_file(path.path, content)
        return path

    return put


@pytest.fixture
def manifest_json() -> Callable[..., bytes]:
    """Make the text of a good manifest, with some of it replaced."""

    def manifest_json(**changes: Any) -> bytes:
        content: dict[str, Any] = {
            "userId": USER,
            "dataSet": {"deviceId": "D-1", "deviceModel": "M-2"},
            "files": [{"name": "cbg.ndjson.gz", "format": "ndjson"}],
        }
        return json.dumps({k: v for k, v in {**content, **changes}.items() if v is not None}).encode()

    return manifest_json
