"""What a person installs: the wheel's content, the manifest, the pins, and the set-up's advice without root."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest
from npe2 import PluginManifest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the source archive and the wheel made from it, built from a copy: the checkout stays as it is."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "napari.yaml"):
        shutil.copy(ROOT / name, copy)
    for name in ("tapct_core", "napari_tapct", "training", "tests", "benchmarks", "scripts"):
        ignore = shutil.ignore_patterns("__pycache__")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignore)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", copy / "dist", copy]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(built) -> zipfile.ZipFile:
    return zipfile.ZipFile(next(built.glob("*.whl")))


def test_wheel_holds_the_two_packages_and_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tapct_core", "napari_tapct"}


def test_wheel_holds_every_module_and_every_data_file(wheel):
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("tapct_core", "napari_tapct")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    missing = wanted - set(wheel.namelist())
    assert not missing, f"not in the wheel: {sorted(missing)}"


def test_wheel_carries_licence_and_notice(wheel):
    names = [name.rsplit("/", 1)[-1] for name in wheel.namelist() if ".dist-info/licenses/" in name]
    assert sorted(names) == ["LICENSE", "NOTICE"]


def test_the_wheel_says_that_its_types_may_be_read(wheel):
    assert {"tapct_core/py.typed", "napari_tapct/py.typed"} <= set(wheel.namelist())


def test_wheel_manifest_is_a_file_and_valid(wheel, tmp_path):
    info = wheel.getinfo("napari_tapct/napari.yaml")
    assert not stat.S_ISLNK(info.external_attr >> 16)
    manifest = PluginManifest.from_file(wheel.extract(info, tmp_path))
    assert manifest.name == PROJECT["name"]
    manifest.validate_imports()
    points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "napari-tapct = napari_tapct:napari.yaml" in wheel.read(points).decode()


def test_the_version_stands_in_one_place(built):
    """pyproject.toml says it; the library reads what was installed, and the citation repeats it."""
    assert [path.name.split("-")[1] for path in built.glob("*.whl")] == [PROJECT["version"]]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {PROJECT['version']}\n" in citation


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_it_installs_in_an_environment_of_its_own_and_works(built, pattern, tmp_path):
    """pip installs the archive; what it depends on is lent from here, so that no network is needed."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    folder = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    place = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: str | Path) -> str:
        done = subprocess.run([*map(str, command)], cwd=tmp_path, env=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(run(folder / "python", "-c", where).strip())
    # venv puts an old setuptools there, which would build in the place of the one that is pinned.
    run(folder / "python", "-m", "pip", "uninstall", "-y", "setuptools")
    # A path in a .pth file lends the packages; the .pth files that lie there, of editable installs, are not read.
    (own / "lent.pth").write_text(run(sys.executable, "-c", where))
    archive = next(built.glob(pattern))
    run(folder / "python", "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", archive)
    facts = "import tapct_core as tc, napari_tapct as n; print(tc.__version__, tc.__file__, n.__file__, sep='\\n')"
    version_, *files = run(folder / "python", "-c", facts).splitlines()
    assert version_ == PROJECT["version"] and all(Path(file).is_relative_to(own) for file in files)
    sample = own / "tapct_core" / "sample_data" / "breathing_t0_ct.nii.gz"
    assert json.loads(run(folder / "tapct", "info", sample, "--json"))["kind"]
    assert "tap-ct-xs-3d (default)" in run(folder / "tapct", "doctor")


def test_installed_plugin_is_found_and_valid():
    manifest = PluginManifest.from_distribution(PROJECT["name"])
    manifest.validate_imports()
    contributed = manifest.contributions
    assert contributed.readers and contributed.writers and contributed.sample_data


def test_command_line_entry_point_loads():
    (tapct,) = entry_points(group="console_scripts", name="tapct")
    assert callable(tapct.load())


def test_editable_install_does_not_expose_training(tmp_path):
    code = "import importlib.util as u; print(u.find_spec('tapct_core') is None, u.find_spec('training') is None)"
    # What is installed is asked for, not what a PYTHONPATH adds to it.
    place = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=place, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["False", "True"]


def test_constraints_pin_everything_that_gets_installed():
    """Each requirement of ours and of theirs has one exact version, and it satisfies whoever asks for it."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in lines}
    todo = [Requirement(r) for r in PROJECT["dependencies"]]
    todo += [Requirement(r) for rs in PROJECT["optional-dependencies"].values() for r in rs]
    seen = set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name != PROJECT["name"]:
            assert name in pins, f"constraints.txt lacks {name}"
            assert wanted.specifier.contains(pins[name], prereleases=True), f"{wanted} against {pins[name]}"
        if (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        for line in distribution(name).requires or []:
            child = Requirement(line)
            if child.marker is None or any(child.marker.evaluate({"extra": e}) for e in wanted.extras | {""}):
                todo.append(child)


@pytest.fixture
def bare_machine(tmp_path):
    """setup.sh on a Debian without libraries, as a user without root, through stand-ins for four commands."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, body in {
        "ldconfig": 'printf "%s\\n" "    libGL.so.1 (libc6,x86-64) => /usr/lib/libGL.so.1"',
        "apt-get": 'echo "apt-get was called" >&2; exit 9',
        "id": "echo 1000",
        "uname": "echo Linux",
    }.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_ / name).chmod(0o755)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
        variables = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", **environment}
        command = ["sh", str(ROOT / "scripts" / "setup.sh"), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)

    return run


def test_without_root_the_exact_line_is_printed(bare_machine):
    run = bare_machine("display", DISPLAY=":0")
    (line,) = (text.strip() for text in run.stderr.splitlines() if "apt-get" in text)
    assert run.returncode == 1
    assert line.startswith("sudo apt-get update && sudo apt-get install -y --no-install-recommends libegl1 libopengl0 ")
    assert "libxcb-cursor0" in line and "libgl1 " not in line + " "  # libGL.so.1 is there
    assert "apt-get was called" not in run.stderr


def test_without_a_python_the_message_says_what_is_needed(bare_machine):
    run = bare_machine("packages", PYTHON="python-that-is-not-there")
    assert run.returncode == 1
    assert "No Python 3.11 or newer found" in run.stderr and "make PYTHON=" in run.stderr
