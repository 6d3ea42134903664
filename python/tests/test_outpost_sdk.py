"""The package outpost_sdk: what it sends to a hub, and what it makes of the answers."""

import builtins
import json
import os
import pickle
import sys
import unittest
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from fake_hub import ANOTHER, ENDPOINT, FUNCTION, OTHER, WithHub  # noqa: E402, I001

import globus_compute_sdk  # noqa: E402
import globus_sdk  # noqa: E402
from globus_compute_sdk.errors import TaskExecutionFailed, TaskPending  # noqa: E402
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect  # noqa: E402
from outpost_sdk import Batch, Client, Executor, FunctionSearchResults, MaxRequestSizeExceeded  # noqa: E402
from outpost_sdk.remote_error import remote_error  # noqa: E402
from outpost_sdk.throttle import THROTTLE_BODY_BYTES, Throttle  # noqa: E402


class Batches(unittest.TestCase):
    def test_take_a_call_with_its_arguments_in_the_open(self):
        batch = Batch(None)
        batch.add(1, 2, key=3, endpoint_id=ENDPOINT, function_id=FUNCTION)
        batch.add(endpoint_id=OTHER, function_id=uuid.UUID(ANOTHER))
        tasks = batch.prepare_placed()["tasks"]
        self.assertEqual([task[:2] for task in tasks], [(FUNCTION, ENDPOINT), (ANOTHER, OTHER)])
        self.assertEqual(arguments_of(tasks[0]), [(1, 2), {"key": 3}])
        self.assertEqual(arguments_of(tasks[1]), [(), {}])
        self.assertEqual(len(batch), 2)

    def test_take_a_call_spelt_out_so_that_a_function_may_have_an_endpoint_id(self):
        batch = Batch(None)
        batch.add(FUNCTION, ENDPOINT, (1,), {"endpoint_id": "x"})
        batch.add(FUNCTION, endpoint_id=ENDPOINT, args=[2], kwargs={"function_id": "y"})
        batch.add(function_id=FUNCTION, endpoint_id=ENDPOINT, args=(3,))
        tasks = batch.prepare_placed()["tasks"]
        self.assertEqual(
            [arguments_of(task) for task in tasks],
            [[(1,), {"endpoint_id": "x"}], [[2], {"function_id": "y"}], [(3,), {}]],
        )

    def test_are_those_of_the_sdk_without_endpoints(self):
        batch = Batch(None)
        batch.add(FUNCTION, (1,), {"key": 2})
        batch.add(FUNCTION, args=(3,))
        self.assertFalse(batch.names_endpoints)
        self.assertEqual([len(payloads) for payloads in batch.prepare()["tasks"].values()], [2])

    def test_refuse_what_is_neither(self):
        batch = Batch(None)
        with self.assertRaisesRegex(TypeError, "function_id is missing"):
            batch.add(endpoint_id=ENDPOINT)
        with self.assertRaisesRegex(TypeError, "'key' was not expected"):
            batch.add(FUNCTION, key=1)
        with self.assertRaisesRegex(TypeError, "args: expected"):
            batch.add(FUNCTION, 7)
        batch.add(1, endpoint_id=ENDPOINT, function_id=FUNCTION)
        with self.assertRaisesRegex(ValueError, "every task of a batch names its endpoint, or none"):
            batch.add(FUNCTION, (1,))

    def test_send_only_the_options_that_were_given(self):
        batch = Batch(None, resource_specification={"walltime": 5})
        batch.add(endpoint_id=ENDPOINT, function_id=FUNCTION)
        body = batch.prepare_placed()
        self.assertEqual(body.pop("resource_specification"), {"walltime": 5})
        self.assertEqual(set(body), {"tasks", "create_websocket_queue"})


def arguments_of(task):
    serializer = ComputeSerializer()
    return [serializer.deserialize(buffer) for buffer in serializer.unpack_buffers(task[2])]


