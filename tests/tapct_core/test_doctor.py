"""What this machine has: true for what is here, a remedy for what is not, and no word about whose it is."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from tapct_core import doctor
from tapct_core.cli import main
from tapct_core.store import FeatureStore


def named(name: str) -> list[doctor.Fact]:
    return [fact for fact in doctor.examine() if fact.name == name]


def test_it_says_the_versions_and_the_packaged_encoder():
    (numpy,), (python,) = named("numpy"), named("python")
    assert numpy.found == version("numpy") and python.found.startswith("3.")
    assert any("tap-ct-xs-3d" in fact.found for fact in named("encoder"))


def test_what_is_needed_and_missing_has_a_remedy(monkeypatch):
    def missing(name):
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", missing)
    facts = {fact.name: fact for fact in doctor.examine()}
    assert "install napari-tapct again" in facts["zarr"].remedy and not facts["napari"].remedy


def test_the_cache_is_counted_and_a_full_disk_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TAPCT_CACHE", str(tmp_path))
    for key in "ab":
        FeatureStore().path(key).mkdir(parents=True)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    (cache,) = named("cache")
    assert "2 feature maps, 1.0 GB free" in cache.found and "TAPCT_CACHE" in cache.remedy


def test_no_home_and_no_name_of_a_scan_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home" / "Doe^Jane")
    monkeypatch.setenv("TAPCT_CACHE", str(tmp_path / "home" / "Doe^Jane" / "cache"))
    (tmp_path / "home" / "Doe^Jane" / "cache" / "features" / "patient-4711.zarr").mkdir(parents=True)
    said = json.dumps([vars(fact) for fact in doctor.examine()])
    assert "Doe" not in said and "4711" not in said and "~/cache/features: 1 feature map" in said


def test_compressed_dicom_without_a_decoder_names_the_extra(monkeypatch):
    import pydicom.pixels

    class None_:
        is_available, available_plugins = False, ()

    monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda syntax: None_)
    facts = [fact for fact in doctor.examine() if fact.name.startswith("DICOM")]
    assert len(facts) == 4 and all("pip install pylibjpeg" in fact.remedy for fact in facts)


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"]])
def test_the_command_prints_it(capsys, words):
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "DICOM RLE" in out
    if "--json" in words:
        assert {fact["name"] for fact in json.loads(out)} >= {"device", "cache", "display", "hub"}
