"""Every error of ours.

    StreamprocError
    ├── ConfigError      the site file is wrong: refuse to start (file, line, key, value, rule)
    ├── ModelError       a bundle cannot be trusted or does not fit: that model is not used
    ├── StateError       a state blob is not ours or of another version: start from the input
    ├── RecordingError   a recording cannot be read: file, place, what was expected
    ├── DataError        a series cannot be used as asked: file, row, column, value, rule, what to do
    ├── RequestError     an application asked for something that cannot be answered: status and sentence
    └── ShellError       the broker refused us and nothing can be written: exit without committing

Bad *data* is never an exception: it is NaN plus a quality bit, or a `Rejection` value with a reason.
"""


class StreamprocError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(StreamprocError):
    """The configuration breaks a rule; the message names file, line, key, value and rule."""


class ModelError(StreamprocError):
    """A model bundle is damaged, unknown or does not fit the site."""


class StateError(StreamprocError):
    """A packed state cannot be read back."""


class RecordingError(StreamprocError):
    """A recording cannot be read."""


class DataError(StreamprocError):
    """A series cannot be used as asked (too short, no number, no such column); the message says what to do."""


class RequestError(StreamprocError):
    """A request of another application is refused. `status` is the one of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ShellError(StreamprocError):
    """The outside world failed in a way that must end the process without a commit."""
