"""What a registry answers: the OCI distribution API over a folder."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from aiohttp import web

from dockerlab.engine.images.blobs import Blobs, Upload
from dockerlab.engine.images.manifests import INDEX_TYPES, Descriptor, media_type, read_index, read_manifest
from dockerlab.engine.images.reference import is_digest, is_path, is_tag
from dockerlab.engine.refusals import RefusalError

MANIFEST_LIMIT_BYTES = 4 << 20
BLOB_LIMIT_BYTES = 16 << 30
_CHUNK = 1 << 20
_PAGE = 1000
_NAME = r"{name:[a-z0-9._/-]+}"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Registry:
    """The handlers, over one storage."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def routes(self) -> list[web.RouteDef]:
        """Give the routes of the API."""
        upload = f"/v2/{_NAME}/blobs/uploads/{{key}}"
        return [
            web.get("/v2/", self._hello, allow_head=True),
            web.get("/v2/_catalog", self._catalog),
            web.get(f"/v2/{_NAME}/tags/list", self._tags),
            web.post(f"/v2/{_NAME}/blobs/uploads/", self._start),
            web.get(upload, self._status),
            web.patch(upload, self._patch),
            web.put(upload, self._finish),
            web.delete(upload, self._cancel),
            web.get(f"/v2/{_NAME}/blobs/{{digest}}", self._blob, allow_head=True),
            web.delete(f"/v2/{_NAME}/blobs/{{digest}}", self._delete_blob),
            web.get(f"/v2/{_NAME}/manifests/{{reference}}", self._manifest, allow_head=True),
            web.put(f"/v2/{_NAME}/manifests/{{reference}}", self._put_manifest),
            web.delete(f"/v2/{_NAME}/manifests/{{reference}}", self._delete_manifest),
        ]

    async def _hello(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response({})

    async def _catalog(self, request: web.Request) -> web.Response:
        names = await asyncio.to_thread(self._blobs.repositories)
        page, more = _page(request, names)
        return web.json_response({"repositories": page}, headers=more)

    async def _tags(self, request: web.Request) -> web.Response:
        name = _name(request)
        tags = self._blobs.tags(name)
        page, more = _page(request, tags or [])
        if tags is None:
            raise _Problem(404, "NAME_UNKNOWN", "repository name not known to registry")
        return web.json_response({"name": name, "tags": page}, headers=more)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        name, digest = _name(request), _digest(request.match_info["digest"])
        if not self._blobs.has(name, digest):
            raise _Problem(404, "BLOB_UNKNOWN", "blob unknown to registry")
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest, "Etag": f'"{digest}"'}
        return web.FileResponse(self._blobs.blob(digest), chunk_size=_CHUNK, headers=headers)

    async def _delete_blob(self, request: web.Request) -> web.Response:
        name, digest = _name(request), _digest(request.match_info["digest"])
        if not await asyncio.to_thread(self._blobs.forget, name, digest):
            raise _Problem(404, "BLOB_UNKNOWN", "blob unknown to registry")
        return web.Response(status=202)

    async def _start(self, request: web.Request) -> web.Response:
        name = _name(request)
        wanted, origin = request.query.get("mount"), request.query.get("from", "")
        if wanted and is_path(origin) and self._blobs.mount(name, _digest(wanted), origin):
            return _created(name, wanted)
        digest = request.query.get("digest")
        if digest:
            _digest(digest)
        key = self._blobs.start(name)
        if digest:
            return await self._complete(request, name, key, digest)
        return self._progress(name, key, 202)

    async def _status(self, request: web.Request) -> web.Response:
        name, key, _ = self._upload(request)
        return self._progress(name, key, 204)

    async def _patch(self, request: web.Request) -> web.Response:
        name, key, upload = self._upload(request)
        begin = request.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        if begin and begin != str(upload.size):
            raise _Problem(416, "BLOB_UPLOAD_INVALID", f"the next byte is number {upload.size}")
        await self._receive(request, upload)
        return self._progress(name, key, 202)

    async def _finish(self, request: web.Request) -> web.Response:
        name, key, _ = self._upload(request)
        return await self._complete(request, name, key, _digest(request.query.get("digest", "")))

    async def _cancel(self, request: web.Request) -> web.Response:
        _, key, _ = self._upload(request)
        self._blobs.cancel(key)
        return web.Response(status=204)

    async def _complete(self, request: web.Request, name: str, key: str, digest: str) -> web.Response:
        """Take the rest of an upload and end it."""
        upload = self._blobs.upload(name, key)
        if upload is not None:
            await self._receive(request, upload)
        if not self._blobs.finish(key, digest):
            raise _Problem(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        return _created(name, digest)

    async def _receive(self, request: web.Request, upload: Upload) -> None:
        waiting = bytearray()
        async for chunk in request.content.iter_any():
            waiting += chunk
            if upload.size + len(waiting) > BLOB_LIMIT_BYTES:
                raise _Problem(413, "SIZE_INVALID", f"at most {BLOB_LIMIT_BYTES} bytes are taken")
            if len(waiting) >= _CHUNK:
                await asyncio.to_thread(upload.write, bytes(waiting))
                waiting.clear()
        if waiting:
            await asyncio.to_thread(upload.write, bytes(waiting))

    def _upload(self, request: web.Request) -> tuple[str, str, Upload]:
        name, key = _name(request), request.match_info["key"]
        found = self._blobs.upload(name, key)
        if found is None:
            raise _Problem(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        return name, key, found

    def _progress(self, name: str, key: str, status: int) -> web.Response:
        upload = self._blobs.upload(name, key)
        size = upload.size if upload else 0
        headers = {
            "Location": f"/v2/{name}/blobs/uploads/{key}",
            "Range": f"0-{max(0, size - 1)}",
            "Docker-Upload-UUID": key,
        }
        return web.Response(status=status, headers=headers)

    async def _manifest(self, request: web.Request) -> web.Response:
        name, reference = _name(request), _reference(request)
        found = self._blobs.manifest(name, reference)
        if found is None:
            raise _Problem(404, "MANIFEST_UNKNOWN", "manifest unknown")
        digest, kind, raw = found
        headers = {"Content-Type": kind, "Docker-Content-Digest": digest, "Etag": f'"{digest}"'}
        return web.Response(body=raw, headers=headers)

    async def _put_manifest(self, request: web.Request) -> web.Response:
        name, reference = _name(request), _reference(request)
        raw = await request.read()
        try:
            kind = media_type(raw, request.content_type)
            if kind in INDEX_TYPES:
                missing = [one.digest for _, one in read_index(raw) if not self._blobs.manifest(name, one.digest)]
            else:
                config, layers = read_manifest(raw)
                missing = [one.digest for one in (config, *layers) if not self._blobs.has(name, one.digest)]
        except RefusalError as error:
            raise _Problem(400, "MANIFEST_INVALID", error.message) from error
        if missing:
            raise _Problem(400, "MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {missing[0]}")
        if ":" in reference and Descriptor.of("", raw).digest != reference:
            raise _Problem(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        digest = await asyncio.to_thread(self._blobs.put_manifest, name, reference, kind, raw)
        headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
        return web.Response(status=201, headers=headers)

    async def _delete_manifest(self, request: web.Request) -> web.Response:
        name, reference = _name(request), _reference(request)
        if not await asyncio.to_thread(self._blobs.forget_manifest, name, reference):
            raise _Problem(404, "MANIFEST_UNKNOWN", "manifest unknown")
        return web.Response(status=202)


class _Problem(Exception):  # noqa: N818 - an answer, not something that failed here
    """What the API says in place of what was asked for."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def answer(self) -> web.Response:
        """Give it as the API's JSON; Docker forgets the code of one without a detail."""
        content = {"errors": [{"code": self.code, "message": self.message, "detail": {}}]}
        return web.json_response(content, status=self.status)


def _name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not is_path(name):
        raise _Problem(400, "NAME_INVALID", "invalid repository name")
    return name


def _digest(text: str) -> str:
    if not is_digest(text):
        raise _Problem(400, "DIGEST_INVALID", "only sha256 digests are taken")
    return text


def _reference(request: web.Request) -> str:
    text = request.match_info["reference"]
    if not is_digest(text) and not is_tag(text):
        raise _Problem(400, "TAG_INVALID", "manifest tag did not match URI")
    return text


def _created(name: str, digest: str) -> web.Response:
    headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
    return web.Response(status=201, headers=headers)


def _page(request: web.Request, rows: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Give the rows that were asked for by ``n`` and ``last``, and the header that names the next ones."""
    text, last = request.query.get("n", ""), request.query.get("last", "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 7):
        raise _Problem(400, "PAGINATION_NUMBER_INVALID", "invalid number of results requested")
    count = int(text) if text else _PAGE
    rest = [row for row in rows if row > last]
    page = rest[:count]
    if page and len(rest) > count:
        return page, {"Link": f'<{request.path}?n={count}&last={page[-1]}>; rel="next"'}
    return page, {}


@web.middleware
async def _answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what goes wrong into the API's answers, and mark every answer as the API's."""
    response: web.StreamResponse
    try:
        response = await handler(request)
    except _Problem as problem:
        response = problem.answer()
    except web.HTTPNotFound:
        response = _Problem(404, "NOT_FOUND", "page not found").answer()
    except web.HTTPMethodNotAllowed:
        response = _Problem(405, "UNSUPPORTED", "the operation is unsupported").answer()
    except web.HTTPRequestEntityTooLarge:
        response = _Problem(413, "SIZE_INVALID", f"a manifest has at most {MANIFEST_LIMIT_BYTES} bytes").answer()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        response = _Problem(507, "UNKNOWN", "no space left on device").answer()
    response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
    return response


def make_app(folder: Path) -> web.Application:
    """Make the registry as an application.

    Parameters
    ----------
    folder : Path
        Where everything is stored; made when it is not there. One registry at a time may have it.

    Returns
    -------
    aiohttp.web.Application
    """
    app = web.Application(middlewares=[_answers], client_max_size=MANIFEST_LIMIT_BYTES)
    app.add_routes(Registry(Blobs(folder)).routes())
    return app
