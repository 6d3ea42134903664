"""What a function raised, raised again: as ``TaskExecutionFailed``, and as the built-in type that it was of, if it was of one."""

from __future__ import annotations

import builtins
import functools
import typing as t

from globus_compute_sdk.errors import TaskExecutionFailed


class RemoteError(TaskExecutionFailed):
    """A failure with its parts: ``remote_type``, ``remote_message``, ``remote_data`` (the traceback) and ``code``."""

    remote_type: str | None = None
    remote_message: str | None = None
    code: str | None = None


# Python gives them a meaning of their own where they pass.
_LEFT_OUT = (StopIteration, StopAsyncIteration)


@functools.lru_cache(maxsize=256)
def _class_for(name: str | None) -> type[RemoteError]:
    """``except ValueError`` shall catch a remote ValueError as well."""
    kind = getattr(builtins, name or "", None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)) or issubclass(kind, _LEFT_OUT):
        return RemoteError
    try:
        made = type(f"Remote{name}", (RemoteError, kind), {"__module__": __name__})
        made("")
    except TypeError:
        # A few built-in types cannot be made from a text alone.
        return RemoteError
    return made


def __getattr__(name: str) -> type[RemoteError]:
    """Pickle finds the classes made above by their names."""
    made = _class_for(name.removeprefix("Remote"))
    if made is RemoteError or not name.startswith("Remote"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return made


def remote_error(failure: TaskExecutionFailed, document: t.Mapping[str, t.Any]) -> RemoteError:
    """The failure with what the hub's document of the task tells of it."""
    told = (document.get("outpost") or {}).get("error") or {}
    error = _class_for(told.get("type"))(failure.remote_data, failure.completion_t, document.get("details"))
    error.remote_type = told.get("type")
    error.remote_message = told.get("message")
    error.code = told.get("code")
    return error
