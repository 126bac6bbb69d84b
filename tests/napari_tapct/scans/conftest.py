"""A real PACS for the window's tests too."""

from tests.tapct_core.pacs.conftest import orthanc, orthanc_program

__all__ = ["orthanc", "orthanc_program"]
