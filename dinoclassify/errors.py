"""The errors that users can see, and the exit code of each.

    DinoclassifyError     1
    ├── WorkerError       1   decoding processes cannot be started, or keep dying
    ├── UsageError        2   a wrong argument or option
    ├── NoInputsError     4   PATHS name no image, or one of them is missing
    ├── ModelError        5   the model could not be loaded, or does not fit the device
    ├── OutputError       6   the rows could not be written
    ├── ProtectedError    7   stopped to protect the existing rows
    │   ├── FailuresError 7   more images failed than --max-failures allows
    │   └── PruneError    7   --prune would drop more rows than --max-prune allows
    └── LockedError      11   another run writes the output

An image that cannot be classified is not an error but a row with status ``failed``. A run that writes such rows ends
with exit code 3, unless --max-failures accepts them.
Every message is one line that names the problem and the cure; the command line prints nothing else.
"""


class DinoclassifyError(Exception):
    """A problem that a user can understand and solve."""

    exit_code = 1


class WorkerError(DinoclassifyError):
    """The decoding processes cannot be started, or keep dying."""


class UsageError(DinoclassifyError):
    """An argument or option is wrong."""

    exit_code = 2


class NoInputsError(DinoclassifyError):
    """There is nothing to classify, or an input is missing."""

    exit_code = 4


class ModelError(DinoclassifyError):
    """The model cannot be found, is not a trained image classifier, or does not fit the device."""

    exit_code = 5


class ProtectedError(DinoclassifyError):
    """The run stopped to protect the existing rows. The output is unchanged."""

    exit_code = 7


class FailuresError(ProtectedError):
    """More images failed than --max-failures allows."""


class PruneError(ProtectedError):
    """More rows would be dropped than --max-prune allows."""


class OutputClosedError(Exception):
    """The reader of stdout closed it, as `head` does: the run ends quietly, with exit code 0."""


class OutputError(DinoclassifyError):
    """The rows cannot be written."""

    exit_code = 6


class LockedError(DinoclassifyError):
    """Another run is writing the output."""

    exit_code = 11
