"""Batches for one endpoint, as Globus Compute has them, or for any number of endpoints, as its documents describe them."""

from __future__ import annotations

import typing as t
from dataclasses import asdict

from globus_compute_sdk.sdk.batch import Batch as ComputeBatch
from globus_compute_sdk.sdk.utils.uuid_like import UUID_LIKE_T, as_uuid


class Batch(ComputeBatch):
    """Tasks that are submitted together.

    Of the three ways to add one, those that name an endpoint go together in one batch, in any mixture::

        batch.add(x, y, key=z, endpoint_id=e, function_id=f)    # f(x, y, key=z) at e
        batch.add(f, e, args=(x, y), kwargs={"key": z})         # the same; for functions that have an endpoint_id of their own
        batch.add(f, args=(x, y), kwargs={"key": z})            # for batch_run(endpoint_id, batch)
    """

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self._placed: list[tuple[str, str, str]] = []

    @property
    def names_endpoints(self) -> bool:
        """Whether its tasks say where they run."""
        return bool(self._placed)

    def __bool__(self) -> bool:
        return bool(self._placed) or super().__bool__()

    def __len__(self) -> int:
        return len(self._placed) or super().__len__()

    def add(
        self,
        *args: t.Any,
        endpoint_id: UUID_LIKE_T | None = None,
        function_id: UUID_LIKE_T | None = None,
        **kwargs: t.Any,
    ) -> None:
        """Adds a call; see the class for the three ways."""
        if endpoint_id is not None and function_id is not None and not _spells_out(args, kwargs):
            self._add(function_id, endpoint_id, args, kwargs)
            return
        names: tuple[str, ...] = ("function_id", "args", "kwargs")
        if endpoint_id is not None or (len(args) > 1 and _is_id(args[1])):
            names = ("function_id", "endpoint_id", "args", "kwargs")
        given = dict(zip(names, args))
        named = {"function_id": function_id, "endpoint_id": endpoint_id, **kwargs}
        for name, value in named.items():
            if value is None:
                continue
            if name in given or name not in names or len(args) > len(names):
                raise TypeError(
                    f"add: {name!r} was not expected; a call with its arguments in the open needs both endpoint_id= and function_id="
                )
            given[name] = value
        if given.get("function_id") is None:
            raise TypeError("add: function_id is missing")
        self._add(given["function_id"], given.get("endpoint_id"), given.get("args"), given.get("kwargs"))

    def _add(self, function_id: UUID_LIKE_T, endpoint_id: UUID_LIKE_T | None, args: t.Any, kwargs: t.Any) -> None:
        if len(self) > 0 and (endpoint_id is not None) != self.names_endpoints:
            raise ValueError("add: either every task of a batch names its endpoint, or none does")
        # The SDK's own checks and serialization, whatever the way.
        super().add(function_id, args, kwargs)
        if endpoint_id is not None:
            payload = self.tasks.pop(as_uuid(function_id))[-1]
            self._placed.append((str(as_uuid(function_id)), str(as_uuid(endpoint_id)), payload))

    def prepare_placed(self) -> dict[str, t.Any]:
        """The body of a submission to several endpoints, in the order of adding."""
        options = {
            "task_group_id": None if self.task_group_id is None else str(self.task_group_id),
            "resource_specification": self.resource_specification,
            "user_endpoint_config": self.user_endpoint_config,
            "user_runtime": None if self.user_runtime is None else asdict(self.user_runtime),
            "result_serializers": self.result_serializers,
        }
        return {
            "tasks": self._placed,
            "create_websocket_queue": bool(self.request_queue),
            **{name: value for name, value in options.items() if value},
        }


def _is_id(value: t.Any) -> bool:
    try:
        as_uuid(value)
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def _spells_out(args: tuple[t.Any, ...], kwargs: dict[str, t.Any]) -> bool:
    """Whether nothing but ``args=`` and ``kwargs=`` of the right kinds stands beside the two ids."""
    return (
        not args
        and 0 < len(kwargs)
        and kwargs.keys() <= {"args", "kwargs"}
        and isinstance(kwargs.get("args", ()), (list, tuple))
        and isinstance(kwargs.get("kwargs", {}), dict)
    )
