"""A tree of files: a folder, a tar or zip archive, or several of them side by side, read through one small interface.

Archives are never unpacked to disk: members are read into memory (compressed tar) or where they lie (plain tar, zip),
so a member called ``../../x`` is a name and nothing more.
"""

from __future__ import annotations

import lzma
import os
import posixpath
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from fovea.errors import DataError

__all__ = ["ARCHIVES", "ArchiveTree", "FolderTree", "Tree", "UnionTree", "is_archive", "machine_memory", "open_tree"]

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
_JUNK = {"__MACOSX", "Thumbs.db", "desktop.ini"}


def is_archive(name: str) -> bool:
    """Whether a file name ends like an archive that can be read."""
    return name.lower().endswith(ARCHIVES)


def machine_memory() -> int:
    """Bytes of physical memory (8 GiB where the system does not say)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 << 30


def _hidden(path: str) -> bool:
    return any(part.startswith(".") or part in _JUNK for part in path.split("/"))


class Tree:
    """Files by path: ``/`` separated, relative, sorted; hidden files and system litter are left out."""

    def __init__(self, name: str, sizes: dict[str, int], empty: tuple[str, ...] = ()) -> None:
        self.name = name
        self.sizes = dict(sorted(sizes.items()))
        self.empty = empty  # folders that hold nothing: an empty class is worth a warning

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path, sorted."""
        return tuple(self.sizes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sizes)

    def __contains__(self, path: str) -> bool:
        return path in self.sizes

    def read(self, path: str) -> bytes:
        """The file's bytes. Raises DataError when it is missing or unreadable. Safe from several threads."""
        raise NotImplementedError


class FolderTree(Tree):
    """A folder on disk; with ``names`` only those files in it are listed (others can still be read by path)."""

    def __init__(self, root: Path, names: list[str] | None = None) -> None:
        self.root = root
        if names is not None:
            super().__init__(str(root), {name: (root / name).stat().st_size for name in names})
            return
        sizes: dict[str, int] = {}
        empty: list[str] = []
        above = {str(root): frozenset({os.path.realpath(root)})}
        for folder, folders, files in os.walk(root, followlinks=True):
            folders[:] = sorted(name for name in folders if not _hidden(name) and _is_no_circle(folder, name, above))
            inside = os.path.relpath(folder, root).replace(os.sep, "/")
            prefix = "" if inside == "." else inside + "/"
            kept = [name for name in files if not _hidden(name)]
            for name in kept:
                try:
                    sizes[prefix + name] = os.stat(os.path.join(folder, name)).st_size
                except OSError:  # a dangling link: kept, so that reading it is reported as a bad file
                    sizes[prefix + name] = 0
            if prefix and not kept and not folders:
                empty.append(inside)
        super().__init__(str(root), sizes, tuple(sorted(empty)))

    def read(self, path: str) -> bytes:
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            raise DataError(path, f"cannot be read: {error.strerror or error}") from None


class ArchiveTree(Tree):
    """A tar (plain or compressed) or zip archive."""

    def __init__(self, file: Path, max_memory: int | None = None) -> None:
        self.file = file
        self._limit = max_memory if max_memory is not None else machine_memory() // 2
        self._held: dict[str, bytes] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._zip: zipfile.ZipFile | None = None
        self._lock = threading.Lock()
        try:
            sizes = self._index_zip() if file.name.lower().endswith(".zip") else self._index_tar()
        except DataError:
            raise
        except (
            tarfile.TarError,
            zipfile.BadZipFile,
            zlib.error,
            lzma.LZMAError,
            OSError,
            EOFError,
            ValueError,
            NotImplementedError,
        ) as error:
            raise DataError(str(file), f"is not an archive that can be read: {error or type(error).__name__}") from None
        super().__init__(str(file), sizes)

    def _index_tar(self) -> dict[str, int]:
        plain = _is_plain_tar(self.file)
        sizes: dict[str, int] = {}
        total = 0
        # Compressed archives have no random access: one streaming pass keeps the members' bytes.
        with tarfile.open(self.file, "r:" if plain else "r|*") as archive:
            for member in archive:
                path = _inside(member.name)
                if not member.isreg() or member.issparse() or path is None:
                    continue
                if plain:
                    self._places[path] = (member.offset_data, member.size)
                else:
                    total += member.size
                    self._check_size(total)
                    stream = archive.extractfile(member)
                    self._held[path] = stream.read() if stream is not None else b""
                sizes[path] = member.size
        return sizes

    def _index_zip(self) -> dict[str, int]:
        self._zip = zipfile.ZipFile(self.file)
        sizes = {}
        for member in self._zip.infolist():
            path = _inside(member.filename)
            if path is not None and not member.is_dir():
                sizes[path] = member.file_size
                self._check_size(member.file_size)
        self._names = {_inside(name): name for name in self._zip.namelist()}
        return sizes

    def _check_size(self, total: int) -> None:
        if total > self._limit:
            raise DataError(
                str(self.file),
                f"holds more than {self._limit / 1e9:.1f} GB when unpacked in memory; unpack it to a folder first",
            )

    def read(self, path: str) -> bytes:
        try:
            if path in self._held:
                return self._held[path]
            if path in self._places:
                offset, size = self._places[path]
                with open(self.file, "rb") as stream:
                    stream.seek(offset)
                    return stream.read(size)
            if self._zip is not None and path in self.sizes:
                with self._lock:  # ZipFile shares one file position
                    return self._zip.read(self._names[path])
        except (
            OSError,
            zipfile.BadZipFile,
            zlib.error,
            lzma.LZMAError,
            EOFError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise DataError(path, f"cannot be read from {self.file.name}: {error}") from None
        raise DataError(path, f"is not in {self.file.name}")


class UnionTree(Tree):
    """Several trees, each under a prefix ("" or a folder name)."""

    def __init__(self, name: str, parts: list[tuple[str, Tree]]) -> None:
        self._owner: dict[str, tuple[Tree, str]] = {}
        sizes: dict[str, int] = {}
        for prefix, tree in parts:
            for path, size in tree.sizes.items():
                full = f"{prefix}/{path}" if prefix else path
                if full in self._owner:
                    raise DataError(name, f"two archives hold {full!r}; put them into folders of their own")
                self._owner[full] = (tree, path)
                sizes[full] = size
        super().__init__(name, sizes)

    def read(self, path: str) -> bytes:
        if path not in self._owner:
            raise DataError(path, f"is not in {self.name}")
        tree, inner = self._owner[path]
        return tree.read(inner)


def open_tree(path: Path, max_memory: int | None = None) -> Tree:
    """The tree of a folder or an archive file."""
    if path.is_dir():
        return FolderTree(path)
    return ArchiveTree(path, max_memory)


def _is_no_circle(folder: str, name: str, above: dict[str, frozenset[str]]) -> bool:
    """Linked folders are followed, unless they lead back to a folder that they lie in (``above``: those of each)."""
    path = os.path.join(folder, name)
    real = os.path.realpath(path)
    above[path] = above[folder] | {real}
    return real not in above[folder]


def _inside(name: str) -> str | None:
    path = posixpath.normpath(name.replace("\\", "/")).lstrip("/")
    if path in ("", ".") or path.startswith("../") or _hidden(path):
        return None
    return path


def _is_plain_tar(file: Path) -> bool:
    with open(file, "rb") as stream:
        head = stream.read(6)
    return not head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ"))
