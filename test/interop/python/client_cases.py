"""The unmodified Client against our hub and agent: functions, tasks, and the service itself."""

import unittest
import uuid
import warnings

import globus_sdk
import outcomes
from globus_compute_sdk import Client, __version__
from globus_compute_sdk.errors import TaskExecutionFailed, TaskPending, VersionMismatch
from globus_compute_sdk.serialize import ComputeSerializer
from support import ENDPOINT_ID, client_of, document_of, refused, result_of, results_of, some_id


def add(x, y=1):
    return x + y


def documented(x):
    """Says what it does."""
    return x


def fail(text):
    raise ValueError(text)


def wait(seconds):
    import time

    time.sleep(seconds)
    return "waited"


class ClientCases(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = Client()

    def test_checks_versions(self):
        self.client.version_check()
        self.client.version_check(endpoint_version=__version__)
        with self.assertRaises(VersionMismatch):
            self.client.version_check(endpoint_version="0.1.0")

    def test_registers_runs_and_gets_a_result(self):
        function_id = self.client.register_function(add, description="adds")
        task_id = self.client.run(2, y=3, endpoint_id=ENDPOINT_ID, function_id=function_id)
        uuid.UUID(task_id)
        self.assertEqual(result_of(self.client, task_id), 5)

    def test_gets_the_function_back(self):
        function_id = self.client.register_function(add, description="adds")
        document = self.client.get_function(function_id)
        self.assertEqual(document["function_uuid"], function_id)
        self.assertEqual(document["function_name"], "add")
        self.assertEqual(document["description"], "adds")
        self.assertEqual(document["metadata"]["sdk_version"], __version__)
        self.assertEqual(document["metadata"]["serde_identifier"], "01")
        self.assertEqual(
            [buffer[:3] for buffer in ComputeSerializer.unpack_buffers(document["function_code"])], ["01\n"]
        )

    def test_takes_the_docstring_as_the_description(self):
        document = self.client.get_function(self.client.register_function(documented))
        self.assertEqual(document["description"], "Says what it does.")

    def test_lets_others_run_a_public_function(self):
        function_id = self.client.register_function(add, public=True)
        self.assertEqual(client_of("STRANGER").get_function(function_id)["function_name"], "add")

    def test_deletes_a_function(self):
        function_id = self.client.register_function(add)
        self.assertEqual(self.client.delete_function(function_id).data, {"result": 302})

    def test_runs_source_code(self):
        source = "OFFSET = 0\n\n\ndef double(x):\n    return 2 * x + OFFSET\n"
        function_id = self.client.register_source_code(source, "double", description="doubles")
        document = self.client.get_function(function_id)
        self.assertEqual((document["function_name"], document["description"]), ("double", "doubles"))
        self.assertEqual(document["metadata"]["sdk_version"], __version__)
        # However the SDK sent it, it is stored as one packed buffer: this is what tasks are made of.
        self.assertEqual(ComputeSerializer.unpack_buffers(document["function_code"]), [f"st\ndouble:{source}"])
        task_id = self.client.run(21, endpoint_id=ENDPOINT_ID, function_id=function_id)
        self.assertEqual(result_of(self.client, task_id), 42)

    def test_keeps_the_metadata_of_source_code(self):
        metadata = {"python_version": "3.99.1", "sdk_version": "9.9.9", "serde_identifier": "st"}
        function_id = self.client.register_source_code("def f():\n    pass\n", "f", metadata=dict(metadata))
        self.assertEqual(self.client.get_function(function_id)["metadata"], metadata)

    def test_raises_what_the_function_raised(self):
        function_id = self.client.register_function(fail)
        task_id = self.client.run("boom", endpoint_id=ENDPOINT_ID, function_id=function_id)
        with self.assertRaises(TaskExecutionFailed) as caught:
            result_of(self.client, task_id)
        self.assertIn("ValueError: boom", str(caught.exception))
        self.assertIn("in fail", str(caught.exception))
        self.assertGreater(float(caught.exception.completion_t), 0)
        document = document_of(self.client, task_id)
        self.assertEqual(document["status"], "failed")
        self.assertNotIn("result", document)
        self.assertNotIn("reason", document)

    def test_says_pending_while_a_task_runs(self):
        function_id = self.client.register_function(wait)
        task_id = self.client.run(2, endpoint_id=ENDPOINT_ID, function_id=function_id)
        task = self.client.get_task(task_id)
        self.assertTrue(task["pending"])
        self.assertIn(task["status"], ("received", "waiting-for-ep", "waiting-for-launch", "running", "execution-start"))
        self.assertEqual(set(document_of(self.client, task_id)) & {"result", "exception", "completion_t"}, set())
        with self.assertRaises(TaskPending):
            self.client.get_result(task_id)
        self.assertEqual(result_of(self.client, task_id), "waited")

    def test_runs_a_batch_in_order(self):
        functions = [self.client.register_function(add), self.client.register_function(documented)]
        batch = self.client.create_batch()
        for number in range(20):
            batch.add(functions[0], args=(number,), kwargs={"y": 100})
            batch.add(functions[1], args=(number,))
        response = self.client.batch_run(ENDPOINT_ID, batch)
        self.assertEqual(set(response), {"request_id", "task_group_id", "endpoint_id", "tasks"})
        self.assertEqual(response["endpoint_id"], ENDPOINT_ID)
        for key in ("request_id", "task_group_id"):
            uuid.UUID(response[key])
        self.assertEqual(set(response["tasks"]), set(functions))
        added, returned = (results_of(self.client, response["tasks"][id_]) for id_ in functions)
        self.assertEqual(added, [number + 100 for number in range(20)])
        self.assertEqual(returned, list(range(20)))

    def test_sends_every_option_of_a_batch(self):
        function_id = self.client.register_function(add)
        group_id = some_id()
        batch = self.client.create_batch(
            task_group_id=group_id,
            resource_specification={"walltime": 60},
            user_endpoint_config={"worker_init": "true"},
            create_websocket_queue=True,
            result_serializers=["globus_compute_sdk.serialize.JSONData"],
        )
        batch.add(function_id, args=(1,))
        response = self.client.batch_run(ENDPOINT_ID, batch)
        self.assertEqual(response["task_group_id"], group_id)
        (task_id,) = response["tasks"][function_id]
        self.assertEqual(result_of(self.client, task_id), 2)
        self.assertEqual(document_of(self.client, task_id)["result"], "11\n2")
        group = self.client._compute_web_client.v2.get_task_group(group_id).data
        self.assertEqual(group["taskgroup_id"], group_id)
        self.assertEqual([task["id"] for task in group["tasks"]], [task_id])

    def test_leaves_out_of_a_batch_result_what_nobody_knows(self):
        function_id = self.client.register_function(add)
        task_id = self.client.run(1, endpoint_id=ENDPOINT_ID, function_id=function_id)
        result_of(Client(), task_id)
        results = self.client.get_batch_result([task_id, some_id()])
        self.assertEqual(list(results), [task_id])
        self.assertEqual({**results[task_id], "details": None, "completion_t": None},
                         {"pending": False, "status": "success", "result": 2, "details": None, "completion_t": None})

    def test_reads_the_same_result_twice(self):
        function_id = self.client.register_function(add)
        task_id = self.client.run(4, endpoint_id=ENDPOINT_ID, function_id=function_id)
        self.assertEqual(result_of(self.client, task_id), 5)
        self.assertEqual(result_of(Client(), task_id), 5)

    def test_gives_the_details_of_the_worker(self):
        function_id = self.client.register_function(add)
        task_id = self.client.run(4, endpoint_id=ENDPOINT_ID, function_id=function_id)
        result_of(self.client, task_id)
        details = self.client.get_task(task_id)["details"]
        self.assertEqual(details["endpoint_id"], ENDPOINT_ID)
        for key in ("python_version", "dill_version", "os"):
            self.assertTrue(details[key])
        transitions = details["task_transitions"]
        self.assertLessEqual(transitions["execution-start"], transitions["execution-end"])

    def test_gets_the_hardware_of_the_worker(self):
        task_id = self.client.get_worker_hardware_details(ENDPOINT_ID)
        self.assertIn("== shell: ", result_of(self.client, task_id))

    def test_gets_the_address_of_the_results(self):
        address = self.client.get_result_amqp_url()
        self.assertRegex(address["connection_url"], r"^amqp://[^/]+:[^/]+@[^/]+:\d+/")
        self.assertRegex(address["queue_prefix"], r"^[0-9a-f-]{36}\.")
        self.assertEqual(self.client.get_result_amqp_url()["queue_prefix"], address["queue_prefix"])
        self.assertNotEqual(client_of("STRANGER").get_result_amqp_url()["queue_prefix"], address["queue_prefix"])

    def test_knows_who_it_is(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            auth = client_of("STRANGER").auth_client
        info = auth.userinfo()
        self.assertEqual([identity["sub"] for identity in info["identity_set"]], [info["sub"]])
        (identity,) = auth.get_identities(ids=info["sub"])["identities"]
        self.assertEqual(identity["id"], info["sub"])
        self.assertTrue({"username", "name", "email"} <= set(identity))

    def test_logs_out_and_in_again(self):
        client = client_of("STRANGER")
        client.get_endpoints()
        token = client.app.token_storage.get_token_data("funcx_service").access_token
        client.logout()
        old = Client(authorizer=globus_sdk.AccessTokenAuthorizer(token))
        refused(self, old.get_endpoints, 401, "USER_UNAUTHENTICATED")
        self.assertEqual(client_of("STRANGER").get_endpoints(), [])

    def test_gets_a_new_token_when_the_hub_forgot_the_old_one(self):
        client = client_of("STRANGER")
        client.get_endpoints()
        token = client.app.token_storage.get_token_data("funcx_service").access_token
        client.app._login_client.oauth2_revoke_token(token)
        self.assertEqual(client.get_endpoints(), [])
        self.assertNotEqual(client.app.token_storage.get_token_data("funcx_service").access_token, token)


if __name__ == "__main__":
    outcomes.run()
