"""The import rule: who may import whom, that no files import each other in a circle, and that nothing heavy is loaded
before it is needed.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).resolve().parents[1]

# From the ground up: a file imports only from files above it, on its own line or earlier.
ROWS = """
lazy terminal errors files tables patient_key strict_json disk folder_lock exchange atomic write_lock progress
geometry
volume
body hu_windows
io
pacs
synthetic_lesions synthetic samples
preprocessing crops cpu_kernels vit
encoders
sliding_windows features
provenance store_files store_format store embedding_state embedding archive
matching
probe
delineation
lesions
imports
pictures thumbnails
export
demo doctor
cli
"""
ORDER = ROWS.split()
FILES = sorted((ROOT / "tapct_core").rglob("*.py"))
assert FILES

# Each package, and the others of this repository that it may import.
STANDS_ON = {"tapct_core": set(), "training": {"tapct_core"}, "napari_tapct": {"tapct_core"}}
OTHERS = {"tapct_core", "training", "napari_tapct", "benchmarks", "scripts", "tests"}


@cache
def imports(path: Path, root: Path) -> frozenset[tuple[str, str]]:
    """(module, name) of all that a file imports, in functions and for types alone too; name "" for whole modules."""
    package = path.relative_to(root).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *([node.module] if node.module else [])))
            found |= {(base, alias.name) for alias in node.names}
    return frozenset(found)


def imported(path: Path) -> set[str]:
    """Absolute dotted names that a file imports, and the modules that they are taken from."""
    return {full for base, name in imports(path, ROOT) for full in (base, f"{base}.{name}".rstrip("."))}


def circles(root: Path, *packages: str) -> set[frozenset[str]]:
    """The sets of files, as paths from ``root``, in which every file reaches every other by imports.

    ``from .folder import name`` leads to the file of that name where there is one, else to the folder's __init__.
    """
    files = sorted(file for package in packages for file in (root / package).rglob("*.py"))
    paths = [file.relative_to(root).as_posix() for file in files]
    place = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): i for i, path in enumerate(paths)}
    edges = np.zeros((len(files), len(files)), bool)
    for number, file in enumerate(files):
        for base, name in imports(file, root):
            used = place.get(f"{base}.{name}", place.get(base))
            if used is not None and used != number:
                edges[number, used] = True
    _, group = connected_components(edges, connection="strong")
    members = [frozenset(paths[i] for i in np.flatnonzero(group == one)) for one in np.unique(group)]
    return {files for files in members if len(files) > 1}


def test_relative_imports_are_resolved(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / "tapct_core" / "io" / "x.py"
    file.parent.mkdir(parents=True)
    file.write_text("from ..volume import CTVolume\nfrom . import nifti\ndef f():\n    import torch.nn\n")
    assert {"tapct_core.volume.CTVolume", "tapct_core.io.nifti", "torch.nn"} <= imported(file)


@pytest.mark.parametrize(
    ("texts", "circle"),
    [
        (
            {
                "a/x.py": "from .sub import y",
                "a/sub/__init__.py": "from .y import Y",
                "a/sub/y.py": "if TYPE_CHECKING:\n    from .z import Z",
                "a/sub/z.py": "def f():\n    import a.x",
                "a/w.py": "from . import x\nfrom a.sub import Y",
            },
            {"a/x.py", "a/sub/y.py", "a/sub/z.py"},
        ),
        (
            {"a/v.py": "from .sub import U", "a/sub/__init__.py": "from .u import U", "a/sub/u.py": "import a.v"},
            {"a/v.py", "a/sub/__init__.py", "a/sub/u.py"},
        ),
        ({"a/x.py": "from . import y", "a/y.py": "from a import z", "a/z.py": "import numpy.x"}, None),
    ],
)
def test_a_circle_is_seen_through_folders_functions_and_types(tmp_path, texts, circle):
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert circles(tmp_path, "a") == ({frozenset(circle)} if circle else set())


def test_no_files_import_each_other_in_a_circle():
    found = circles(ROOT, *STANDS_ON)
    assert not found, "these files import each other in a circle, which hides what rests on what"


@pytest.mark.parametrize("package", STANDS_ON)
def test_a_package_imports_none_that_stands_above_it(package):
    for path in (ROOT / package).rglob("*.py"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & OTHERS - {package} - STANDS_ON[package], path


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
    extras = project["optional-dependencies"]
    extra = {canonicalize_name(Requirement(r).name) for name in ("dicom", "pacs") for r in extras[name]}
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
