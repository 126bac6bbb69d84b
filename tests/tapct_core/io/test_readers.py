"""A format is a file with a reader and its row in the table: what is read, listed and known by content follows."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from tapct_core.io import kind_of, load_ct, load_labels, readers, suffixes


@pytest.fixture
def toy(monkeypatch):
    """A reader of files that begin with TOY1, put in as a format would be."""
    module = ModuleType("tapct_core.io.toy")
    module.kind_of = lambda head: "toy" if head.startswith(b"TOY1") else ""
    module.read_ct = lambda path, hu_offset: _found("ct", path, hu_offset)
    module.read_labels = lambda path: ("labels", path)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(suffixes.BY_FORMAT, "Toy", (".toy",))
    monkeypatch.setitem(suffixes.READ_BY, "Toy", "toy")
    monkeypatch.setattr(readers, "READERS", [*readers.READERS, module])
    return module


def _found(*what):
    raise Found(*what)


class Found(Exception):
    """Carries what a reader was given."""


def test_the_table_names_a_reader_for_every_volume_format():
    assert set(suffixes.BY_FORMAT) - set(suffixes.READ_BY) == {"DICOM"}
    for reader in readers.READERS:
        assert all(callable(getattr(reader, name)) for name in ("kind_of", "read_ct", "read_labels", "read_source"))


def test_a_format_is_known_by_content_and_handed_to_its_reader(toy, tmp_path):
    path = tmp_path / "scan.bin"  # whatever it is called
    path.write_bytes(b"TOY1 and more")
    assert kind_of(path) == "toy"
    assert load_labels(path) == ("labels", path)
    with pytest.raises(Found) as found:
        load_ct(path, hu_offset=-1024)
    assert found.value.args == ("ct", path, -1024)


def test_what_a_packed_file_is_its_name_says(tmp_path):
    for name, reader in (("a.nii.gz", "nifti"), ("a.NRRD", "itk"), ("a.mhd", "itk")):
        assert readers.reader_named(tmp_path / name).__name__ == f"tapct_core.io.{reader}"
    assert readers.reader_of(b"\x1f\x8b\x08") is None
