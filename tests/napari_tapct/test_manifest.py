"""The manifest: valid, and every name in it leads somewhere."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_tapct

MANIFEST = PluginManifest.from_file(Path(napari_tapct.__file__).with_name("napari.yaml"))


@pytest.mark.parametrize("command", MANIFEST.contributions.commands, ids=lambda one: one.id)
def test_every_python_name_imports(command):
    module, name = command.python_name.split(":")
    assert callable(getattr(import_module(module), name))


def test_widgets_and_samples_are_there():
    assert {one.display_name for one in MANIFEST.contributions.widgets} == {
        "Start here", "Scans", "Features", "Segment", "Follow-up",
    }  # fmt: skip
    assert {one.key for one in MANIFEST.contributions.sample_data} == {
        "breathing_pair", "abdomen_pelvis", "synthetic_follow_up",
    }  # fmt: skip


def test_commands_that_are_used_exist():
    known = {one.id for one in MANIFEST.contributions.commands}
    used = [one.command for one in (*MANIFEST.contributions.widgets, *MANIFEST.contributions.sample_data)]
    used += [item.command for items in MANIFEST.contributions.menus.values() for item in items]
    assert set(used) <= known
