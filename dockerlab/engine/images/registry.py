"""Talking to a registry: where it is, who asks, and what it answers."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import os
import re
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
from yarl import URL

from dockerlab.engine.images.reference import DEFAULT_DOMAIN, Reference, is_domain
from dockerlab.engine.refusals import RefusalError, bad, upstream

_HUB = "registry-1.docker.io"
_REDIRECTS = 5
_ANSWER_LIMIT_BYTES = 1 << 20  # of a token or an error
_NO_ADDRESS = "the registry sends us to something that is no address"
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="([^"]*)"')
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=15, sock_connect=15, sock_read=60)


class Registry:
    """One repository of a registry, for as long as one pull or push takes.

    Parameters
    ----------
    session : aiohttp.ClientSession
        From :func:`open_session`.
    reference : Reference
        Which registry and which repository.
    auth : mapping
        Docker's AuthConfig: username and password, identitytoken or registrytoken; may be empty.
    actions : str
        ``pull`` or ``pull,push``; empty to see only whether a login is good.
    """

    def __init__(
        self, session: aiohttp.ClientSession, reference: Reference, auth: Mapping[str, Any] | None, actions: str
    ) -> None:
        self._session = session
        self.reference = reference
        self._auth = {name: value for name, value in (auth or {}).items() if value}
        if not all(_is_text(value) for value in self._auth.values() if isinstance(value, str)):
            raise bad("invalid X-Registry-Auth header: a value has characters that it cannot have")
        self._scope = f"repository:{reference.path}:{actions}" if actions else ""
        self._authorization = ""
        host = _HUB if reference.domain == DEFAULT_DOMAIN else reference.domain
        try:
            scheme = "http" if is_loopback(host) else "https"
            self._root = URL(f"{scheme}://{host}/v2/{reference.path}/")
        except ValueError:
            raise bad("invalid reference format") from None
        token = self._auth.get("registrytoken")
        if isinstance(token, str) and token:
            self._authorization = f"Bearer {token}"

    @contextlib.asynccontextmanager
    async def ask(
        self,
        method: str,
        place: str | URL,
        *,
        headers: Mapping[str, str] | None = None,
        data: Callable[[], Any] | None = None,
        accept: tuple[int, ...] = (200,),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give the answer.

        Parameters
        ----------
        method : str
        place : str or URL
            Relative to the repository, such as ``manifests/latest``.
        headers : mapping, optional
        data : callable, optional
            Gives the body; called again when the request has to be sent again.
        accept : tuple of int
            The statuses that are fine.

        Raises
        ------
        RefusalError
            Any other status, or no answer; in Docker's words.
        """
        url = self._root.join(URL(place)) if isinstance(place, str) else self._root.join(place)
        try:
            response = await self._send(method, url, dict(headers or {}), data)
            try:
                if response.status not in accept:
                    raise await self._refusal(response)
                yield response
            finally:
                response.release() if method == "HEAD" else response.close()
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, ConnectionError) as error:
            raise unreachable(method, url, error) from error

    async def _send(
        self, method: str, url: URL, headers: dict[str, str], data: Callable[[], Any] | None
    ) -> aiohttp.ClientResponse:
        """Send a request, again with a token where one is asked for, and follow redirects of what only reads."""
        redirects, asked = 0, False
        while True:
            ours = url.origin() == self._root.origin()
            if url.scheme != "https" and not _is_local(url):
                raise upstream(f"the registry sends us to {url.origin()}, which is not encrypted")
            sent = {"Accept-Encoding": "identity", **headers}
            if ours and self._authorization:
                sent["Authorization"] = self._authorization
            response = await self._session.request(
                method, url, headers=sent, data=data() if data else None, allow_redirects=False, proxy=proxy_for(url)
            )
            if response.status == 401 and ours and not asked:
                asked = True
                challenge = response.headers.get("WWW-Authenticate", "")
                response.close()
                if await self._authorize(challenge):
                    continue
                raise self._denied("")
            if response.status in (301, 302, 303, 307, 308) and method in ("GET", "HEAD"):
                redirects += 1
                target = response.headers.get("Location", "")
                response.close()
                if redirects > _REDIRECTS or not target:
                    raise upstream(f"the registry sends us from {url.origin()} on and on")
                url = follow(url, target)
                continue
            return response

    async def _authorize(self, challenge: str) -> bool:
        """Get what the registry asks for; tell whether there is something new to try."""
        kind, _, rest = challenge.partition(" ")
        username, password = self._auth.get("username") or "", self._auth.get("password") or ""
        basic = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode() if username else ""
        if kind.lower() == "basic":
            fresh = basic != self._authorization
            self._authorization = basic
            return bool(basic) and fresh
        if kind.lower() != "bearer":
            return False
        found = dict(_CHALLENGE.findall(rest))
        try:
            realm = URL(found.get("realm", ""))
            realm.port  # noqa: B018 - a number that is too large is noticed only here
        except ValueError:
            raise upstream(_NO_ADDRESS) from None
        if not realm.is_absolute() or (realm.scheme != "https" and not _is_local(realm)):
            raise upstream(f"the registry asks for a token from {found.get('realm', '')!r}, which is not encrypted")
        fields = {"service": found.get("service", ""), "scope": found.get("scope") or self._scope}
        # Bytes of a header that are not UTF-8 cannot be sent back
        fields = {name: value.encode(errors="replace").decode() for name, value in fields.items() if value}
        identity = self._auth.get("identitytoken")
        if identity:
            form = {**fields, "grant_type": "refresh_token", "client_id": "dockerlab", "refresh_token": str(identity)}
            asking = self._session.post(realm, data=form, allow_redirects=False, proxy=proxy_for(realm))
        else:
            headers = {"Authorization": basic} if basic else {}
            url = realm.update_query(fields)
            asking = self._session.get(url, headers=headers, allow_redirects=False, proxy=proxy_for(realm))
        async with asking as response:
            raw = await read(response, _ANSWER_LIMIT_BYTES)
            if response.status in (401, 403):
                raise self._denied(_sentence(raw))
            if response.status != 200:
                raise upstream(f"the registry's token server answered {response.status}: {_sentence(raw)}")
        try:
            content = json.loads(raw)
            token = content.get("token") or content.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise upstream("the registry's token server gave no token")
        self._authorization = f"Bearer {token}"
        return True

    async def _refusal(self, response: aiohttp.ClientResponse) -> RefusalError:
        """Say in Docker's words why the registry said no."""
        raw = await read(response, _ANSWER_LIMIT_BYTES) if response.method != "HEAD" else b""
        said = _sentence(raw)
        if response.status in (401, 403):
            return self._denied(said)
        if response.status == 404:
            if "/manifests/" in response.url.path and response.method in ("GET", "HEAD"):
                name = self.reference.tagged().familiar
                return RefusalError(404, f"manifest for {name} not found: {said or 'manifest unknown'}")
            return RefusalError(404, said or f"{response.url.path} is not there")
        if response.status == 429:
            return RefusalError(
                429, f"toomanyrequests: {said or 'the registry wants fewer requests: wait and try again'}"
            )
        return upstream(
            f"received unexpected HTTP status: {response.status} {response.reason}" + (f": {said}" if said else "")
        )

    def _denied(self, said: str) -> RefusalError:
        name = self.reference.familiar_repository
        if not self._scope:
            reason = said or "failed with status: 401 Unauthorized"
            return RefusalError(401, f"login attempt to {self._root.origin()}/v2/ {reason}")
        if self._scope.endswith("push"):
            return RefusalError(403, said or f"denied: requested access to the resource is denied ({name})")
        return RefusalError(
            404,
            f"pull access denied for {name}, repository does not exist or may require 'docker login': "
            + (said or "denied: requested access to the resource is denied"),
        )


