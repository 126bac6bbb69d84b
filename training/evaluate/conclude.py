"""The end of a task: table.json, and what a person reads in the terminal."""

from __future__ import annotations

from .. import distributed
from .run import RunFolder, say
from .tables import Results, markdown, write_tables


def conclude(run: RunFolder, results: Results) -> None:
    """Writes OUT/table.json and prints the tables and findings; the first rank alone does."""
    if not distributed.is_main():
        return
    write_tables(run, results)
    print("\n\n".join(markdown(table) for table in results.tables))
    say("")
    for words in (*results.words, f"the page: python -m training.evaluate report {run.path} --out PAGE"):
        say(words)
