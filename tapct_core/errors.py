"""The one error that a person is meant to read."""

from __future__ import annotations


class UserError(ValueError):
    """Something about the input is wrong; the message is one line that says what, and what to do.

    The commands print it to stderr and exit with code 2, the plugin shows it as a notification;
    neither shows a traceback.
    """
