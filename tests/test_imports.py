"""The import rule: who may import whom, and that nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

# From the ground up: a file imports only from files above it, on its own line or earlier.
ROWS = """
lazy errors files strict_json atomic progress
geometry
volume
body hu_windows
io
synthetic_lesions synthetic samples
preprocessing crops cpu_kernels vit
encoders
sliding_windows features
provenance store_files store embedding_state embedding archive
matching
probe
lesions
pictures thumbnails
export
demo
cli
"""
ORDER = ROWS.split()
FILES = sorted((ROOT / "tapct_core").rglob("*.py"))
assert FILES


def imported(path: Path) -> set[str]:
    """Absolute dotted names that a file imports anywhere, inside functions too."""
    package = path.relative_to(ROOT).parent.parts
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *([node.module] if node.module else [])))
            names |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return names


def test_relative_imports_are_resolved(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / "tapct_core" / "io" / "x.py"
    file.parent.mkdir(parents=True)
    file.write_text("from ..volume import CTVolume\nfrom . import nifti\ndef f():\n    import torch.nn\n")
    assert {"tapct_core.volume.CTVolume", "tapct_core.io.nifti", "torch.nn"} <= imported(file)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_core_imports_only_from_above(path):
    home = path.relative_to(ROOT / "tapct_core").with_suffix("").parts[0]
    if home == "__init__":
        return  # fetches names on first use, from everywhere
    assert home in ORDER, f"give {home} its place in ORDER"
    used = {name.split(".")[1] for name in imported(path) if name.startswith("tapct_core.")}
    above = {*ORDER[: ORDER.index(home) + 1], "__version__"}
    assert used <= above, f"{path.name} imports from below itself: {sorted(used - above)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_core_knows_neither_faces_nor_qt(path):
    roots = {name.split(".")[0] for name in imported(path)}
    assert not roots & {"napari", "napari_tapct", "training", "qtpy", "PyQt6", "PySide6", "magicgui", "superqt"}


def test_training_does_not_import_the_plugin():
    for path in (ROOT / "training").rglob("*.py"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"napari", "napari_tapct", "qtpy"}, path


def test_core_runs_on_declared_packages():
    """What tapct_core imports is a base dependency, or belongs to an extra and is imported inside a function."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {canonicalize_name(Requirement(r).name) for r in project["dependencies"]}
    extra = {canonicalize_name(Requirement(r).name) for r in project["optional-dependencies"]["dicom"]}
    homes = packages_distributions()
    for path in FILES:
        for root in {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names - {"tapct_core", ""}:
            providers = {canonicalize_name(d) for d in homes.get(root, [root])}
            assert providers & (base | extra), f"{path.relative_to(ROOT)} imports {root}, which nothing installs"


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after ``code``."""
    code += "\nimport json, sys\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_reading_a_ct_needs_no_torch():
    assert not loaded_after("import tapct_core, tapct_core.io, tapct_core.features") & {"torch", "sklearn", "napari"}


def test_opening_the_plugin_loads_nothing_heavy():
    code = "import napari_tapct._reader, napari_tapct._writer, napari_tapct._samples"
    assert not loaded_after(code) & {"torch", "sklearn", "SimpleITK", "highdicom", "training"}
