"""A policy's folder: what it holds, and how it gets into the registry whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from router.errors import RegistryError
from router.fs import fsync_dir

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Content:
    """The files of a policy: SHA-256 by relative path, and one over all of them."""

    files: Mapping[str, str]
    sha256: str


def content_of(folder: Path) -> Content:
    """What `folder` holds, its manifest apart. Raises `RegistryError` unless it is plain files, at least one."""
    files: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise RegistryError(f"{path} is not a plain file: a policy folder holds nothing else")
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST:
            with path.open("rb") as file:
                files[name] = hashlib.file_digest(file, hashlib.sha256).hexdigest()
    if not files:
        raise RegistryError(f"{folder} holds no files: give the folder of a trained adapter")
    return Content(files, hashlib.sha256(msgspec.json.encode(files, order="sorted")).hexdigest())


def install(folder: Path, target: Path, content: Content, manifest: Mapping[str, Any]) -> None:
    """Copy `folder` to `target` under its manifest, read-only and on disk; a crash leaves no `target`.

    Raises `RegistryError` when `folder` changed since `content` was taken, `OSError` when it cannot be written.
    """
    temporary = target.parent / f".installing-{target.name}"
    if temporary.exists():  # left by a crash; the registry's lock is ours
        shutil.rmtree(temporary)
    try:
        for name in content.files:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, temporary / name)
        if content_of(temporary) != content:
            raise RegistryError(f"{folder} changed while it was registered: try again")
        stored = {**manifest, "sha256": content.sha256, "files": content.files}
        (temporary / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n")
        _make_durable(temporary)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_dir(target.parent)


def _make_durable(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            fsync_dir(path)
            continue
        path.chmod(0o444)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    fsync_dir(folder)
