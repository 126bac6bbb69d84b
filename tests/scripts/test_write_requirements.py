"""The hashed requirements and the bill of materials: what the pins say, whole, and made from pip's report alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scripts.write_requirements import bill_of_materials, packages_of, requirements

ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:([0-9a-f]{64})")


def report(**archive) -> dict:
    ours = {"is_direct": True, "download_info": {}, "metadata": {"name": "napari-tapct", "version": "1"}}
    info = {"archive_info": {"hashes": archive}}
    metadata = {"name": "A_b.C", "version": "2.0+cpu", "license_expression": "MIT"}
    return {"install": [ours, {"is_direct": False, "download_info": info, "metadata": metadata}]}


def written() -> dict[str, tuple[str, str]]:
    """Name -> version and hash of the file in the checkout; each line is one."""
    lines = (ROOT / "requirements" / "linux-cp311.txt").read_text().splitlines()
    found = [LINE.fullmatch(line) for line in lines if not line.startswith(("#", "--"))]
    assert found and all(found)
    return {one[1]: (one[2], one[3]) for one in found}


def test_each_package_has_one_line_with_its_hash():
    packages = packages_of(report(sha256="0" * 64))
    assert requirements(packages).endswith("\na-b-c==2.0+cpu --hash=sha256:" + "0" * 64 + "\n")
    (component,) = bill_of_materials(packages, "1")["components"]
    assert component["purl"] == "pkg:pypi/a-b-c@2.0%2Bcpu" and component["licenses"] == [{"expression": "MIT"}]


def test_a_package_without_a_hash_is_refused():
    with pytest.raises(ValueError, match="A_b.C comes from no archive"):
        packages_of(report())


def test_the_file_says_what_the_pins_say():
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    off = {name: version for name, (version, _) in written().items() if version.split("+")[0] != pins.get(name)}
    assert not off, f"run scripts/write_requirements.py: {off}"


def test_the_bill_of_materials_is_of_the_same_packages():
    bill = json.loads((ROOT / "requirements" / "sbom.cdx.json").read_text())
    found = {one["name"]: (one["version"], one["hashes"][0]["content"]) for one in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX" and found == written()
