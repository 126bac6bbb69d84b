"""Words on a terminal that may know fewer letters than a patient's or a lesion's name has."""

from __future__ import annotations

import sys


def print_any_name() -> None:
    """From now on a letter that the terminal's encoding lacks is printed as an escape instead of ending the program.

    A name is what a person or a file gave it, Latin-1 is what many terminals and redirected outputs on Windows know;
    files that are written are UTF-8 whatever the terminal. Streams that somebody has put in place of the usual ones,
    and that have no encoding, stay as they are.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