async def login(auth: Mapping[str, Any]) -> None:
    """Ask the registry that ``serveraddress`` names whether a login is good; 401 where it is not."""
    address = str(auth.get("serveraddress") or DEFAULT_DOMAIN)
    domain = address.rpartition("://")[2].partition("/")[0]
    if not is_domain(domain):
        raise bad(f"unable to parse registry address: {address[:200]}")
    domain = DEFAULT_DOMAIN if domain == "index.docker.io" else domain
    async with open_session() as session, Registry(session, Reference(domain, ""), auth, "").ask("GET", URL("/v2/")):
        pass


def open_session() -> aiohttp.ClientSession:
    """Make what requests go through; to be closed by the caller."""
    return aiohttp.ClientSession(
        timeout=_TIMEOUT,
        auto_decompress=False,  # digests count what is sent
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(limit=8),
    )


def follow(base: URL, target: str) -> URL:
    """Give where a registry's header sends us, which may count from where we are; 502 where it is no address."""
    try:
        url = base.join(URL(target, encoded=target.isascii()))  # as written: it may be signed
        url.origin()
        is_address = url.scheme in ("http", "https") and url.port is not None and bool(url.host)
    except ValueError:
        is_address = False
    if not is_address:
        raise upstream(_NO_ADDRESS)
    return url


async def read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read a small answer; what is longer is refused."""
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > limit:
            raise upstream(f"the registry's answer is longer than {limit} bytes")
    return bytes(raw)


def unreachable(method: str, url: URL, error: Exception) -> RefusalError:
    """Say that a registry did not answer, as Docker does."""
    reason = str(getattr(error, "strerror", "") or error) or type(error).__name__
    if isinstance(error, TimeoutError):
        reason = "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"
    elif isinstance(error, aiohttp.ClientPayloadError):
        reason = "unexpected EOF"
    elif isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        if isinstance(error.os_error, socket.gaierror):
            reason = f"dial tcp: lookup {error.host}: no such host"
        else:
            said = os.strerror(error.os_error.errno or 0).lower()
            reason = f"dial tcp {error.host}:{error.port}: connect: {said}"
    verb = method.capitalize()
    return upstream(f'{verb} "{url.with_query(None)}": {reason}')


def is_loopback(authority: str) -> bool:
    """Tell whether a host, perhaps with a port, is this machine."""
    return _is_local(URL(f"http://{authority}"))


def _is_local(url: URL) -> bool:
    host = url.host or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(url: URL) -> str | None:
    """Give the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for a URL; loopback never goes through one."""
    host = url.host or ""
    if _is_local(url) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(url.scheme)


def _is_text(value: str) -> bool:
    """Tell whether a value can be sent: no halves of characters, no control characters."""
    return not any(letter < " " or "\ud800" <= letter <= "\udfff" for letter in value)


def _sentence(raw: bytes) -> str:
    """Give the registry's own words, one line of bounded length."""
    try:
        content = json.loads(raw)
        first = (content.get("errors") or [{}])[0]
        code, message = str(first.get("code") or "").lower().replace("_", " "), str(first.get("message") or "")
        text = f"{code}: {message}" if code and message else code or message or str(content.get("details") or "")
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        text = ""
    return " ".join(text.split())[:300]
