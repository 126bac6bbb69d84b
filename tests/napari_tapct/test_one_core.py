"""Short work on one core: what it sets, and that all is put back."""

import threading

import pytest

from napari_tapct.one_core import libraries, one_core


def threads() -> set[int]:
    """Threads of the libraries of linear algebra that are loaded."""
    found = {one["num_threads"] for one in libraries().info() if one["user_api"] == "blas"}
    assert found
    return found


@pytest.fixture(autouse=True)
def two_threads():
    """A library on one core from the start could not tell whether it was put back."""
    before = [one.num_threads for one in libraries().lib_controllers]
    _set([2 if one.user_api == "blas" else None for one in libraries().lib_controllers])
    yield
    _set(before)


def _set(numbers: list[int | None]) -> None:
    with libraries().limit():  # leaving it gives up this thread's say over OpenBLAS
        pass
    for library, number in zip(libraries().lib_controllers, numbers, strict=True):
        if number is not None:
            library.set_num_threads(number)
    with libraries().limit():
        pass


def test_within_there_is_one_core_and_after_it_as_many_as_before():
    assert threads() == {2}
    with one_core():
        assert threads() == {1}
    assert threads() == {2}


def test_an_error_within_puts_back_too():
    with pytest.raises(KeyError), one_core():
        raise KeyError
    assert threads() == {2}


def test_two_runs_take_turns_and_leave_no_limit_behind():
    began, end, seen = threading.Event(), threading.Event(), []

    def run(name: str) -> None:
        with one_core():
            seen.append((name, threads()))
            began.set()
            assert end.wait(10)
            seen.append((name, threads()))

    older, newer = (threading.Thread(target=run, args=(name,)) for name in ("older", "newer"))
    older.start()
    assert began.wait(10)
    newer.start()
    end.set()
    older.join(10)
    newer.join(10)
    assert seen == [(name, {1}) for name in ("older", "older", "newer", "newer")]
    assert threads() == {2}