class Tasks(WithHub):
    def test_of_several_endpoints_go_in_one_request_that_may_be_repeated(self):
        ids = [str(uuid.uuid4()) for _ in range(3)]
        hub = self.hub()
        hub.answers["POST /v2/submit"] = {"results": [{"task_uuid": id_, "http_status_code": 200} for id_ in ids]}
        client = self.client(hub)
        batch = client.create_batch()
        for number, endpoint in enumerate((ENDPOINT, OTHER, ENDPOINT)):
            batch.add(number, endpoint_id=endpoint, function_id=FUNCTION)
        self.assertEqual(client.batch_run(batch), ids)
        ((headers, body),) = hub.asked("POST /v2/submit")
        self.assertTrue(headers["Idempotency-Key"])
        document = json.loads(body)
        self.assertEqual([task[1] for task in document["tasks"]], [ENDPOINT, OTHER, ENDPOINT])
        self.assertIn("python_version", document["user_runtime"])
        with self.assertRaisesRegex(ValueError, "batch_run\\(batch\\)"):
            client.batch_run(ENDPOINT, batch)

    def test_of_one_endpoint_go_as_the_sdk_sends_them(self):
        hub = self.hub()
        hub.answers[f"POST /v3/endpoints/{ENDPOINT}/submit"] = {"tasks": {FUNCTION: ["x"]}}
        client = self.client(hub)
        batch = client.create_batch()
        with self.assertRaisesRegex(ValueError, "name no endpoint"):
            client.batch_run(batch)
        batch.add(FUNCTION, (1,))
        with self.assertRaisesRegex(ValueError, "name no endpoint"):
            client.batch_run(batch)
        for run in (
            lambda: client.batch_run(ENDPOINT, batch),
            lambda: client.batch_run(batch=batch, endpoint_id=ENDPOINT),
        ):
            self.assertEqual(run(), {"tasks": {FUNCTION: ["x"]}})

    def test_have_a_record_when_they_failed_and_when_they_are_pending(self):
        done, failed, waiting, unknown = (str(uuid.uuid4()) for _ in range(4))
        hub = self.hub()
        hub.answers["POST /v2/batch_status"] = {
            "results": {
                done: {"task_id": done, "status": "success", "result": "11\n7", "completion_t": "1.5"},
                failed: failure(failed),
                waiting: {"task_id": waiting, "status": "waiting-for-ep"},
            }
        }
        client = self.client(hub)
        records = client.get_batch_result([failed, waiting, unknown, done])
        self.assertEqual(list(records), [failed, waiting, done])
        self.assertEqual(records[done], {"pending": False, "status": "success", "result": 7, "completion_t": "1.5"})
        self.assertEqual(records[waiting], {"pending": True, "status": "waiting-for-ep"})
        error = records[failed]["exception"]
        self.assertEqual((records[failed]["status"], records[failed]["completion_t"]), ("failed", "2.5"))
        self.assertIsInstance(error, TaskExecutionFailed)
        # What has ended is remembered: one more request asks for the rest.
        client.get_batch_result([failed, waiting, done])
        self.assertEqual(json.loads(hub.asked("POST /v2/batch_status")[1][1])["task_ids"], [waiting])
        self.assertEqual(client.get_result(done), 7)
        with self.assertRaisesRegex(ValueError, "boom"):
            client.get_result(failed)

    def test_raise_the_type_that_was_raised(self):
        task_id = str(uuid.uuid4())
        hub = self.hub()
        hub.answers[f"GET /v2/tasks/{task_id}"] = failure(task_id)
        client = self.client(hub)
        for _ in range(2):
            with self.assertRaises(ValueError) as caught:
                client.get_result(task_id)
        error = caught.exception
        self.assertIsInstance(error, TaskExecutionFailed)
        self.assertEqual((error.remote_type, error.remote_message, error.code), ("ValueError", "boom", "RAISED"))
        self.assertIn("ValueError: boom", str(error))
        self.assertIs(type(pickle.loads(pickle.dumps(error))), type(error))
        self.assertEqual(len(hub.asked(f"GET /v2/tasks/{task_id}")), 1)

    def test_are_asked_for_again_when_the_hub_gave_them_up(self):
        task_id = str(uuid.uuid4())
        given_up = failure(task_id)
        given_up["outpost"]["provisional"] = True
        hub = self.hub()
        for ask in (
            lambda client: client.get_result(task_id),
            lambda client: client.get_batch_result([task_id])[task_id]["exception"],
        ):
            hub.answers[f"GET /v2/tasks/{task_id}"] = given_up
            hub.answers["POST /v2/batch_status"] = {"results": {task_id: given_up}}
            client = self.client(hub)
            try:
                self.assertIsInstance(ask(client), ValueError)
            except ValueError as error:
                self.assertIn("boom", str(error))
            hub.answers[f"GET /v2/tasks/{task_id}"] = {"task_id": task_id, "status": "success", "result": "11\n7"}
            self.assertEqual(client.get_result(task_id), 7)

    def test_have_their_results_also_when_the_hub_keeps_those_by_themselves(self):
        value, raised, small = (str(uuid.uuid4()) for _ in range(3))
        documents = {
            value: large(value),
            raised: large(raised),
            small: {"task_id": small, "status": "success", "result": "11\n7"},
        }
        hub = self.hub({f"GET /v2/tasks/{task_id}": document for task_id, document in documents.items()})
        hub.answers["POST /v2/batch_status"] = {"results": documents}
        hub.answers[f"GET /v1/tasks/{value}/result"] = message(value, json.dumps("x" * 1000))
        error = {"code": "RAISED", "exception": {"type": "ValueError", "message": "boom"}}
        hub.answers[f"GET /v1/tasks/{raised}/result"] = message(raised, "Traceback\nValueError: boom", error)
        records = self.client(hub).get_batch_result(list(documents))
        self.assertEqual(records[value]["result"], "x" * 1000)
        self.assertEqual(records[small]["result"], 7)
        self.assertIsInstance(records[raised]["exception"], ValueError)
        client = self.client(hub)
        for _ in range(2):
            self.assertEqual(client.get_result(value), "x" * 1000)
            with self.assertRaisesRegex(ValueError, "boom"):
                client.get_result(raised)
        self.assertEqual(len(hub.asked(f"GET /v1/tasks/{value}/result")), 2)

    def test_are_not_fetched_when_they_are_more_than_a_throttled_client_may_have(self):
        task_id = str(uuid.uuid4())
        hub = self.hub({f"GET /v2/tasks/{task_id}": large(task_id, THROTTLE_BODY_BYTES + 1)})
        with self.assertRaisesRegex(MaxRequestSizeExceeded, "result has 5000001 bytes.*throttling_enabled = False"):
            self.client(hub).get_result(task_id)
        self.assertEqual(hub.asked(f"GET /v1/tasks/{task_id}/result"), [])

    def test_say_why_they_are_pending(self):
        task_id = str(uuid.uuid4())
        hub = self.hub()
        hub.answers[f"GET /v2/tasks/{task_id}"] = {"task_id": task_id, "status": "waiting-for-nodes"}
        with self.assertRaises(TaskPending) as caught:
            self.client(hub).get_result(task_id)
        self.assertEqual(caught.exception.reason, "waiting-for-nodes")


