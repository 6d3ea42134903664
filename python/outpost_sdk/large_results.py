"""Results that are too large for a document or a message: the hub keeps them by themselves, and they are fetched from there.

What comes in their place is a failure that says so, for clients that cannot fetch them, with a reference beside it.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import typing as t

import globus_sdk
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result
from globus_compute_sdk.sdk.executor import _ResultWatcher

log = logging.getLogger(__name__)

#: Header of a result message; JSON with what the task printed and, of a large result, the reference.
_OUTPUT_HEADER = "outpost_output"
#: A message begins with the version of its format.
_MESSAGE_VERSION = b"\x01"


def result_path(task_id: str) -> str:
    """Where the hub has the result message of a task."""
    return f"/v1/tasks/{task_id}/result"


def size_kept_apart(document: t.Mapping[str, t.Any]) -> int | None:
    """The size of the result when this document of a task has only a reference to it."""
    blob = (document.get("outpost") or {}).get("blob")
    return blob["bytes"] if blob else None


def document_with(document: t.Mapping[str, t.Any], message: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The document of a task with what its result message has, in the place of the failure that stood in for it."""
    told = message["data"]
    error = told.get("error_details")
    outpost = {name: value for name, value in document["outpost"].items() if name not in ("blob", "error")}
    whole = {name: value for name, value in document.items() if name not in ("exception", "reason", "result")}
    whole |= {"details": told.get("details") or document.get("details"), "outpost": outpost}
    if error is None:
        return {**whole, "status": "success", "result": told["data"]}
    outpost["error"] = {"code": error.get("code"), **(error.get("exception") or {})}
    return {**whole, "status": "failed", "exception": told["data"]}


class WholeResponse(globus_sdk.GlobusHTTPResponse):
    """An answer whose documents were completed."""

    def __init__(self, response: globus_sdk.GlobusHTTPResponse, data: dict[str, t.Any]) -> None:
        super().__init__(response)
        self._whole = data

    @property
    def data(self) -> t.Any:
        return self._whole

    @property
    def text(self) -> str:
        return json.dumps(self._whole)


class ResultWatcher(_ResultWatcher):
    """Watches the queue of a task group, and fetches what is too large for it, one result after another.

    A future stays open until its result was fetched, so that whoever waits for the open ones waits for it, too. Fetching is the
    work of a thread of its own: the connection to the broker has to be attended to meanwhile.
    """

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self._to_fetch: queue.SimpleQueue[tuple[t.Any, Result]] = queue.SimpleQueue()
        self._fetched: queue.SimpleQueue[tuple[t.Any, Result]] = queue.SimpleQueue()
        self._fetcher: threading.Thread | None = None

    def _on_message(self, channel: t.Any, deliver: t.Any, props: t.Any, body: bytes) -> None:
        if not _is_reference(props):
            super()._on_message(channel, deliver, props, body)
            return
        self._to_fetch.put((props, t.cast(Result, messagepack.unpack(body))))
        # The hub has it: a program that ends before it was fetched finds it there.
        self._to_ack.append(deliver.delivery_tag)
        if self._fetcher is None:
            self._fetcher = threading.Thread(target=self._fetch, name="large results", daemon=True)
            self._fetcher.start()

    def _fetch(self) -> None:
        while True:
            props, reference = self._to_fetch.get()
            self._fetched.put((props, self._fetch_one(reference)))
            self._time_to_check_results.set()

    def _fetch_one(self, reference: Result) -> Result:
        path = result_path(str(reference.task_id))
        try:
            content = self.client._compute_web_client.v2.get(path).binary_content
            result = messagepack.unpack(_MESSAGE_VERSION + content)
            if not isinstance(result, Result):
                raise TypeError(f"{type(result).__name__} is no result")
            return result
        except Exception as error:
            log.warning("the result of task %s could not be fetched", reference.task_id, exc_info=True)
            told = f"{reference.data}\nIt could not be fetched: {type(error).__name__}: {error}"
            return reference.model_copy(update={"data": told})

    def _match_results_to_futures(self) -> None:
        # By the thread that receives the others: nobody else changes what was received.
        while not self._fetched.empty():
            props, result = self._fetched.get()
            self._received_results[str(result.task_id)] = (props, result)
        super()._match_results_to_futures()


def _is_reference(props: t.Any) -> bool:
    try:
        return "blob" in json.loads((props.headers or {})[_OUTPUT_HEADER])
    except (KeyError, TypeError, ValueError):
        return False
