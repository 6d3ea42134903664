"""The SDK's Client at a hub of your own, with what it has lost since funcX."""

from __future__ import annotations

import json
import typing as t
import uuid

import globus_compute_sdk
import globus_sdk
from globus_compute_sdk.errors import SerializationError, TaskExecutionFailed, TaskPending
from globus_compute_sdk.sdk.auth.auth_client import ComputeAuthClient
from globus_compute_sdk.sdk.batch import create_user_runtime
from globus_compute_sdk.sdk.client import FunctionRegistrationData, FunctionRegistrationMetadata
from globus_compute_sdk.sdk.utils.gare import gare_handler
from globus_compute_sdk.sdk.utils.uuid_like import UUID_LIKE_T

from . import sign_in
from .batch import Batch
from .login_manager import LoginManagerProtocol
from .remote_error import remote_error
from .search import FunctionSearchResults
from .web_client import WebClient

_Result = t.TypeVar("_Result")


class Client(globus_compute_sdk.Client):
    """``globus_compute_sdk.Client`` for a hub.

    ``Client()`` reaches the hub of ``OUTPOST_HUB_URL`` (by default the one on this machine) and signs in as the
    environment says: ``OUTPOST_CLIENT_ID`` and ``OUTPOST_CLIENT_SECRET``, the same pair with the prefix
    ``GLOBUS_COMPUTE`` or ``FUNCX_SDK``, or else a person on a terminal.
    """

    def __init__(
        self,
        environment: str | None = None,
        local_compute_services: bool = False,
        do_version_check: bool = True,
        *,
        hub_url: str | None = None,
        app: globus_sdk.GlobusApp | None = None,
        authorizer: globus_sdk.authorizers.GlobusAuthorizer | None = None,
        login_manager: LoginManagerProtocol | None = None,
        force_login: bool = False,
        **options: t.Any,
    ) -> None:
        """
        :param hub_url: The hub's address
        :param app: Signs in and keeps tokens (globus_sdk)
        :param authorizer: Makes the Authorization header (globus_sdk)
        :param login_manager: Signs in, keeps tokens and makes the web client
        :param force_login: Forget the tokens that were kept, and with them what the hub remembers of them
        :param options: Those of globus_compute_sdk.Client
        """
        if environment not in (None, "local"):
            raise ValueError(f"{environment} is an environment of Globus's: use globus_compute_sdk.Client for those")
        if sum(option is not None for option in (app, authorizer, login_manager)) > 1:
            raise ValueError("only one of app, authorizer and login_manager can be given")
        # The base class would look for the service and sign in at Globus: it gets an authorizer, which does neither.
        super().__init__(None, True, False, authorizer=globus_sdk.NullAuthorizer(), **options)
        self.web_service_address = sign_in.hub_url(hub_url)
        self.login_manager = login_manager
        self.authorizer = authorizer
        if login_manager is None and authorizer is None:
            self.app = app or sign_in.app_of(self.web_service_address)
        self._compute_web_client = t.cast(t.Any, self._new_web_client())
        if force_login:
            self._force_login()
        if do_version_check:
            self.version_check()

    def _new_web_client(self) -> WebClient:
        if self.login_manager is None:
            return WebClient(base_url=self.web_service_address, app=self.app, authorizer=self.authorizer)
        self.login_manager.ensure_logged_in()
        made = self.login_manager.get_web_client(base_url=self.web_service_address)
        return (
            made
            if isinstance(made, WebClient)
            else WebClient(base_url=self.web_service_address, authorizer=made.authorizer)
        )

    def _force_login(self) -> None:
        if self.login_manager is not None:
            self.login_manager.logout()
            self._compute_web_client = t.cast(t.Any, self._new_web_client())
        elif self.app is not None:
            self.app.logout()
            self.app.login(force=True)
        else:
            raise ValueError("force_login: an authorizer cannot sign in again; get it a new token")

    @property
    def web_client(self) -> WebClient:
        """The requests by themselves."""
        return t.cast(WebClient, self._compute_web_client)

    @property
    def throttling_enabled(self) -> bool:
        """Whether this client keeps to 20 requests in any 10 seconds, and to 5 MB in each."""
        return self.web_client.throttle.enabled

    @throttling_enabled.setter
    def throttling_enabled(self, enabled: bool) -> None:
        self.web_client.throttle.enabled = enabled

    @property
    def auth_client(self) -> globus_sdk.AuthClient:
        """A client of the hub's authorization server: ``auth_client.userinfo()`` says who one is."""
        if self._auth_client is None:
            if self.login_manager is not None:
                self._auth_client = self.login_manager.get_auth_client()
            elif self.app is not None:
                self._auth_client = ComputeAuthClient(app=self.app, base_url=f"{self.web_service_address}/")
            else:
                self._auth_client = globus_sdk.AuthClient(
                    environment="production", base_url=f"{self.web_service_address}/", authorizer=self.authorizer
                )
        return self._auth_client

    @auth_client.setter
    def auth_client(self, client: globus_sdk.AuthClient) -> None:
        self._auth_client = client

    def logout(self) -> None:
        """Revokes and forgets the tokens."""
        if self.login_manager is not None:
            self.login_manager.logout()
        else:
            super().logout()

    def _signed_in(self, call: t.Callable[[], _Result]) -> _Result:
        """As the SDK does it: what the hub wants of the sign-in is done, and the call made again."""
        return call() if self.app is None else t.cast(_Result, gare_handler(self.app.login, call))

    # Functions

    def register_function(
        self,
        function: t.Callable[..., t.Any],
        description: str | None = None,
        metadata: dict[str, t.Any] | None = None,
        public: bool = False,
        group: UUID_LIKE_T | None = None,
        ha_endpoint_id: UUID_LIKE_T | None = None,
        *,
        container_uuid: UUID_LIKE_T | None = None,
    ) -> str:
        """Registers a function; ``container_uuid`` names the environment of :meth:`register_container` that it runs in."""
        if container_uuid is None:
            return t.cast(
                str, super().register_function(function, description, metadata, public, group, ha_endpoint_id)
            )
        data = FunctionRegistrationData(
            function=function,
            description=description,
            metadata=FunctionRegistrationMetadata(**metadata) if metadata else None,
            public=public,
            group=group,
            serializer=self.fx_serializer,
            ha_endpoint_id=ha_endpoint_id,
        ).to_dict()
        data["container_uuid"] = str(container_uuid)
        with self._request_lock:
            answer = self._signed_in(lambda: self.web_client.v3.register_function(data))
        return t.cast(str, answer["function_uuid"])

    def search_function(self, q: str, offset: int = 0, limit: int = 10) -> FunctionSearchResults:
        """Looks for functions of one's own, shared with one, or public, by the words of their names and descriptions."""
        with self._request_lock:
            answer = self._signed_in(lambda: self.web_client.search_functions(q, offset, limit))
        return FunctionSearchResults(answer["results"], offset=answer["offset"], total=answer["total"])

    def register_container(self, location: str, container_type: str, name: str = "", description: str = "") -> str:
        """Registers an execution environment; returns its id.

        :param location: The image, the prefix of the environment, or what the type understands
        :param container_type: ``docker``, ``podman``, ``apptainer``, ``singularity``, ``venv``, ``conda`` or ``module``
        """
        container = {"name": name, "location": location, "description": description, "type": container_type}
        with self._request_lock:
            answer = self._signed_in(lambda: self.web_client.register_container(container))
        return t.cast(str, answer["container_id"])

    # Tasks

    def create_batch(self, *args: t.Any, **options: t.Any) -> Batch:
        """A batch that may also name an endpoint for each of its tasks; the options are those of the SDK."""
        made = super().create_batch(*args, **options)
        return Batch(
            made.task_group_id,
            made.resource_specification,
            made.user_endpoint_config,
            made.request_queue,
            serializer=self.fx_serializer,
            user_runtime=create_user_runtime(),
            result_serializers=made.result_serializers,
        )

    @t.overload
    def batch_run(self, batch: Batch, /) -> list[str]: ...

    @t.overload
    def batch_run(self, endpoint_id: UUID_LIKE_T, batch: Batch) -> dict[str, t.Any]: ...

    def batch_run(self, *args: t.Any, **named: t.Any) -> t.Any:
        """Submits and does not wait.

        ``batch_run(batch)`` returns the ids of its tasks in the order of adding; each task names its endpoint.
        ``batch_run(endpoint_id, batch)`` is that of the SDK: the answer of the service, for tasks that name none.
        """
        given = {
            **dict(
                zip(("batch",) if len(args) == 1 and isinstance(args[0], Batch) else ("endpoint_id", "batch"), args)
            ),
            **named,
        }
        batch, endpoint_id = given.pop("batch", None), given.pop("endpoint_id", None)
        if given or len(args) > 2 or batch is None:
            raise TypeError("batch_run takes a batch, or an endpoint_id and a batch")
        names_endpoints = isinstance(batch, Batch) and batch.names_endpoints
        if endpoint_id is not None:
            if names_endpoints:
                raise ValueError("the tasks of this batch name their endpoints: call batch_run(batch)")
            return super().batch_run(endpoint_id, batch)
        if not names_endpoints:
            raise ValueError(
                "this batch is empty or its tasks name no endpoint: call batch_run(endpoint_id, batch), or add them with endpoint_id="
            )
        body, key = batch.prepare_placed(), str(uuid.uuid4())
        with self._request_lock:
            answer = self._signed_in(lambda: self.web_client.submit(body, key))
        return [result["task_uuid"] for result in answer["results"]]

    def run(self, *args: t.Any, endpoint_id: UUID_LIKE_T, function_id: UUID_LIKE_T, **kwargs: t.Any) -> str:
        """Calls a function with these arguments; returns the id of the task. A batch takes arguments that are named as the ids are."""
        batch = self.create_batch()
        batch.add(function_id, endpoint_id, args=args, kwargs=kwargs)
        return self.batch_run(batch)[0]

    def _update_task_table(self, return_msg: str | dict[str, t.Any], task_id: str) -> t.Any:
        document = json.loads(return_msg) if isinstance(return_msg, str) else return_msg
        try:
            return super()._update_task_table(document, task_id)
        except TaskExecutionFailed as failure:
            error = remote_error(failure, document)
        if (document.get("outpost") or {}).get("provisional"):
            # The hub gave the task up, and a real result may still come: it is asked again.
            self._task_status_table.pop(task_id, None)
        else:
            self._task_status_table[task_id] = _failed(error, document)
        raise error

    def get_task(self, task_id: UUID_LIKE_T) -> dict[str, t.Any]:
        """How a task stands. Raises what its function raised."""
        task: dict[str, t.Any] = super().get_task(task_id)
        if "exception" in task:
            raise task["exception"]
        return task

    def get_result(self, task_id: UUID_LIKE_T) -> t.Any:
        """The value that a task's function returned. Raises TaskPending as long as there is none, and what the function raised."""
        task = self.get_task(task_id)
        if task["pending"]:
            raise TaskPending(task["status"])
        if "result" not in task:
            raise TaskExecutionFailed(f"the task ended without a result: {task.get('reason', 'unknown')}")
        return task["result"]

    def get_batch_result(self, task_id_list: t.Iterable[UUID_LIKE_T]) -> dict[str, dict[str, t.Any]]:
        """How tasks stand, in the order asked for. A failed one has an ``exception`` where others have a ``result``; one that the hub
        does not know is left out."""
        task_ids = list(dict.fromkeys(map(str, task_id_list)))
        table = self._task_status_table
        open_ids = [task_id for task_id in task_ids if table.get(task_id, {}).get("pending", True)]
        records: dict[str, dict[str, t.Any]] = {}
        if open_ids:
            with self._request_lock:
                answer = self._signed_in(lambda: self.web_client.v2.get_task_batch(open_ids))
            for task_id, document in answer["results"].items():
                records[task_id] = self._record(task_id, document)
        return {
            task_id: records.get(task_id) or table[task_id]
            for task_id in task_ids
            if task_id in records or task_id in table
        }

    def _record(self, task_id: str, document: dict[str, t.Any]) -> dict[str, t.Any]:
        try:
            return t.cast("dict[str, t.Any]", self._update_task_table(document, task_id))
        except (TaskExecutionFailed, SerializationError) as error:
            return _failed(error, document)


def _failed(error: Exception, document: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {
        "pending": False,
        "status": "failed",
        "exception": error,
        "completion_t": document.get("completion_t", "unknown"),
    }
