"""Messages of the package in the words of a command line.

A message of the package names the parameter that is wrong, or that would allow what was refused; whoever typed a
command knows an option instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from vmbus.errors import CallerError

__all__ = ["options_named"]


@contextmanager
def options_named(**options: str) -> Iterator[None]:
    """Have a CallerError for one of these parameters name the option that stands for it.

    In its message that is `parameter=True`, or the parameter alone.

    >>> from vmbus.errors import CallerError
    >>> with options_named(force="--force"):
    ...     raise CallerError("14 is in use; force=True takes it all the same", argument="force")
    Traceback (most recent call last):
        ...
    vmbus.errors.CallerError: 14 is in use; --force takes it all the same
    """
    try:
        yield
    except CallerError as error:
        option = options.get(error.argument)
        if option is not None:
            error.args = (re.sub(rf"\b{error.argument}\b(=True\b)?", lambda _: option, str(error)),)
        raise
