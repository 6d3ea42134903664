"""The unmodified Client against our hub and agent."""

import os
import time
import unittest
import uuid

import outcomes
from globus_compute_sdk import Client
from globus_compute_sdk.errors import TaskExecutionFailed, TaskPending
from globus_sdk import ComputeAPIError, GlobusAPIError

ENDPOINT_ID = os.environ["ENDPOINT_ID"]


def add(x, y=1):
    return x + y


def fail(text):
    raise ValueError(text)


def wait(seconds):
    import time

    time.sleep(seconds)
    return "waited"


def result_of(client, task_id, limit_s=30):
    deadline = time.monotonic() + limit_s
    while True:
        try:
            return client.get_result(task_id)
        except TaskPending:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class ClientCases(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = Client()

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
        self.assertIn("python_version", document["metadata"])

    def test_deletes_a_function(self):
        function_id = self.client.register_function(add)
        self.client.delete_function(function_id)
        with self.assertRaises(GlobusAPIError) as caught:
            self.client.run(1, endpoint_id=ENDPOINT_ID, function_id=function_id)
        self.assertEqual((caught.exception.http_status, caught.exception.code), (404, "FUNCTION_NOT_FOUND"))

    def test_runs_source_code(self):
        function_id = self.client.register_source_code("def double(x):\n    return 2 * x\n", "double")
        task_id = self.client.run(21, endpoint_id=ENDPOINT_ID, function_id=function_id)
        self.assertEqual(result_of(self.client, task_id), 42)

    def test_raises_what_the_function_raised(self):
        function_id = self.client.register_function(fail)
        task_id = self.client.run("boom", endpoint_id=ENDPOINT_ID, function_id=function_id)
        with self.assertRaises(TaskExecutionFailed) as caught:
            result_of(self.client, task_id)
        self.assertIn("ValueError: boom", str(caught.exception))
        self.assertIn("in fail", str(caught.exception))

    def test_says_pending_while_a_task_runs(self):
        function_id = self.client.register_function(wait)
        task_id = self.client.run(3, endpoint_id=ENDPOINT_ID, function_id=function_id)
        task = self.client.get_task(task_id)
        self.assertTrue(task["pending"])
        with self.assertRaises(TaskPending):
            self.client.get_result(task_id)
        self.assertEqual(result_of(self.client, task_id), "waited")

    def test_runs_a_batch_in_order(self):
        function_id = self.client.register_function(add)
        batch = self.client.create_batch()
        for number in range(20):
            batch.add(function_id, args=(number,), kwargs={"y": 100})
        response = self.client.batch_run(ENDPOINT_ID, batch)
        task_ids = response["tasks"][function_id]
        self.assertEqual(len(task_ids), 20)
        deadline = time.monotonic() + 30
        while True:
            results = self.client.get_batch_result(task_ids)
            if not any(task["pending"] for task in results.values()):
                break
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        self.assertEqual([results[task_id]["result"] for task_id in task_ids], [n + 100 for n in range(20)])

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

    def test_sees_the_endpoint(self):
        self.assertEqual(self.client.get_endpoint_status(ENDPOINT_ID)["status"], "online")
        self.assertEqual(self.client.get_endpoint_metadata(ENDPOINT_ID)["uuid"], ENDPOINT_ID)
        self.assertIn(ENDPOINT_ID, [endpoint["uuid"] for endpoint in self.client.get_endpoints()])
        self.assertFalse(self.client.get_allowed_functions(ENDPOINT_ID)["restricted"])

    def test_refuses_an_unknown_function(self):
        with self.assertRaises(GlobusAPIError) as caught:
            self.client.run(1, endpoint_id=ENDPOINT_ID, function_id=str(uuid.uuid4()))
        self.assertEqual((caught.exception.http_status, caught.exception.code), (404, "FUNCTION_NOT_FOUND"))
        self.assertIn("not", caught.exception.message)

    def test_refuses_an_unknown_endpoint(self):
        function_id = self.client.register_function(add)
        with self.assertRaises(GlobusAPIError) as caught:
            self.client.run(1, endpoint_id=str(uuid.uuid4()), function_id=function_id)
        self.assertEqual((caught.exception.http_status, caught.exception.code), (404, "ENDPOINT_NOT_FOUND"))

    def test_refuses_an_unknown_task(self):
        with self.assertRaises(GlobusAPIError) as caught:
            self.client.get_task(str(uuid.uuid4()))
        self.assertEqual((caught.exception.http_status, caught.exception.code), (404, "TASK_NOT_FOUND"))


if __name__ == "__main__":
    outcomes.run()