def failure(task_id, kind="ValueError"):
    return {
        "task_id": task_id,
        "status": "failed",
        "exception": f"Traceback\n{kind}: boom",
        "completion_t": "2.5",
        "outpost": {"error": {"code": "RAISED", "type": kind, "message": "boom"}},
    }


def large(task_id, size=1000):
    """The document of a task whose result the hub keeps by itself."""
    document = failure(task_id, "MaxResultSizeExceeded")
    document["outpost"]["blob"] = {"sha256": "0" * 64, "bytes": size}
    return document


def message(task_id, data, error=None):
    """The result message of a task."""
    told = {"task_id": task_id, "data": data if error else f"11\n{data}", "error_details": error, "details": None}
    return {"message_type": "result", "data": told}


class RemoteErrors(unittest.TestCase):
    def test_are_of_every_built_in_type_that_can_be(self):
        for kind in ("KeyError", "OSError", "UnicodeDecodeError", "ZeroDivisionError", "Warning"):
            error = remote_error(TaskExecutionFailed("text"), failure("x", kind))
            self.assertIsInstance(error, getattr(builtins, kind))
            self.assertIn("text", str(error))

    def test_are_plain_otherwise(self):
        for kind in ("StopIteration", "SystemExit", "ExceptionGroup", "print", "Mine", None):
            error = remote_error(TaskExecutionFailed("text"), failure("x", kind))
            self.assertEqual(type(error).__name__, "RemoteError")
        self.assertIsNone(remote_error(TaskExecutionFailed("text"), {}).remote_type)


