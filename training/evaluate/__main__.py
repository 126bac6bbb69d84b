"""``python -m training.evaluate TASK``: one file of tasks/ each; this one parses and turns errors into exit codes.

0: the output is whole. 2: the input is wrong, in one line on stderr. 130: stopped; the same command goes on.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module

from tapct_core.cli import Parser
from tapct_core.errors import UserError
from tapct_core.terminal import print_any_name

from .runs.run_folder import say

TASKS = ("segmentation", "classification", "ablation", "retrieval", "matching", "report")

EPILOG = """example:
  python -m training.evaluate segmentation --dataset amos22 --root AMOS22 \\
      --encoder tap-ct-b-3d untrained:tap-ct-b-3d --out runs/amos22
  python -m training.evaluate report runs/amos22 --out page

The same command again goes on where it stopped. On several devices:
  torchrun --nproc-per-node 8 -m training.evaluate segmentation ..."""


def build_parser() -> Parser:
    """The parser of every task."""
    parser = Parser(
        prog="python -m training.evaluate",
        description="What frozen features are worth: the evaluation of TAP-CT's paper, for any encoder.",
        epilog=EPILOG,
    )
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    for task in TASKS:
        import_module(f".tasks.{task}", __package__).add_parser(tasks)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    print_any_name()
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        return args.run(args) or 0
    except UserError as error:
        print(f"python -m training.evaluate {args.task}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130


if __name__ == "__main__":
    sys.exit(main())
