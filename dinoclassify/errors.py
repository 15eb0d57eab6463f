"""The errors a user can meet, and the exit code of each.

    DinoclassifyError     1
    ├── WorkerError       1   processes that decode cannot be started, or keep dying
    ├── UsageError        2   a wrong argument or option
    ├── NoInputsError     4   PATHS name no image, or one of them is away
    ├── ModelError        5   the model could not be loaded, or does not fit the device
    ├── OutputError       6   the rows could not be written
    ├── ProtectedError    7   stopped to protect the rows that are there
    │   ├── FailuresError 7   more images failed than --max-failures allows
    │   └── PruneError    7   --prune would drop more rows than --max-prune allows
    └── LockedError      11   another run writes the output

An image that cannot be classified is no error: it is a row with status ``failed``. A run that writes such rows ends
with exit code 3, unless --max-failures says how many are acceptable.
Every message is one line that names the thing and the cure; the command line prints nothing else.
"""


class DinoclassifyError(Exception):
    """Something went wrong that a person can understand and mend."""

    exit_code = 1


class WorkerError(DinoclassifyError):
    """The processes that decode cannot be started, or keep dying."""


class UsageError(DinoclassifyError):
    """An argument or option is wrong."""

    exit_code = 2


class NoInputsError(DinoclassifyError):
    """There is nothing to classify."""

    exit_code = 4


class ModelError(DinoclassifyError):
    """The model cannot be found, is not a trained image classifier, or does not fit the device."""

    exit_code = 5


class ProtectedError(DinoclassifyError):
    """The run has stopped to protect the rows that are there. The output is as it was."""

    exit_code = 7


class FailuresError(ProtectedError):
    """More images have failed than --max-failures allows."""


class PruneError(ProtectedError):
    """More rows would be dropped than --max-prune allows."""


class OutputClosedError(Exception):
    """The reader of stdout has gone, as `head` does when it has seen enough: the run ends quietly, with 0."""


class OutputError(DinoclassifyError):
    """The rows cannot be written where they should go."""

    exit_code = 6


class LockedError(DinoclassifyError):
    """Another run is writing the output."""

    exit_code = 11
