"""The requests of a Client: the SDK's own two clients of the Compute service, throttled, and the routes that only a hub has."""

from __future__ import annotations

import json
import typing as t

import globus_sdk
from globus_compute_common.sdk_version_sharing import user_agent_substring
from globus_compute_sdk.version import __version__ as compute_sdk_version

from .large_results import WholeResponse, document_with, result_path, size_kept_apart
from .throttle import Throttle


def _size_of(data: t.Any) -> int:
    if data is None:
        return 0
    if isinstance(data, (str, bytes)):
        return len(data)
    return len(json.dumps(data, default=str))


class _Throttled(globus_sdk.BaseClient):
    """Passes every request through a throttle that several clients may share."""

    throttle: Throttle

    def request(self, method: str, path: str, **options: t.Any) -> globus_sdk.GlobusHTTPResponse:
        if self.throttle.enabled:
            self.throttle.check_size(f"{method} {path}", _size_of(options.get("data")))
            self.throttle.wait()
        response = super().request(method, path, **options)
        self.throttle.check_size(f"the answer to {method} {path}", len(response.binary_content))
        return response


class _ComputeV2(_Throttled, globus_sdk.ComputeClientV2):
    """Tells tasks with their results, also with those that the hub keeps by themselves."""

    def get_task(self, task_id: t.Any) -> globus_sdk.GlobusHTTPResponse:
        response = super().get_task(task_id)
        return WholeResponse(response, whole) if (whole := self._whole(response.data)) else response

    def get_task_batch(self, task_ids: t.Any) -> globus_sdk.GlobusHTTPResponse:
        response = super().get_task_batch(task_ids)
        results = response.data.get("results") or {}
        whole = {task_id: whole for task_id, document in results.items() if (whole := self._whole(document))}
        return WholeResponse(response, {**response.data, "results": {**results, **whole}}) if whole else response

    def _whole(self, document: t.Mapping[str, t.Any]) -> dict[str, t.Any] | None:
        """The document with the result that it only refers to; None when there is nothing to fetch."""
        size = size_kept_apart(document)
        if size is None:
            return None
        path = result_path(document["task_id"])
        # Before it comes: it is told how large it is.
        self.throttle.check_size(f"the answer to GET {path}", size)
        return document_with(document, self.get(path).data)


class _ComputeV3(_Throttled, globus_sdk.ComputeClientV3):
    pass


class WebClient:
    """A client of one hub, signed in by an authorizer or by an app.

    ``v2`` and ``v3`` are clients of ``globus_sdk``; ``v2`` also carries the requests that are a hub's own.
    """

    def __init__(
        self,
        *,
        base_url: str,
        authorizer: globus_sdk.authorizers.GlobusAuthorizer | None = None,
        app: globus_sdk.GlobusApp | None = None,
        app_name: str | None = None,
    ) -> None:
        self.base_url = base_url
        self.authorizer = authorizer
        self.throttle = Throttle()
        name = user_agent_substring(compute_sdk_version)
        options: dict[str, t.Any] = {
            "base_url": base_url,
            "app_name": name if app_name is None else f"{name}/{app_name}",
        }
        if app is None:
            # Named, because one that was made up for Globus Compute ("local") is none that globus_sdk knows.
            options |= {"authorizer": authorizer, "environment": "production"}
        else:
            options |= {"app": app}
        self.v2 = _ComputeV2(**options)
        self.v3 = _ComputeV3(**options)
        self.v2.throttle = self.throttle
        self.v3.throttle = self.throttle

    def submit(self, batch: dict[str, t.Any], idempotency_key: str) -> globus_sdk.GlobusHTTPResponse:
        """Submits tasks of several endpoints at once; the same key and body are accepted once."""
        return self.v2.post("/v2/submit", data=batch, headers={"Idempotency-Key": idempotency_key})

    def search_functions(self, query: str, offset: int, limit: int) -> globus_sdk.GlobusHTTPResponse:
        """Functions of one's own, shared with one, and public ones."""
        return self.v2.get("/v1/functions/search", query_params={"q": query, "offset": offset, "limit": limit})

    def register_container(self, container: dict[str, t.Any]) -> globus_sdk.GlobusHTTPResponse:
        """Adds an execution environment to the registry."""
        return self.v2.post("/v2/containers", data=container)

    def get_container(self, container_id: str) -> globus_sdk.GlobusHTTPResponse:
        """An execution environment of the registry."""
        return self.v2.get(f"/v2/containers/{container_id}")
