"""Manifests and indexes of images, as registries and OCI layouts have them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dockerlab.engine.images.reference import is_digest
from dockerlab.engine.refusals import RefusalError, bad, unsupported

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
INDEX_TYPES = (DOCKER_LIST_TYPE, INDEX_TYPE)
MANIFEST_TYPES = (DOCKER_MANIFEST_TYPE, MANIFEST_TYPE)
NAME_NOTES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")  # in an index, for a tag
_ENTRIES = 1000  # of an index, and layers of a manifest


@dataclass(frozen=True)
class Descriptor:
    """Names a blob by type, digest and size."""

    media_type: str
    digest: str
    size: int

    @classmethod
    def of(cls, media_type: str, raw: bytes) -> Descriptor:
        """Describe some bytes."""
        return cls(media_type, f"sha256:{hashlib.sha256(raw).hexdigest()}", len(raw))

    @classmethod
    def read(cls, content: object) -> Descriptor:
        """Read one of a manifest; 400 where it is not one."""
        if isinstance(content, Mapping):
            media_type, digest, size = content.get("mediaType"), content.get("digest"), content.get("size")
            if (
                isinstance(media_type, str)
                and isinstance(digest, str)
                and isinstance(size, int)
                and is_digest(digest)
                and size >= 0
            ):
                return cls(media_type, digest, size)
        raise bad("invalid manifest: a descriptor lacks its media type, its sha256 digest or its size")

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON values, in Docker's order: the digest of a manifest depends on that."""
        return {"mediaType": self.media_type, "size": self.size, "digest": self.digest}

    @property
    def is_index(self) -> bool:
        """Whether it names a list of manifests."""
        return self.media_type in INDEX_TYPES

    def check(self, raw: bytes) -> None:
        """Refuse bytes that are not those it names."""
        if Descriptor.of("", raw).digest != self.digest:
            raise bad(f"the content does not verify against its digest {self.digest}")

    def check_bytes(self, source: Any) -> None:
        """Read a source to its end and refuse it where it is not what this names."""
        digest = hashlib.sha256()
        while chunk := source.read(1 << 20):
            digest.update(chunk)
        if f"sha256:{digest.hexdigest()}" != self.digest:
            raise bad(f"the content does not verify against its digest {self.digest}")


Index = Sequence[tuple[Mapping[str, Any], Descriptor]]


def blob_path(digest: str) -> str:
    """Give the path of a blob in an OCI layout."""
    return "blobs/" + digest.replace(":", "/")


def media_type(raw: bytes, claimed: str = "") -> str:
    """Tell what a manifest is: by what it says, by its shape, or by what the registry claims."""
    content = _object(raw)
    stated = content.get("mediaType")
    if isinstance(stated, str) and stated in INDEX_TYPES + MANIFEST_TYPES:
        return stated
    if isinstance(content.get("manifests"), list):
        return claimed if claimed in INDEX_TYPES else INDEX_TYPE
    if isinstance(content.get("layers"), list):
        return claimed if claimed in MANIFEST_TYPES else MANIFEST_TYPE
    if content.get("schemaVersion") == 1:
        raise unsupported(
            "image manifests of schema version 1 are not supported: push the image again with a newer Docker"
        )
    raise bad(f"unsupported manifest media type: {stated or claimed or 'none'}")


def read_index(raw: bytes) -> Index:
    """Read a list of manifests; 400 where it is not one."""
    entries = _object(raw).get("manifests")
    if not isinstance(entries, list) or len(entries) > _ENTRIES or not all(isinstance(one, dict) for one in entries):
        raise bad("invalid manifest: it has no list of manifests")
    return [(one, Descriptor.read(one)) for one in entries]


def read_manifest(raw: bytes) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """Read a manifest: its configuration and its layers, lowest first; 400 where it is not one."""
    content = _object(raw)
    layers = content.get("layers")
    if not isinstance(layers, list) or len(layers) > _ENTRIES:
        raise bad("invalid manifest: it has no list of layers")
    return Descriptor.read(content.get("config")), tuple(Descriptor.read(one) for one in layers)


def choose(index: Index, system: str, architecture: str, variant: str) -> Descriptor:
    """Choose the manifest for a platform; 404 with Docker's sentence where there is none."""
    fitting: list[tuple[bool, Descriptor]] = []
    for entry, described in index:
        platform = entry.get("platform")
        platform = platform if isinstance(platform, Mapping) else {}
        if not platform and len(index) == 1:
            return described
        if platform.get("os") != system or platform.get("architecture") != architecture:
            continue
        found = str(platform.get("variant") or "")
        if variant and found and found != variant:
            continue
        # Without a variant asked for, arm64 usually is v8; 32-bit arm runs on whatever comes first
        fitting.append((found not in (variant, "v8"), described))
    if not fitting:
        wanted = "/".join(part for part in (system, architecture, variant) if part)
        raise RefusalError(404, f"no matching manifest for {wanted} in the manifest list entries")
    return min(fitting, key=lambda one: one[0])[1]


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise bad("invalid manifest: it is not a JSON object")
    return content
