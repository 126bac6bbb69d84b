"""Writes requirements/linux-cp311.txt, every package with its hash, and requirements/sbom.cdx.json, what that installs.

    python scripts/write_requirements.py [--report FILE]

For Linux on x86-64 with Python 3.11 and PyTorch's CPU build, the environment of the tests: run it in one, after a
change of constraints.txt. pip resolves and says what it would install, and nothing is installed. ``--report`` takes a
file that ``pip install --dry-run --ignore-installed --report FILE -c constraints.txt '.[all]'`` has written before.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = """\
# Written by scripts/write_requirements.py: Linux, x86-64, Python 3.11, PyTorch's CPU build. Then the package itself:
#   pip install --require-hashes -r requirements/linux-cp311.txt && pip install --no-deps .
--extra-index-url https://download.pytorch.org/whl/cpu
"""


def main() -> None:
    """Reads or makes pip's report and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="a report that pip has written before")
    args = parser.parse_args()
    report = json.loads(args.report.read_text(encoding="utf-8")) if args.report else ask_pip()
    version = next(one for one in report["install"] if one["is_direct"])["metadata"]["version"]
    packages = packages_of(report)
    write("linux-cp311.txt", requirements(packages))
    write("sbom.cdx.json", json.dumps(bill_of_materials(packages, version), indent=1) + "\n")


def ask_pip() -> dict:
    """What pip would install for everything, by its installation report (pip's docs, version 1)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--report", file]
        subprocess.run([*command, "-c", ROOT / "constraints.txt", f"{ROOT}[all]"], check=True)
        return json.loads(file.read_text(encoding="utf-8"))


def packages_of(report: dict) -> list[dict]:
    """name, version, sha256 and licence of each package but this one, by name.

    Raises ValueError for one that comes from no archive with a hash.
    """
    found = []
    for one in report["install"]:
        metadata = one["metadata"]
        if one["is_direct"]:
            continue
        sha256 = one["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if sha256 is None:
            raise ValueError(f"{metadata['name']} comes from no archive with a SHA-256")
        name = re.sub(r"[-_.]+", "-", metadata["name"]).lower()
        licence = metadata.get("license_expression", "")
        found.append({"name": name, "version": metadata["version"], "sha256": sha256, "licence": licence})
    return sorted(found, key=lambda package: package["name"])


def requirements(packages: list[dict]) -> str:
    """The text of a file for ``pip install --require-hashes -r``."""
    lines = [f"{one['name']}=={one['version']} --hash=sha256:{one['sha256']}\n" for one in packages]
    return HEADER + "".join(lines)


def bill_of_materials(packages: list[dict], version: str) -> dict:
    """CycloneDX 1.6: each package with its purl and hash, and its licence where it states an SPDX expression."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "library", "name": "napari-tapct", "version": version}},
        "components": [
            {
                "type": "library",
                "name": one["name"],
                "version": one["version"],
                "purl": f"pkg:pypi/{one['name']}@{one['version'].replace('+', '%2B')}",
                "hashes": [{"alg": "SHA-256", "content": one["sha256"]}],
                **({"licenses": [{"expression": one["licence"]}]} if one["licence"] else {}),
            }
            for one in packages
        ],
    }


def write(name: str, text: str) -> None:
    """Writes a file of requirements/."""
    (ROOT / "requirements" / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
