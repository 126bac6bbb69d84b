"""``tapct``: the library from a terminal. One file a command; this one parses, and turns errors into exit codes.

0: the output is whole. 2: the input is wrong, a scan of a list failed, or the disk is full; one line on stderr
says what to do. 130: stopped by the person.
"""

from __future__ import annotations

import argparse
import errno
import logging
import re
import sys
from importlib import import_module

from ..errors import UserError
from ..terminal import print_any_name

COMMANDS = (
    "info", "encoders", "doctor", "embed", "match", "track", "compare", "import_", "pacs", "segment", "probe", "gui",
    "demo",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors, and with negative coordinates in any notation."""

    def __init__(self, *args, **kwargs) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)
        # argparse takes "-1.5e1" for an option; a point in the patient may well be written so.
        self._negative_number_matcher = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")

    def error(self, message: str) -> None:
        """One line on stderr, exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> Parser:
    """The parser of every command."""
    parser = Parser(
        prog="tapct",
        description="CT follow-up from frozen features: embed, match, segment. For research only.",
        epilog="example:\n  tapct match baseline.nii.gz followup.nii.gz --point -46 -112 -62",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f".{name}", __name__).add_parser(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal's encoding lacks is written as escapes
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    print_any_name()
    args = build_parser().parse_args(argv)
    program = f"tapct {args.command}"
    logging.basicConfig(level=logging.WARNING, format="tapct: %(message)s", stream=sys.stderr)
    try:
        return args.run(args) or 0
    except UserError as error:
        print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{program}: stopped; nothing half-written was left", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output left, as `head` does
        sys.stderr.close()
        return 1
    except MemoryError:
        print(f"{program}: there is not enough memory for this; close other programs or take a part", file=sys.stderr)
    except OSError as error:
        remedy = "free some space and run it again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the path"
        print(f"{program}: {error.strerror or error}: {error.filename or 'output'}; {remedy}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
