"""Every strategy that the SDK can send code, arguments and results with, and its identifier on the wire."""

import unittest

import outcomes
from globus_compute_sdk import Client
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.serialize import ComputeSerializer, concretes
from support import ENDPOINT_ID, document_of, result_of, results_of

CODE = {
    "DillCode": "01",
    "DillCodeTextInspect": "03",
    "DillCodeSource": "04",
    "CombinedCode": "10",
    "AllCodeStrategies": "12",
    "PureSourceTextInspect": "st",
    "PureSourceDill": "sd",
}
DATA = {"DillDataBase64": "00", "JSONData": "11", "AllDataStrategies": "13"}


def add(x, y=1):
    return x + y


def make_adder(x):
    def added(y):
        return x + y

    return added


def make_set(x):
    return {x}


class SerializationCases(unittest.TestCase):
    def client(self, code=None, data=None):
        options = {}
        if code is not None:
            options["code_serialization_strategy"] = getattr(concretes, code)()
        if data is not None:
            options["data_serialization_strategy"] = getattr(concretes, data)()
        return Client(do_version_check=False, **options)

    def run_with(self, function_id, *args, client=None, result_serializers=None):
        client = client or self.client()
        batch = client.create_batch(result_serializers=result_serializers)
        batch.add(function_id, args=args)
        (task_id,) = client.batch_run(ENDPOINT_ID, batch)["tasks"][function_id]
        return client, task_id

    def test_knows_every_strategy_of_the_sdk(self):
        for strategies, known in (
            (concretes.SELECTABLE_CODE_STRATEGIES, CODE),
            (concretes.SELECTABLE_DATA_STRATEGIES, DATA),
        ):
            self.assertEqual({strategy.__name__: strategy.identifier.strip() for strategy in strategies}, known)

    def test_runs_code_of_every_strategy_with_arguments_of_every_strategy(self):
        function_ids = {}
        for name, identifier in CODE.items():
            client = self.client(code=name)
            function_ids[name] = client.register_function(add)
            document = client.get_function(function_ids[name])
            (buffer,) = ComputeSerializer.unpack_buffers(document["function_code"])
            self.assertEqual(buffer[:3], f"{identifier}\n")
            self.assertEqual(document["metadata"]["serde_identifier"], identifier)
        for number, data in enumerate(DATA):
            client = self.client(data=data)
            batch = client.create_batch()
            for function_id in function_ids.values():
                batch.add(function_id, args=(number,), kwargs={"y": 10})
            tasks = client.batch_run(ENDPOINT_ID, batch)["tasks"]
            task_ids = [tasks[function_id][0] for function_id in function_ids.values()]
            self.assertEqual(results_of(client, task_ids), [number + 10] * len(CODE), data)

    def test_returns_data_by_every_strategy(self):
        function_id = self.client().register_function(add)
        for name, identifier in DATA.items():
            with self.subTest(name):
                client, task_id = self.run_with(
                    function_id, 1, result_serializers=[f"globus_compute_sdk.serialize.concretes.{name}"]
                )
                self.assertEqual(result_of(client, task_id), 2)
                self.assertEqual(document_of(client, task_id)["result"][:3], f"{identifier}\n")

    def test_returns_data_by_the_default_strategy(self):
        client, task_id = self.run_with(self.client().register_function(make_set), 7)
        self.assertEqual(result_of(client, task_id), {7})
        self.assertEqual(document_of(client, task_id)["result"][:3], "00\n")

    def test_returns_data_by_the_first_strategy_that_can(self):
        serializers = [f"globus_compute_sdk.serialize.{name}" for name in ("JSONData", "DillDataBase64")]
        client, task_id = self.run_with(
            self.client().register_function(make_set), 7, result_serializers=serializers
        )
        self.assertEqual(result_of(client, task_id), {7})
        self.assertEqual(document_of(client, task_id)["result"][:3], "00\n")

    def test_fails_when_no_strategy_can(self):
        client, task_id = self.run_with(
            self.client().register_function(make_set), 7, result_serializers=["globus_compute_sdk.serialize.JSONData"]
        )
        with self.assertRaisesRegex(TaskExecutionFailed, "(?i)serializ"):
            result_of(client, task_id)

    def test_fails_with_the_name_of_a_strategy_that_is_none(self):
        client, task_id = self.run_with(
            self.client().register_function(add), 7, result_serializers=["globus_compute_sdk.serialize.Nonsense"]
        )
        with self.assertRaisesRegex(TaskExecutionFailed, "Nonsense"):
            result_of(client, task_id)

    def test_returns_a_function(self):
        client, task_id = self.run_with(self.client().register_function(make_adder), 40)
        self.assertEqual(result_of(client, task_id)(2), 42)

    def test_brings_text_of_every_plane_through(self):
        text = "é😀\u2028\x00\n" * 50
        function_ids = [self.client(code=name).register_function(add) for name in ("PureSourceTextInspect", "DillCode")]
        for data in DATA:
            client = self.client(data=data)
            for function_id in function_ids:
                batch = client.create_batch()
                batch.add(function_id, args=(text,), kwargs={"y": "😀"})
                (task_id,) = client.batch_run(ENDPOINT_ID, batch)["tasks"][function_id]
                self.assertEqual(result_of(client, task_id), text + "😀")


if __name__ == "__main__":
    outcomes.run()
