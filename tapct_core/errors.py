"""The one error that a person is meant to read."""

from __future__ import annotations

import unicodedata


class UserError(ValueError):
    """Something about the input is wrong; the message is one line that says what, and what to do.

    The commands print it to stderr and exit with code 2, the plugin shows it as a notification;
    neither shows a traceback. What a file said may be part of it, so line breaks and control characters,
    which could also drive a terminal, come out as spaces.
    """

    def __str__(self) -> str:
        return "".join(c if unicodedata.category(c) not in _CONTROLS else " " for c in super().__str__())


class NeedsWord(UserError):
    """A scan that can be read once a person has said how; whoever can ask, asks.

    ``reason`` is what is wrong, ``choices`` what may be said of it: in words, and as keywords of ``load_ct``.
    """

    def __init__(self, reason: str, remedy: str, choices: tuple[tuple[str, dict[str, object]], ...]) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason, self.choices = UserError(reason), choices


_CONTROLS = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories of characters that are not shown as they stand: controls, marks of direction, halves of a pair."""
