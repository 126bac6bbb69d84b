"""What napari's preferences say for this plugin, and what holds where napari knows of none."""

from __future__ import annotations

from typing import Any

PLUGIN, PAGE = "napari-tapct", "general"
DEFAULTS = {"device": "auto", "cache_limit_gb": 50.0, "autosave_seconds": 5, "wheel": "scrolls slices"}
"""Those of the manifest; a test keeps them equal."""


def preference(name: str) -> Any:
    """The value of one preference; its default where the manifest's page is not loaded."""
    from napari.settings import get_plugin_settings

    try:
        return getattr(getattr(get_plugin_settings(PLUGIN), PAGE), name)
    except (KeyError, AttributeError):  # run from a script, without napari's plugins
        return DEFAULTS[name]


def cache_limit_gb() -> float:
    """Limit of the feature cache in 10^9 bytes; $TAPCT_CACHE_GB overrides the preference, as everywhere.

    Raises UserError where the variable is no number.
    """
    from tapct_core.files import number_from_environment
    from tapct_core.store import LIMIT

    return number_from_environment(LIMIT, float(preference("cache_limit_gb")))
