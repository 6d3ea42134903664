"""What the cases share: settings of the suite, clients for other identities, waiting, and refusals field by field."""

import os
import time
import uuid

import globus_sdk
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskPending
from globus_sdk import ComputeAPIError, GlobusAPIError

ENDPOINT_ID = os.environ["ENDPOINT_ID"]
LIMIT_S = 60


def executor(**options):
    """An Executor that does not slow itself down: four requests in sixteen seconds are its default."""
    return Executor(**{"endpoint_id": ENDPOINT_ID, "api_burst_limit": 8, "api_burst_window_s": 1, **options})


def client_of(name):
    """A Client of another identity, whose credentials the suite gave under this name; its tokens are kept in memory."""
    config = globus_sdk.GlobusAppConfig(token_storage="memory")
    app = globus_sdk.ClientApp(
        "interop", client_id=os.environ[f"{name}_ID"], client_secret=os.environ[f"{name}_SECRET"], config=config
    )
    return Client(app=app)


def result_of(client, task_id, limit_s=LIMIT_S):
    deadline = time.monotonic() + limit_s
    while True:
        try:
            return client.get_result(task_id)
        except TaskPending:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def results_of(client, task_ids, limit_s=LIMIT_S):
    deadline = time.monotonic() + limit_s
    while True:
        results = client.get_batch_result(task_ids)
        if len(results) == len(set(task_ids)) and not any(task["pending"] for task in results.values()):
            return [results[task_id]["result"] for task_id in task_ids]
        if time.monotonic() > deadline:
            raise AssertionError(f"still pending: {results}")
        time.sleep(0.1)


def document_of(client, task_id):
    """The task as the service tells it, before the Client makes something of it."""
    return client._compute_web_client.v2.get_task(task_id).data


def some_id():
    return str(uuid.uuid4())


def refused(case, call, http_status, code, *fragments, error=None):
    """Calls, and compares every field of the error body, and what the SDK shows of it."""
    if error is None:
        with case.assertRaises(GlobusAPIError) as caught:
            call()
        error = caught.exception
    case.assertIs(type(error), ComputeAPIError, error)
    case.assertEqual((error.http_status, error.code), (http_status, code), error)
    case.assertEqual(error.headers["content-type"].split(";")[0], "application/json")
    case.assertEqual(
        error.raw_json,
        {
            "status": "Failed",
            "code": code,
            "error_args": [],
            "http_status_code": http_status,
            "detail": error.message,
            "reason": error.message,
        },
    )
    case.assertEqual(error.args[3:6], (http_status, code, error.message))
    # A code of its own, or a sentence, but never the server's reason phrase, which is what is left when the SDK understood nothing.
    case.assertNotEqual(error.message, error.http_reason)
    for fragment in fragments:
        case.assertIn(fragment, error.message)
    return error
