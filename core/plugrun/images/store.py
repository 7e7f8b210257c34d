"""The content store: images by name and id, their blobs in an OCI image layout directory.

``index.json`` holds one entry a name, or one without a name for an image that has none; the name is the canonical
reference, in the annotation ``org.opencontainers.image.ref.name``. Readers need no lock: the index is replaced in one
step, and blobs never change.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING, BinaryIO

from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound
from plugrun.images import digest as digests
from plugrun.images import layout, names, reference
from plugrun.images.image import Image, Layer, LoadedImage, Removed, Staged, read_image, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from plugrun.images.importer import ImportOptions
    from plugrun.images.ingest import Ingest
    from plugrun.images.manifest import Descriptor
    from plugrun.images.save import Archive

__all__ = ["Image", "ImageStore", "Layer", "LoadedImage", "Removed"]

_HEX = frozenset("0123456789abcdef")
_MAX_NAMES = 1000  # of one load


class ImageStore:
    """Images of one engine. Making one does no I/O; a store that does not exist yet is empty.

    :param root: directory of the OCI image layout.
    :param room: entered while a removal is written down; makes sure that there is room on the disk.
    """

    def __init__(
        self, root: Path, *, room: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    ) -> None:
        self.root = root
        self._room = room

    def resolve(self, name: str) -> Image:
        """Find an image by reference, by id, by digest, or by the beginning of its id.

        :raises NotFound: there is none.
        :raises InvalidArgument: the beginning of an id fits several images, or ``name`` can be none of these.
        :raises FailedPrecondition: it is damaged.
        """
        entries = layout.read_index(self.root)
        entry, _ = self._find(entries, name)
        try:
            return read_image(self.root, entry, names.references_of(entries, entry.digest))
        except FailedPrecondition as error:
            error.hint = error.hint or f"remove it and load it again: plugrun rmi {name}"
            raise

    def list(self, *, damaged: Callable[[str], None] | None = None) -> list[Image]:
        """Return all images, in the order they came.

        :param damaged: told about each image that cannot be read; it is left out.
        """
        same: dict[str, list[Descriptor]] = {}
        for entry in layout.read_index(self.root):
            same.setdefault(entry.digest, []).append(entry)
        found = []
        for digest, entries in same.items():
            entry = entries[-1]
            try:
                found.append(read_image(self.root, entry, names.references_of(entries, digest)))
            except FailedPrecondition as error:
                if damaged is not None:
                    damaged(f"{names.name_of(entry) or entry.digest}: {error}")
        return found

    def load(self, source: str | None) -> Sequence[LoadedImage]:
        """Add the images of an archive or an OCI layout directory: all of them, or none.

        :param source: its path; ``None`` reads an archive from standard input.
        :raises NotFound: no such file.
        :raises InvalidArgument: it is no image archive, or damaged.
        :raises FailedPrecondition: its images are for other machines, or the store has no room for their names.
        """
        from plugrun.images import archive

        with self.session() as work:
            return self.publish(work, archive.stage(source, work))

    def import_tar(self, source: str | None, options: ImportOptions) -> Image:
        """Make an image of one layer from a tar of a root file system; parameters as :meth:`load`."""
        from plugrun.images import importer

        with self.session() as work:
            self.publish(work, [staged := importer.stage(source, options, work)])
        return self.resolve(staged.image_id)

    def tag(self, image: Image, name: str) -> None:
        """Give an image one more name; an image that had it loses it.

        :raises InvalidArgument: ``name`` is no reference, or has a digest.
        :raises FailedPrecondition: the store has no room for more names.
        """
        wanted = reference.parse(name)
        if wanted.digest:
            raise InvalidArgument(f"{name} has a digest; an image can be given a tag only")
        with self._locked():
            entries = layout.read_index(self.root)
            own = next((entry for entry in entries if entry.digest == image.manifest_digest), None)
            if own is None:
                raise NotFound(f"image {digests.short(image.id)} has been removed")
            table = names.Names(entries)
            table.give(wanted.canonical(), own)
            layout.write_index(self.root, table.entries())

    def untag(self, name: str) -> None:
        """Take a name from its image, which stays, also when it was the last one.

        :raises NotFound: no image has the name.
        """
        wanted = reference.parse(name).canonical()
        with self._locked():
            table = names.Names(layout.read_index(self.root))
            if table.take(wanted) is None:
                raise NotFound(f"no image is named {name!a}", hint="plugrun images lists the names there are")
            layout.write_index(self.root, table.entries())

    def remove(self, name: str, *, force: bool, in_use: Callable[[str], Sequence[str]]) -> Sequence[Removed]:
        """Take a name from an image, and delete the image when it was the last; by id, delete it with all names.

        :param force: also when it has several names (by id), or containers.
        :param in_use: tells which containers are made from an image id, or mount it.
        :raises NotFound: there is no such image.
        :raises FailedPrecondition: it needs ``force``.
        """
        with self._removing():
            entries = layout.read_index(self.root)
            entry, by_name = self._find(entries, name)
            image_id = self._id(entry)
            same = [item for item in entries if item.digest == entry.digest or self._id(item) == image_id]
            victims = [item for item in same if names.name_of(item) == names.name_of(entry)] if by_name else same
            tags = [names.name_of(item) for item in victims if names.name_of(item)]
            if len(tags) > 1 and not force:
                raise FailedPrecondition(
                    f"image {digests.short(image_id)} has several names: {', '.join(map(names.familiar, tags))}",
                    hint="remove it by name, or use --force to remove all",
                )
            deleted = len(victims) == len(same)
            if deleted and not force and (users := in_use(image_id)):
                raise FailedPrecondition(
                    f"image {name} is in use by container{'s' * (len(users) > 1)} {', '.join(users)}",
                    hint="remove them first, or use --force: those that only mount it will not start then",
                )
            left = [item for item in entries if item not in victims]
            from plugrun.images import garbage

            with self._room(), garbage.collected(self.root):
                layout.write_index(self.root, left)
                garbage.collect(self.root, victims, left)
        return [*(Removed(untagged=tag) for tag in tags), *([Removed(deleted=image_id)] if deleted else ())]

    def prune(self, unwanted: Callable[[Image], bool]) -> tuple[Sequence[Removed], int]:
        """Delete images with all their names.

        :param unwanted: whether to delete one; asked while nobody else can change the store. Damaged ones stay.
        :return: what was taken away, and the bytes of the blobs that are gone.
        """
        from plugrun.images import prune

        with self._removing():
            return prune.delete(self.root, unwanted, self._room)

    def save(self, wanted: Sequence[str], archive: Archive) -> None:
        """Write images as an archive.

        :param wanted: names, repositories and ids, see :func:`plugrun.images.save.choose`.
        :raises NotFound: there is no such image, or none for the platform.
        :raises FailedPrecondition: an image is damaged; nothing has been written.
        """
        from plugrun.images import save

        entries = layout.read_index(self.root)
        chosen = save.choose(entries, wanted, lambda name: self._find(entries, name))
        with self.session() as work:
            save.write(self.root, work, chosen, archive)

    def open_layer(self, layer: Layer) -> BinaryIO:
        """Return a layer's uncompressed bytes.

        Reading them to the end checks digest, size and diff id; ``read`` raises :class:`InvalidArgument` when one is
        wrong.

        :raises FailedPrecondition: the blob is missing.
        """
        from plugrun.images import streams

        path = layout.blob_path(self.root, layer.digest)
        what = f"layer {digests.short(layer.digest)}"
        try:
            raw = io.FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
        except FileNotFoundError:
            raise FailedPrecondition(f"{what} is missing from the image store", hint="load the image again") from None
        return streams.open_layer(raw, what, digest=layer.digest, size=layer.size, diff_id=layer.diff_id).stream

    def session(self) -> AbstractContextManager[Ingest]:
        """Open a working directory for adding images; what is not published from it is gone afterwards."""
        from plugrun.images import ingest

        return ingest.session(self.root, recover=self._recover)

    def publish(self, work: Ingest, images: Sequence[Staged]) -> Sequence[LoadedImage]:
        """Link the blobs of a load into the store and name its images, all at once.

        :param work: what :meth:`session` gave.
        :raises InvalidArgument: a name contains the digest of another image, or there are too many.
        :raises FailedPrecondition: the store has no room for the names.
        """
        count = sum(len(image.references) or 1 for image in images)
        if count > _MAX_NAMES:
            raise InvalidArgument(f"there are {count} names and images, and one load adds {_MAX_NAMES} at most")
        blobs = {blob for image in images for blob in image.blobs}
        new = {image.manifest.digest: image.image_id for image in images}
        work.sync(blobs)
        with self._locked():
            table = names.Names(layout.read_index(self.root))
            ids = {digest: self._id(entry) for digest, entry in {item.digest: item for item in table.entries()}.items()}
            there = set(ids.values())
            ids |= new
            loaded, unneeded = [], [image.manifest for image in images]
            for image in images:
                replaced = {}
                for name in image.references:
                    displaced = table.give(name, image.manifest, source=image.source)
                    if displaced is not None and ids[displaced.digest] == image.image_id:
                        # the same image packed differently: nobody needs both
                        table.drop(displaced)
                        unneeded.append(displaced)
                    elif displaced is not None:
                        replaced[name] = ids[displaced.digest]
                if image.image_id not in there:
                    table.keep(image.manifest)
                there.add(image.image_id)
                loaded.append(LoadedImage(image.image_id, image.references, replaced, image.label))
            entries = table.entries()
            layout.encode_index(entries)  # an index that is refused leaves no blobs behind
            present = {entry.digest for entry in entries}
            from plugrun.images import garbage

            with garbage.collected(self.root):
                work.publish(blobs)
                layout.write_index(self.root, entries)
                if victims := [entry for entry in unneeded if entry.digest not in present]:
                    garbage.collect(self.root, victims, entries)
        return loaded

    def _find(self, entries: Sequence[Descriptor], name: str) -> tuple[Descriptor, bool]:
        """Find an entry; also tell whether that was by name."""
        wanted = name.removeprefix("sha256:")
        if not digests.is_digest(name) and not (len(name) == 64 and set(name) <= _HEX):
            if found := names.find(entries, reference.parse(name)):
                return found, True
            if not set(wanted) <= _HEX:
                wanted = ""
        if wanted and (found := names.find_by_id(entries, name, wanted, self._id)):
            return found, False
        raise names.absent(entries, name)

    def _id(self, entry: Descriptor) -> str:
        """Return an entry's image id, or for a damaged one its own digest, so that it can still be removed."""
        try:
            return read_manifest(self.root, entry).config.digest
        except FailedPrecondition:
            return entry.digest

    def _recover(self) -> None:
        from plugrun.images import garbage

        with self._locked():
            garbage.collect_orphans(self.root)

    @contextlib.contextmanager
    def _removing(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            with self._room():
                # What a removal leaves that is killed half-way is collected as what a load leaves.
                stack.enter_context(self.session())
            stack.enter_context(self._locked())
            yield

    def _locked(self) -> AbstractContextManager[int]:
        layout.ensure(self.root)
        return layout.locked(self.root)
