"""Which suffix is which format, and which file here reads it: the one table.

A format is *read* by content, whatever a file is called (:mod:`.readers`); names only say what to write, what to offer
in a dialog, and what a scan is called.
"""

from __future__ import annotations

from pathlib import Path

BY_FORMAT = {
    "NIfTI": (".nii.gz", ".nii"),
    "NRRD": (".nrrd", ".nhdr"),
    "MetaImage": (".mha", ".mhd"),
    "DICOM": (".dcm", ".dicom", ".ima"),
}
READ_BY = {"NIfTI": "nifti", "NRRD": "itk", "MetaImage": "itk"}
"""The module that reads files that are one volume each."""
VOLUME_FILES = tuple(suffix for name in READ_BY for suffix in BY_FORMAT[name])
"""Files that are one volume each, or its header; a DICOM file is mostly one slice of many."""
WRITTEN = {".nii.gz": "NIfTI", ".nii": "NIfTI", ".nrrd": "NRRD", ".mha": "MetaImage"}
"""What label maps are written as."""


def suffix_of(path: Path) -> str:
    """The suffix of a volume file in lower case, ``.nii.gz`` being one; "" for any other name."""
    return next((suffix for suffix in VOLUME_FILES if path.name.lower().endswith(suffix)), "")


def stem_of(path: Path) -> str:
    """What a scan is called: its file's or folder's name without the suffixes of the table, however many it has."""
    name = path.name or path.resolve().name or "scan"
    known = (".gz", *(suffix for suffixes in BY_FORMAT.values() for suffix in suffixes))
    while any(name.lower().endswith(suffix) and len(name) > len(suffix) for suffix in known):
        name = name[: name.rindex(".")]
    return name
