"""The SDK's Executor at a hub of your own, with ``map``, and with results of any size."""

from __future__ import annotations

import concurrent.futures
import typing as t

import globus_compute_sdk
from globus_compute_sdk.sdk.executor import _RESULT_WATCHERS, _ResultWatcher
from globus_compute_sdk.sdk.utils.uuid_like import UUID_LIKE_T

from .client import Client
from .large_results import ResultWatcher


class Executor(globus_compute_sdk.Executor):
    """``globus_compute_sdk.Executor`` whose Client, unless one is given, is that of this package."""

    def __init__(
        self,
        endpoint_id: UUID_LIKE_T | None = None,
        client: globus_compute_sdk.Client | None = None,
        *args: t.Any,
        **kwargs: t.Any,
    ) -> None:
        if client is None:
            client = Client()
            # It gathers tasks into few requests by itself, which may be larger than those of a single call.
            client.throttling_enabled = False
        super().__init__(endpoint_id, client, *args, **kwargs)

    def map(self, fn: t.Callable[..., t.Any], *iterables: t.Iterable[t.Any], **options: t.Any) -> t.Iterator[t.Any]:
        """Results in the order of the arguments, as they come; ``timeout`` in seconds as in concurrent.futures."""
        return concurrent.futures.Executor.map(self, fn, *iterables, **options)

    def _get_result_watcher(self) -> _ResultWatcher:
        watcher = _RESULT_WATCHERS.get(self.task_group_id)
        if watcher is None or not watcher.is_alive():
            watcher = ResultWatcher(self.task_group_id, self.client, port=self.amqp_port)
            watcher.start()
        return watcher
