"""Every error that the unmodified SDK can provoke, field by field, and what the SDK makes of it."""

import concurrent.futures
import os
import tempfile
import unittest
from unittest import mock

import globus_sdk
import outcomes
from globus_compute_sdk import Client
from support import ENDPOINT_ID, client_of, executor, refused, some_id


def add(x, y=1):
    return x + y


def size_of(data):
    return len(data)


class RefusalCases(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = Client()
        cls.stranger = client_of("STRANGER")
        cls.function_id = cls.client.register_function(add)

    def submit(self, client=None, endpoint_id=ENDPOINT_ID, function_id=None, group_id=None, **options):
        client = client or self.client
        batch = client.create_batch(task_group_id=group_id, **options)
        batch.add(function_id or self.function_id, args=(1,))
        return client.batch_run(endpoint_id, batch)

    def test_400_an_id_that_is_none(self):
        client = self.client
        for call in (
            client.get_task,
            client.get_function,
            client.delete_function,
            client.get_endpoint_status,
            client.get_endpoint_metadata,
            client.get_allowed_functions,
            client.stop_endpoint,
            client.delete_endpoint,
        ):
            with self.subTest(call.__name__):
                refused(self, lambda: call("nonsense"), 400, "INVALID_UUID", "nonsense")
        refused(self, lambda: client.get_batch_result(["nonsense"]), 400, "INVALID_UUID", "task_ids")
        refused(self, lambda: self.submit(endpoint_id="nonsense"), 400, "INVALID_UUID", "nonsense")
        refused(self, lambda: client.register_endpoint("x", "nonsense"), 400, "INVALID_UUID", "nonsense")

    def test_401_a_wrong_secret(self):
        # In a directory of its own, since a token that was stored earlier would do without the secret.
        with tempfile.TemporaryDirectory() as directory, mock.patch.dict(
            os.environ, GLOBUS_COMPUTE_CLIENT_SECRET="wrong", GLOBUS_COMPUTE_USER_DIR=directory
        ):
            with self.assertRaises(globus_sdk.AuthAPIError) as caught:
                Client().get_endpoints()
        # The errors of an OAuth server are those of OAuth (RFC 6749, 5.2), not those of the service.
        error = caught.exception
        self.assertEqual(error.http_status, 401)
        self.assertEqual(set(error.raw_json), {"error", "error_description"})
        self.assertEqual(error.raw_json["error"], "invalid_client")

    def test_401_an_unknown_token_which_cannot_be_renewed(self):
        client = Client(authorizer=globus_sdk.AccessTokenAuthorizer("unknown"))
        error = refused(self, client.get_endpoints, 401, "USER_UNAUTHENTICATED", "access token")
        self.assertIn("invalid_token", error.headers["www-authenticate"])

    def test_403_what_belongs_to_somebody_else(self):
        stranger, function_id = self.stranger, self.function_id
        group_id = self.submit()["task_group_id"]
        own_function_id = stranger.register_function(add)
        for call in (
            stranger.get_endpoint_status,
            stranger.get_endpoint_metadata,
            stranger.get_allowed_functions,
            stranger.stop_endpoint,
            stranger.delete_endpoint,
        ):
            with self.subTest(call.__name__):
                refused(self, lambda: call(ENDPOINT_ID), 403, "ENDPOINT_ACCESS_FORBIDDEN", ENDPOINT_ID)
        for call in (stranger.get_function, stranger.delete_function):
            with self.subTest(call.__name__):
                refused(self, lambda: call(function_id), 403, "FUNCTION_ACCESS_FORBIDDEN", function_id)
        refused(
            self,
            lambda: self.submit(stranger, function_id=own_function_id),
            403,
            "ENDPOINT_ACCESS_FORBIDDEN",
            ENDPOINT_ID,
        )
        refused(
            self,
            lambda: stranger.register_endpoint("mine", ENDPOINT_ID),
            403,
            "ENDPOINT_ALREADY_REGISTERED",
            ENDPOINT_ID,
        )
        own_endpoint_id = stranger.register_endpoint("mine", None)["endpoint_id"]
        self.addCleanup(stranger.delete_endpoint, own_endpoint_id)
        refused(self, lambda: self.submit(stranger, own_endpoint_id), 403, "FUNCTION_ACCESS_FORBIDDEN", function_id)
        refused(
            self,
            lambda: self.submit(stranger, own_endpoint_id, own_function_id, group_id),
            403,
            "TASK_GROUP_ACCESS_FORBIDDEN",
            group_id,
        )

    def test_403_a_client_that_only_runs_endpoints(self):
        client = client_of("RUNNER")
        refused(self, lambda: client.register_function(add), 403, "INSUFFICIENT_AUTH_SCOPE", "--endpoint-only")
        endpoint_id = client.register_endpoint("theirs", None)["endpoint_id"]
        client.delete_endpoint(endpoint_id)

    def test_404_what_does_not_exist(self):
        client, missing = self.client, some_id()
        for call, code in (
            (client.get_task, "TASK_NOT_FOUND"),
            (client.get_function, "FUNCTION_NOT_FOUND"),
            (client.delete_function, "FUNCTION_NOT_FOUND"),
            (client.get_endpoint_status, "ENDPOINT_NOT_FOUND"),
            (client.get_endpoint_metadata, "ENDPOINT_NOT_FOUND"),
            (client.get_allowed_functions, "ENDPOINT_NOT_FOUND"),
            (client.stop_endpoint, "ENDPOINT_NOT_FOUND"),
            (client.delete_endpoint, "ENDPOINT_NOT_FOUND"),
        ):
            with self.subTest(call.__name__):
                refused(self, lambda: call(missing), 404, code, missing, "could not be found")
        refused(self, lambda: self.submit(endpoint_id=missing), 404, "ENDPOINT_NOT_FOUND", missing)
        refused(self, lambda: self.submit(function_id=missing), 404, "FUNCTION_NOT_FOUND", missing)
        refused(self, lambda: client.register_endpoint("x", missing), 404, "ENDPOINT_NOT_FOUND", missing)
        with executor(task_group_id=missing) as gcx:
            refused(self, gcx.reload_tasks, 404, "TASK_GROUP_NOT_FOUND", missing)

    def test_404_a_task_of_somebody_else(self):
        ((task_id,),) = self.submit()["tasks"].values()
        refused(self, lambda: self.stranger.get_task(task_id), 404, "TASK_NOT_FOUND", task_id)
        self.assertEqual(self.stranger.get_batch_result([task_id]), {})

    def test_404_a_group_of_people_that_the_hub_does_not_have(self):
        group_id = some_id()
        refused(
            self,
            lambda: self.client.register_function(add, group=group_id),
            404,
            "AUTH_GROUP_NOT_FOUND",
            group_id,
        )

    def test_404_a_function_that_was_deleted(self):
        function_id = self.client.register_function(add)
        self.submit(function_id=function_id)
        self.client.delete_function(function_id)
        refused(self, lambda: self.submit(function_id=function_id), 404, "FUNCTION_NOT_FOUND", function_id)
        refused(self, lambda: self.client.get_function(function_id), 404, "FUNCTION_NOT_FOUND", function_id)

    def test_409_an_endpoint_that_an_agent_holds(self):
        refused(
            self, lambda: self.client.register_endpoint("default", ENDPOINT_ID), 409, "RESOURCE_CONFLICT", "held by"
        )

    def test_413_what_is_too_large(self):
        client = self.client
        source = f"def f():\n    return {'x' * 11_000_000!r}\n"
        refused(self, lambda: client.register_source_code(source, "f"), 413, "FUNCTION_TOO_LARGE", "bytes")
        function_id = client.register_function(size_of)
        refused(
            self,
            lambda: client.run(b"x" * 11_700_000, endpoint_id=ENDPOINT_ID, function_id=function_id),
            413,
            "TASK_PAYLOAD_TOO_LARGE",
            "by reference",
        )
        refused(
            self,
            lambda: client.run(b"x" * 13_000_000, endpoint_id=ENDPOINT_ID, function_id=function_id),
            413,
            "TASK_PAYLOAD_TOO_LARGE",
            "fewer tasks",
        )

    def test_413_too_many_tasks(self):
        batch = self.client.create_batch()
        for _ in range(20_001):
            batch.add(self.function_id)
        refused(self, lambda: self.client.batch_run(ENDPOINT_ID, batch), 413, "BATCH_RUN_TOO_LARGE", "20001", "split")

    def test_422_what_makes_no_sense(self):
        client = self.client
        invalid = "Request payload failed validation: body"
        for call in (
            lambda: client.register_source_code("def f():\n    pass\n", ""),
            lambda: client.register_endpoint("", None),
            lambda: client.register_endpoint("x", None, metadata="text"),
            lambda: self.submit(user_endpoint_config=["list"]),
            lambda: self.submit(resource_specification=["list"]),
        ):
            refused(self, call, 422, "SEMANTICALLY_INVALID", invalid)
        refused(
            self, lambda: self.submit(resource_specification={"x": "y" * 60_000}), 422, "SEMANTICALLY_INVALID", "bytes"
        )
        refused(
            self,
            lambda: client.get_endpoints(role="boss"),
            422,
            "SEMANTICALLY_INVALID",
            "Request payload failed validation: querystring/role",
        )
        refused(
            self,
            lambda: client.register_function(add, ha_endpoint_id=ENDPOINT_ID),
            422,
            "SEMANTICALLY_INVALID",
            "ha_endpoint_id",
        )

    def test_the_executor_gives_every_future_the_error_and_ends(self):
        missing = some_id()
        gcx = executor(endpoint_id=missing)
        futures = [gcx.submit(add, number) for number in range(3)]
        error = futures[0].exception(timeout=30)
        refused(self, None, 404, "ENDPOINT_NOT_FOUND", missing, error=error)
        concurrent.futures.wait(futures, timeout=30)
        # The SDK makes one submission of them or several; what it had not yet sent is cancelled.
        self.assertTrue(all(future.cancelled() or future.exception(timeout=0) is error for future in futures))
        gcx._task_submitter.join(timeout=30)
        with self.assertRaisesRegex(RuntimeError, "is shutdown"):
            gcx.submit(add, 1)


if __name__ == "__main__":
    outcomes.run()
