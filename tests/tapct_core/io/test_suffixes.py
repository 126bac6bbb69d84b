"""The one table of suffixes: names, what is written, and that the manifest offers the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapct_core.io.suffixes import BY_FORMAT, VOLUME_FILES, WRITTEN, stem_of, suffix_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("a.nii.gz", "a", ".nii.gz"),
        ("A.NII", "A", ".nii"),
        ("a.b.seg.nrrd", "a.b.seg", ".nrrd"),
        ("scan.mhd", "scan", ".mhd"),
        ("slice.dcm", "slice", ""),
        ("1.2.840.113", "1.2.840.113", ""),
        (".nii", ".nii", ".nii"),
        ("a.gz", "a", ""),
    ],
)
def test_names(name, stem, suffix):
    assert (stem_of(Path("x") / name), suffix_of(Path("x") / name)) == (stem, suffix)


def test_what_is_written_is_read():
    assert set(WRITTEN) <= set(VOLUME_FILES) and set(WRITTEN.values()) <= set(BY_FORMAT)


def test_the_manifest_offers_what_the_table_has():
    known = {suffix for suffixes in BY_FORMAT.values() for suffix in suffixes}
    (line,) = [one for one in (ROOT / "napari.yaml").read_text().splitlines() if "filename_patterns" in one]
    assert {word.strip(' "*') for word in line.split("[")[1].rstrip("]").split(",")} == known
