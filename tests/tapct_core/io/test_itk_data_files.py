"""Data in one file a slice, or in a few: the files that a header names are those that are read, as ITK does."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from tapct_core.io import load_ct
from tests.tapct_core.io.test_itk_headers import mhd

SHAPE = "40 30 20"


@pytest.fixture
def hu(small_hu):
    return np.ascontiguousarray(small_hu.T)


def slices(folder, hu, names, skip=b"", pack=bytes):
    """The volume (z, y, x) in as many files as there are names, each with as many slices."""
    for name, part in zip(names, np.split(hu, len(names)), strict=True):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(skip + pack(part.tobytes()))
    return list(names)


def nhdr(path, data, lines="", encoding="raw"):
    path.write_text(
        f"NRRD0004\ntype: short\ndimension: 3\nsizes: {SHAPE}\nspacings: 1.5 1.2 2.5\nendian: little\n{lines}"
        f"encoding: {encoding}\ndata file: {data}\n"
    )
    return path


def as_itk_reads(path, hu):
    assert np.array_equal(load_ct(path).hu, hu)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), hu)


ORDER = [f"part {k:02d}.raw" for k in (7, 3, 11, *range(12, 29))]  # not the order of their names


@pytest.mark.parametrize("word", ["LIST", "LIST 2"])
def test_a_list_of_slices(tmp_path, hu, word):
    names = "\n".join(slices(tmp_path, hu, ORDER))
    as_itk_reads(nhdr(tmp_path / "a.nhdr", f"{word}\n{names}"), hu)
    as_itk_reads(mhd(tmp_path / "a.mhd", f"{word}\n{names}\n"), hu)


@pytest.mark.parametrize(
    ("pattern", "numbers", "form"),
    [
        ("s%03d.raw 5 24 1", range(5, 25), "s{:03d}.raw"),
        ("s%d.raw 24 5 -1", range(24, 4, -1), "s{}.raw"),
        ("raw/ct_%02d 0 38 2", range(0, 39, 2), "raw/ct_{:02d}"),
    ],
)
def test_a_numbered_pattern(tmp_path, hu, pattern, numbers, form):
    slices(tmp_path, hu, [form.format(n) for n in numbers])
    path = nhdr(tmp_path / "a.nhdr", pattern)
    assert np.array_equal(load_ct(path).hu, hu)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), hu)
    assert np.array_equal(load_ct(mhd(tmp_path / "a.mhd", pattern)).hu, hu)


def test_metaimage_counts_from_one_where_it_says_no_numbers(tmp_path, hu):
    slices(tmp_path, hu, [f"s{n:03d}.raw" for n in range(1, 21)])
    as_itk_reads(mhd(tmp_path / "a.mhd", "s%03d.raw"), hu)


def test_a_percent_sign_may_be_one_files_name(tmp_path, hu):
    hu.tofile(tmp_path / "50%d.raw")
    assert np.array_equal(load_ct(mhd(tmp_path / "a.mhd", "50%d.raw")).hu, hu)


def test_packed_slices_headers_of_their_own_and_slabs(tmp_path, hu):
    names = "\n".join(slices(tmp_path, hu, ORDER, pack=gzip.compress))
    as_itk_reads(nhdr(tmp_path / "a.nhdr", f"LIST\n{names}", encoding="gzip"), hu)
    names = "\n".join(slices(tmp_path, hu, ORDER, skip=b"own header"))
    assert np.array_equal(load_ct(nhdr(tmp_path / "b.nhdr", f"LIST\n{names}", "byte skip: 10\n")).hu, hu)
    assert np.array_equal(load_ct(mhd(tmp_path / "b.mhd", f"LIST\n{names}", "HeaderSize = -1\n")).hu, hu)
    names = "\n".join(slices(tmp_path, hu, ORDER[:4]))
    assert np.array_equal(load_ct(nhdr(tmp_path / "c.nhdr", f"LIST 3\n{names}")).hu, hu)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda names: names[:-1], "names 19 data files for 20 slices"),
        (lambda names: [], "names 0 data files"),
        (lambda names: [*names, *names], "names 40 data files"),
        (lambda names: [*names[:-1], "gone.raw"], "needs its data file 'gone.raw'"),
        (lambda names: [*names[:-1], "../ct.raw"], "outside its own folder"),
        (lambda names: [*names[:-1], "short.raw"], "short.raw is truncated"),
        (lambda names: [*names[:-1], "long.raw"], "more data than its header"),
    ],
)
def test_files_that_are_not_the_volume_are_refused(tmp_path, hu, refused, change, words):
    folder = tmp_path / "in"
    names = change(slices(folder, hu, ORDER))
    for path, count in ((tmp_path / "ct.raw", 2400), (folder / "short.raw", 2398), (folder / "long.raw", 2401)):
        path.write_bytes(bytes(count))
    listed = "LIST\n" + "\n".join(names)
    refused(load_ct, nhdr(folder / "a.nhdr", listed), words)
    refused(load_ct, mhd(folder / "a.mhd", listed), words)


@pytest.mark.parametrize(
    "pattern", ["s%03d.raw 1 20 0", "s%03d.raw 20 1 1", "s%x.raw 1 20 1", "%n%n", "%9d 1 900000 1"]
)
def test_patterns_that_count_no_slices_are_refused(tmp_path, refused, pattern):
    refused(load_ct, nhdr(tmp_path / "a.nhdr", pattern), "in a way that is not read")
    refused(load_ct, mhd(tmp_path / "a.mhd", pattern), "in a way that is not read")
