"""All steps of a plan, or none: when one fails, or Ctrl-C comes, all that was done is taken back, the last first.

A step that was begun may be done, or half done, so it is taken back too.  A second Ctrl-C does not end the taking
back.  The module alone stays loaded.

In a program with threads the kernel may hand a signal to another thread, so that no mask holds it; Python then
raises KeyboardInterrupt in the main thread all the same, perhaps in place of a write's answer.  Whether uio_hv_generic
had a class before, only that answer tells: then AddId and RemoveId take it that they have changed something, and
the taking back may leave the class known, or unknown, that was not so before.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from vmbus.errors import DeviceError

from .binding_steps import DRIVERS, LoadModule, Step
from .late import UIO_DRIVER
from .system import System

__all__ = ["carry_out"]


def carry_out(steps: Sequence[Step], system: System) -> None:
    """Do one after the other; when that fails, or is interrupted, take all of it back.

    Raises DeviceError, whose message says what has failed and what became of the rest, whatever the step has raised;
    the argument of a KeyboardInterrupt or SystemExit says the latter.
    """
    begun: list[Step] = []
    try:
        for step in steps:
            begun.append(step)
            with nullcontext() if step.takes_long else signals_held():
                step.do(system)
    except BaseException as error:
        outcome = ""
        try:
            with signals_held():
                outcome = take_back(begun, system)
        except (KeyboardInterrupt, SystemExit) as second:  # came meanwhile
            second.args = (outcome,)
            raise
        if isinstance(error, Exception):
            raise DeviceError(getattr(error, "errno", None), f"{words_of(error)}; {outcome}") from error
        # What ends a program, such as Ctrl-C, takes along what became of this.
        error.args = (outcome,)
        raise


def take_back(begun: Sequence[Step], system: System) -> str:
    """Undo steps, the last first, whatever else goes wrong; what became of it, in words."""
    problems = []
    for step in reversed(begun):
        try:
            undo_in_spite_of_signals(step, system)
        except Exception as error:  # noqa: BLE001 - the steps before it have to be undone all the same
            problems.append(words_of(error))
    if problems:
        return f"not all could be put back: {'; '.join(problems)}"
    stays = any(isinstance(step, LoadModule) for step in begun) and system.exists(f"{DRIVERS}/{UIO_DRIVER}")
    return f"all is as it was before{f', but the module {UIO_DRIVER} is loaded' if stays else ''}"


def words_of(error: Exception) -> str:
    """What went wrong; of an error that nobody has foreseen, such as MemoryError, its name too."""
    if isinstance(error, DeviceError):
        return error.strerror or str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def undo_in_spite_of_signals(step: Step, system: System) -> None:
    """Undo a step; in a program with threads Ctrl-C may come all the same, and does not leave it half undone."""
    while True:
        try:
            step.undo(system)
        except (KeyboardInterrupt, SystemExit):
            continue
        return


@contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C, and what else asks a program to end, comes when this is over: so a write is done, or it is not."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
