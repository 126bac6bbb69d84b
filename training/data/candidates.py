"""What under a folder may be a scan: volume files by their name, DICOM by content, every series on its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tapct_core.errors import UserError
from tapct_core.files import open_regular
from tapct_core.io.suffixes import suffix_of
from tapct_core.tables import read_text


@dataclass(frozen=True)
class Candidate:
    """A file or a DICOM series that may be a scan; ``files`` are all it is made of."""

    path: Path
    files: tuple[Path, ...]
    series: str | None = None

    @property
    def name(self) -> str:
        """What reports call it: the path, with the series where a folder holds several."""
        return f"{self.path}#{self.series}" if self.series else str(self.path)

    def stamp(self) -> str:
        """Names, sizes and times of the files: unchanged means not to be looked at again."""
        digest = hashlib.sha256()
        for file in self.files:
            stat = file.stat()
            digest.update(f"{file}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def find_candidates(folder: Path) -> Iterator[Candidate]:
    """Everything under ``folder`` (or listed in a text file, one path a line) that may be a scan, in sorted order."""
    if folder.is_file() and folder.suffix == ".txt":
        for line in read_text(folder, "a text file with one path a line").splitlines():
            path = Path(line.strip())
            if line.strip():
                yield from find_candidates(path) if path.is_dir() else [Candidate(path, (path,))]
        return
    if folder.is_file():
        yield Candidate(folder, (folder,))
        return
    for where, folders, names in os.walk(folder):
        folders.sort()
        others = []
        for name in sorted(names):
            path = Path(where) / name
            if suffix_of(path):  # any other file may be a DICOM slice, which its content tells
                yield Candidate(path, (path,))
            elif is_dicom(path):
                others.append(path)
        yield from dicom_series(Path(where), others)


def is_dicom(path: Path) -> bool:
    """Whether a file says it is DICOM (the four letters after the preamble)."""
    try:
        with open_regular(path) as file:
            return file.read(132)[128:] == b"DICM"
    except (OSError, UserError):
        return False


def dicom_series(folder: Path, files: list[Path]) -> list[Candidate]:
    """The CT series among DICOM files of one folder, told apart by their UID; a file that is damaged stands alone."""
    from tapct_core.io.dicom_opening import open_dicom

    series: dict[str, list[Path]] = {}
    damaged = []
    for file in files:
        try:
            header = open_dicom(file, ["SeriesInstanceUID", "Modality"])
        except Exception:  # a broken file can raise anything; who reads the candidate says so in one line
            damaged.append(Candidate(file, (file,)))
            continue
        if header.get("Modality", "CT") == "CT":
            series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(file)
    return [*(Candidate(folder, tuple(files), uid or None) for uid, files in sorted(series.items())), *damaged]
