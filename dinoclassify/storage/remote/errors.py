"""The errors of object stores and web servers -> an `OSError`, or the `Failure` of a row."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from dinoclassify.errors import DinoclassifyError
from dinoclassify.messages import first_line
from dinoclassify.types.prediction import Failure


def failure(error: Exception) -> Failure:
    """The failure of an object that could not be read because of ``error``."""
    error = _as_os_error(error)
    message = first_line(OSError(error.strerror) if error.strerror else error)
    if isinstance(error, FileNotFoundError):
        return Failure("vanished", message)
    if isinstance(error, TimeoutError):
        return Failure("timeout", message)
    return Failure("too_large" if error.errno == errno.EFBIG else "unreadable", message)


@contextmanager
def os_errors() -> Iterator[None]:
    """Raise the errors of a store, which has its own types, as an OSError."""
    try:
        yield
    except DinoclassifyError:
        raise
    except Exception as error:
        raise _as_os_error(error) from error


def _as_os_error(error: Exception) -> OSError:
    """The error as an OSError. Timeouts of different stores share only the word in the names of their types."""
    if any("Timeout" in kind.__name__ for kind in type(error).__mro__):
        return TimeoutError(first_line(error))
    return error if isinstance(error, OSError) else OSError(first_line(error))
