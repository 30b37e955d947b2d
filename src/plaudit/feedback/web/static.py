"""The few files of the page, held in memory and sent compressed."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    packed: bytes
    type: str


def _files() -> Mapping[str, File]:
    paths = sorted(path for path in FOLDER.iterdir() if path.suffix in TYPES)
    return {p.name: File(p.read_bytes(), gzip.compress(p.read_bytes(), mtime=0), TYPES[p.suffix]) for p in paths}


FILES = _files()
VERSION = hashlib.sha256(b"".join(name.encode() + file.content for name, file in FILES.items())).hexdigest()[:12]
"""Part of every file's address, so that a browser may keep it for good."""


async def send_file(request: Request) -> Response:
    file = FILES.get(request.path_params["name"])
    if file is None:
        raise HTTPException(404)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(
            file.packed, media_type=file.type, headers={"content-encoding": "gzip", "vary": "accept-encoding"}
        )
    return Response(file.content, media_type=file.type)
