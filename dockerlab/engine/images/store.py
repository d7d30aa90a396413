"""The images that the engine has, below one folder."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from dockerlab.engine import files
from dockerlab.engine.images import archive, loading, removal
from dockerlab.engine.images.configs import Configs, decode, digest, encode
from dockerlab.engine.images.history import history
from dockerlab.engine.images.names import Names
from dockerlab.engine.images.record import ImageRecord, Layer, Limits, created_s, diff_ids
from dockerlab.engine.images.reference import Reference, is_digest, parse
from dockerlab.engine.images.removal import InUse, Matches
from dockerlab.engine.images.shelf import Shelf
from dockerlab.engine.images.tree import Tree
from dockerlab.engine.refusals import bad, missing

# A method of the class is called list, so these stand for the type inside it
_Texts = list[str]
_Rows = list[dict[str, str]]
_History = list[dict[str, Any]]


class Images:
    """The store of images.

    All methods block and may be called from several threads. What they write is there as a whole or not at all, also
    after the process was killed. One process at a time may have a store.

    Parameters
    ----------
    folder : Path
        Made when it is not there.
    limits : Limits
        How much is taken in.
    """

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.lock = threading.RLock()
        self.temporary = folder / "tmp"
        if self.temporary.exists():  # left by a crash
            files.remove(self.temporary)
        for one in (self.temporary, folder / "layers"):
            one.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.shelf = Shelf(folder / "layers", self.temporary, self.limits)
        self._configs = Configs(folder / "images", self.shelf)
        self.names = Names(folder / "names.json", self._configs)

    # What there is

    def get(self, name: str) -> ImageRecord:
        """Find an image.

        Parameters
        ----------
        name : str
            Its id, the beginning of its id, or one of its names.

        Returns
        -------
        ImageRecord

        Raises
        ------
        RefusalError
            404: there is none, or several begin so. 400: it is not a name.
        """
        with self.lock:
            return self._record(self._find(name)[0])

    def _find(self, name: str) -> tuple[str, Reference | None]:
        """Give an image's id, and the name by which it was asked for, None where that was its id."""
        whole = name if name.startswith("sha256:") else f"sha256:{name}"
        if is_digest(whole):
            if whole in self._configs:
                return whole, None
            raise missing("image", whole)
        reference = parse(name)
        found = self.names.find(reference)
        if found in self._configs:
            return found, reference
        starting = [one for one in self._configs if one.startswith(whole)] if len(whole) > len("sha256:") else []
        if len(starting) == 1:
            return starting[0], None
        raise missing("image", reference.tagged().familiar)

    def list(self) -> list[ImageRecord]:
        """Give all images, newest first."""
        with self.lock:
            names = self.names.by_image()
            records = [self._record(one, names.get(one, [])) for one in self._configs]
        return sorted(records, key=lambda record: (-record.created_s, record.id))

    def _record(self, image_id: str, names: Sequence[Reference] | None = None) -> ImageRecord:
        config = self._configs[image_id]
        names = self.names.of(image_id) if names is None else names
        return ImageRecord(
            id=image_id,
            config=config,
            tags=tuple(one.familiar for one in names if not one.digest),
            digests=tuple(one.familiar for one in names if one.digest),
            size_bytes=sum(self.shelf.layer(one).size_bytes for one in diff_ids(config)),
            parent=self._configs.parent(image_id),
            created_s=created_s(config),
        )

    def has(self, image_id: str) -> bool:
        """Tell whether there is an image of exactly this id."""
        return image_id in self._configs

    def children(self, image_id: str) -> _Texts:
        """Give the ids of the images that were built on an image here."""
        return self._configs.children(image_id)

    def config_bytes(self, image: ImageRecord) -> bytes:
        """Give the configuration byte for byte: its digest is the image's id."""
        return self._configs.raw(image.id)

    def layers(self, image: ImageRecord) -> tuple[Path, ...]:
        """Give the folders with an image's files, lowest first; see :func:`~dockerlab.engine.images.layers.unpack`."""
        return tuple(self.shelf.folder(one) for one in image.diff_ids)

    def layer_tar(self, diff_id: str) -> Path:
        """Give a layer's uncompressed tar archive; it has the true owners, modes and times."""
        return self.shelf.archive(diff_id)

    def layer(self, diff_id: str) -> Layer:
        """Give what is known of a layer; 404 when it is not here."""
        return self.shelf.layer(diff_id)

    def tree(self, source: ImageRecord | Sequence[Path]) -> Tree:
        """Give a view of the files of an image, or of layer folders, lowest first."""
        return Tree(self.layers(source) if isinstance(source, ImageRecord) else tuple(source))

    def history(self, image: ImageRecord) -> _History:
        """Give what GET /images/{name}/history answers; see :func:`~dockerlab.engine.images.history.history`."""
        with self.lock:
            return history(self, image)

    # What comes in

    def add_layer(
        self,
        source: BinaryIO | Path,
        on_top_of: Sequence[str] = (),
        *,
        expected: str = "",
        on_bytes: Callable[[int], None] | None = None,
    ) -> Layer:
        """Take a layer in: the tar archive, compressed or not.

        Parameters
        ----------
        source : binary file or Path
        on_top_of : sequence of str
            Diff ids of the layers below it; they must be here, and stay until an image has them. What is in them has no
            influence on how it is unpacked.
        expected : str
            The diff id that it must have; empty for any.
        on_bytes : callable, optional
            Told how many uncompressed bytes were read so far.

        Returns
        -------
        Layer
            One that is here already is used again.

        Raises
        ------
        RefusalError
            400: it is damaged, too large, wants out of its folder, or has another diff id.
        """
        self.shelf.check(on_top_of)
        self.shelf.hold(on_top_of)
        return self.shelf.add(source, expected=expected, on_bytes=on_bytes)

    def add_image(self, config: Mapping[str, Any], *, parent: str = "", expected_id: str = "") -> ImageRecord:
        """Take an image in whose layers are here.

        Parameters
        ----------
        config : mapping
            The image configuration as JSON values.
        parent : str
            Id of the image that it was built on.
        expected_id : str
            The id that it must have; empty for any.

        Returns
        -------
        ImageRecord

        Raises
        ------
        RefusalError
            400: a layer is not here, or the id is another.
        """
        return self.add_config(encode(config), parent=parent, expected_id=expected_id)

    def add_config(self, raw: bytes, *, parent: str = "", expected_id: str = "") -> ImageRecord:
        """Take an image in by its configuration byte for byte; otherwise as :meth:`add_image`."""
        image_id = digest(raw)
        if expected_id and image_id != expected_id:
            raise bad(f"invalid image configuration: expected {expected_id}, got {image_id}")
        config = decode(raw, self.limits.json_bytes)
        with self.lock:
            self.shelf.check(diff_ids(config))
            self._configs.put(raw, config, parent)
            self.shelf.release(diff_ids(config))
            return self._record(image_id)

    def tag(self, name: str, reference: Reference | str) -> None:
        """Give an image one more name; another image that had it loses it.

        Raises
        ------
        RefusalError
            404: no such image. 400: it is not a name, or one with a digest.
        """
        reference = parse(reference) if isinstance(reference, str) else reference
        if reference.digest:
            raise bad("refusing to create a tag with a digest reference")
        with self.lock:
            self.names.put(reference, self._find(name)[0])

    def note_digest(self, image: ImageRecord, reference: Reference, manifest_digest: str) -> None:
        """Remember under which digest a registry has an image."""
        with self.lock:
            self.names.put(Reference(reference.domain, reference.path, "", manifest_digest), image.id)

    # What goes

    def remove(
        self, name: str, force: bool = False, in_use: InUse = removal.nobody, *, running: InUse = removal.nobody
    ) -> _Rows:
        """Remove a name, and the image with its last name, as DELETE /images/{name} does.

        Parameters
        ----------
        name : str
        force : bool
            Also where a stopped container uses it, or where it has several names and was named by its id.
        in_use : callable
            Gives the ids of the containers made from the image of an id.
        running : callable
            Gives those of them that run; they cannot be overruled.

        Returns
        -------
        list of dict
            Each ``{"Untagged": name}`` or ``{"Deleted": id}``.

        Raises
        ------
        RefusalError
            404: no such image. 409: it is in use, with Docker's sentence.
        """
        with self.lock:
            image_id, reference = self._find(name)
            return removal.Removal(self, in_use, running, force).run(name, image_id, reference)

    def prune(
        self, in_use: InUse = removal.nobody, *, dangling: bool = True, matches: Matches = removal.anything
    ) -> tuple[_Rows, int]:
        """Remove images that no container uses; see :func:`~dockerlab.engine.images.removal.prune`."""
        with self.lock:
            return removal.prune(self, in_use, dangling=dangling, matches=matches)

    def sweep(self, keep: Callable[[], Sequence[str]] = lambda: ()) -> int:
        """Remove layers that no image has and that are not among the diff ids in `keep`; give their bytes.

        For the start of an engine: a build that was killed leaves such layers, and so does an image that was removed by
        force while a container used it.
        """
        with self.lock:
            wanted = self._configs.layers() | set(keep())
            unwanted = [self.shelf.layer(one) for one in self.shelf if one not in wanted]
            gone = self.shelf.remove([one.diff_id for one in unwanted])
            return sum(one.size_bytes for one in unwanted if one.diff_id in gone)

    def forget(self, image_id: str, *, keep_layers: bool) -> _Texts:
        """Remove an image without asking; give the diff ids of the layers that went with it, highest first."""
        config = self._configs.drop(image_id)
        wanted = self._configs.layers()
        gone = [] if keep_layers else [one for one in reversed(diff_ids(config)) if one not in wanted]
        return self.shelf.remove(gone)

    # Archives

    def save(self, names: Sequence[str], target: BinaryIO) -> None:
        """Write images as `docker save` does; see :func:`~dockerlab.engine.images.archive.save`."""
        archive.save(self, names, target)

    def load(self, source: BinaryIO) -> _Texts:
        """Read images as `docker load` does; see :func:`~dockerlab.engine.images.loading.load`."""
        return loading.load(self, source)

    def import_(
        self,
        source: BinaryIO,
        reference: Reference | str | None = None,
        changes: Mapping[str, Any] | None = None,
        message: str = "",
    ) -> ImageRecord:
        """Make an image of a root file system; see :func:`~dockerlab.engine.images.archive.import_`."""
        return archive.import_(self, source, reference, changes, message)

    def workspace(self) -> tempfile.TemporaryDirectory[str]:
        """Give a folder for files that are only needed now, on the disk of the store."""
        return tempfile.TemporaryDirectory(dir=self.temporary, prefix="work-", ignore_cleanup_errors=True)