class Catalogue(WithHub):
    def test_searches_with_offset_and_limit(self):
        found = {"function_uuid": FUNCTION, "function_name": "mean", "description": "a\nmean  of numbers"}
        hub = self.hub()
        hub.answers["GET /v1/functions/search"] = {"results": [found], "offset": 5, "total": 9}
        results = self.client(hub).search_function("mean of", offset=5, limit=1)
        self.assertIn("/v1/functions/search?q=mean+of&offset=5&limit=1", [path for _, path, _, _ in hub.requests])
        self.assertEqual(results, [found])
        self.assertTrue(results.has_next_page)
        self.assertIn("a mean of numbers", str(results))
        self.assertIn("6 to 6 of 9", str(results))
        self.assertEqual(str(FunctionSearchResults([], offset=0, total=0)), "[]")

    def test_registers_a_container_and_a_function_that_runs_in_it(self):
        container = str(uuid.uuid4())
        hub = self.hub()
        hub.answers["POST /v2/containers"] = {"container_id": container}
        hub.answers["POST /v3/functions"] = {"function_uuid": FUNCTION}
        client = self.client(hub)
        self.assertEqual(client.register_container("/env", "venv", "n", "d"), container)
        self.assertEqual(
            json.loads(hub.asked("POST /v2/containers")[0][1]),
            {"location": "/env", "type": "venv", "name": "n", "description": "d"},
        )
        self.assertEqual(client.register_function(arguments_of, container_uuid=container), FUNCTION)
        self.assertEqual(client.register_function(arguments_of, description="d"), FUNCTION)
        inside, outside = (json.loads(body) for _, body in hub.asked("POST /v3/functions"))
        self.assertEqual(inside["container_uuid"], container)
        self.assertNotIn("container_uuid", outside)


class Throttling(WithHub):
    def test_holds_up_what_comes_too_early_and_refuses_nothing(self):
        clock, slept = [100.0], []
        throttle = Throttle(now=lambda: clock[0], sleep=slept.append)
        for _ in range(20):
            throttle.wait()
        self.assertEqual(slept, [])
        clock[0] = 103.0
        for _ in range(21):
            throttle.wait()
        self.assertEqual(slept, [7.0] * 20 + [17.0])
        throttle.enabled = False
        throttle.wait()
        self.assertEqual(len(slept), 21)

    def test_refuses_what_is_too_large_in_and_out(self):
        hub = self.hub()
        hub.answers["POST /v3/functions"] = {"function_uuid": "x" * THROTTLE_BODY_BYTES}
        client = self.client(hub)
        with self.assertRaisesRegex(MaxRequestSizeExceeded, "POST /v3/functions has .* throttling_enabled = False"):
            client.register_source_code("#" * THROTTLE_BODY_BYTES, "f")
        self.assertEqual(hub.asked("POST /v3/functions"), [])
        with self.assertRaisesRegex(MaxRequestSizeExceeded, "the answer to POST /v3/functions has"):
            client.register_source_code("#", "f")
        client.throttling_enabled = False
        self.assertEqual(len(client.register_source_code("#" * THROTTLE_BODY_BYTES, "f")), THROTTLE_BODY_BYTES)


class Surface(unittest.TestCase):
    def test_every_public_name_of_the_sdk_is_there(self):
        for ours, theirs in ((Client, globus_compute_sdk.Client), (Executor, globus_compute_sdk.Executor)):
            self.assertTrue(issubclass(ours, theirs))
            self.assertLessEqual({name for name in dir(theirs) if name[0] != "_"}, set(dir(ours)))

    def test_a_client_can_be_told_how_to_serialize(self):
        authorizer = globus_sdk.AccessTokenAuthorizer("t")
        options = {"do_version_check": False, "code_serialization_strategy": PureSourceTextInspect()}
        client = Client(authorizer=authorizer, **options)
        self.assertIsInstance(client.fx_serializer.code_serializer, PureSourceTextInspect)


if __name__ == "__main__":
    unittest.main()
