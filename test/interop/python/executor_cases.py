"""The unmodified Executor against our hub and agent."""

import concurrent.futures
import os
import subprocess
import sys
import time
import unittest
import uuid
import warnings

import outcomes
from globus_compute_sdk import Client, Executor, ShellFunction
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.serialize import ComputeSerializer, JSONData
from support import ENDPOINT_ID, client_of, document_of, executor, result_of, some_id


def add(x, y=1):
    return x + y


def fail(text):
    raise KeyError(text)


def size_of(data):
    return len(data)


def say(text):
    print(text)
    return text


def wait(seconds):
    import time

    time.sleep(seconds)
    return seconds


def wait_for_ids(futures):
    while any(future.task_id is None for future in futures):
        time.sleep(0.05)


class ExecutorCases(unittest.TestCase):
    def test_runs_a_thousand_tasks(self):
        with executor() as gcx:
            futures = [gcx.submit(add, number, y=number) for number in range(1000)]
            self.assertEqual([future.result(timeout=120) for future in futures], [2 * n for n in range(1000)])

    def test_gives_a_future_its_ids(self):
        with executor(task_group_id=some_id()) as gcx:
            future = gcx.submit(add, 1)
            self.assertEqual(future.result(timeout=30), 2)
            self.assertEqual(document_of(gcx.client, future.task_id)["status"], "success")
            metadata = future._metadata
            self.assertEqual(str(metadata["endpoint_uuid"]), ENDPOINT_ID)
            self.assertEqual(metadata["task_group_uuid"], gcx.task_group_id)
            self.assertIsInstance(metadata["request_uuid"], uuid.UUID)

    def test_raises_what_the_function_raised(self):
        with executor() as gcx:
            with self.assertRaises(TaskExecutionFailed) as caught:
                gcx.submit(fail, "nope").result(timeout=30)
            self.assertIn("KeyError: 'nope'", str(caught.exception))
            # From the timestamp of the message.
            self.assertLess(abs(float(caught.exception.completion_t) - time.time()), 60)

    def test_passes_keyword_arguments(self):
        with executor() as gcx:
            self.assertEqual(gcx.submit(add, x=40, y=2).result(timeout=30), 42)

    def test_runs_a_lambda(self):
        with executor() as gcx:
            self.assertEqual(gcx.submit(lambda a, b: a * b, 6, 7).result(timeout=30), 42)

    def test_runs_a_shell_function(self):
        with executor() as gcx:
            result = gcx.submit(ShellFunction("echo hello {name}; echo trouble >&2; exit 3"), name="you").result(30)
            self.assertEqual((result.returncode, result.stdout), (3, "hello you\n"))
            # Followed by the SDK's own warning when tasks have no sandbox.
            self.assertTrue(result.stderr.startswith("trouble\n"), result.stderr)

    def test_passes_an_argument_of_five_megabytes(self):
        with executor() as gcx:
            self.assertEqual(gcx.submit(size_of, b"x" * 5_000_000).result(timeout=60), 5_000_000)

    def test_has_no_map_and_maps_by_submitting(self):
        with executor() as gcx:
            with self.assertRaises(NotImplementedError):
                gcx.map(add, range(3))
            numbers = {gcx.submit(add, number): number for number in range(30)}
            for future in concurrent.futures.as_completed(numbers, timeout=60):
                self.assertEqual(future.result(), numbers[future] + 1)

    def test_registers_functions_once(self):
        with executor() as gcx:
            function_id = gcx.register_function(add, description="adds", public=True)
            self.assertEqual(client_of("STRANGER").get_function(function_id)["description"], "adds")
            with self.assertRaisesRegex(ValueError, function_id):
                gcx.register_function(add)
            source_id = gcx.register_source_code("def thrice(x):\n    return 3 * x\n", "thrice")
            futures = [gcx.submit(add, 1), gcx.submit_to_registered_function(source_id, args=(2,))]
            self.assertEqual([future.result(timeout=30) for future in futures], [2, 6])

    def test_runs_a_public_function_of_somebody_else(self):
        function_id = client_of("STRANGER").register_function(add, public=True)
        with executor() as gcx:
            future = gcx.submit_to_registered_function(function_id, args=(1,), kwargs={"y": 5})
            self.assertEqual(future.result(timeout=30), 6)

    def test_asks_for_results_in_json(self):
        with executor(result_serializers=[JSONData()]) as gcx:
            future = gcx.submit(add, 1)
            self.assertEqual(future.result(timeout=30), 2)
            self.assertEqual(document_of(gcx.client, future.task_id)["result"], "11\n2")

    def test_takes_a_serializer(self):
        with executor(serializer=ComputeSerializer(strategy_data=JSONData())) as gcx:
            self.assertIsInstance(gcx.serializer.data_serializer, JSONData)
            self.assertEqual(gcx.submit(add, [1], y=[2]).result(timeout=30), [1, 2])

    def test_limits_a_task_by_its_resource_specification(self):
        with executor(resource_specification={"walltime": 0.5}) as gcx:
            with self.assertRaisesRegex(TaskExecutionFailed, "(?i)walltime|time"):
                gcx.submit(wait, 20).result(timeout=30)
            gcx.resource_specification = None
            self.assertEqual(gcx.submit(wait, 0.6).result(timeout=30), 0.6)

    def test_sends_a_user_endpoint_config(self):
        with executor(user_endpoint_config={"worker_init": "module load x", "cores": 4}) as gcx:
            self.assertEqual(gcx.submit(add, 1).result(timeout=30), 2)

    def test_two_executors_share_a_task_group_and_mix_up_nothing(self):
        with executor(label="one") as one, executor(label="two", client=Client()) as two:
            firsts = [one.submit(add, number) for number in range(40)]
            seconds = [two.submit(add, number, y=1000) for number in range(40)]
            self.assertEqual([future.result(timeout=60) for future in firsts], [n + 1 for n in range(40)])
            self.assertEqual([future.result(timeout=60) for future in seconds], [n + 1000 for n in range(40)])
            self.assertEqual(one.task_group_id, two.task_group_id)

    def test_two_executors_with_groups_of_their_own(self):
        group_ids = [uuid.uuid4(), uuid.uuid4()]
        with executor(task_group_id=group_ids[0]) as one, executor(task_group_id=group_ids[1]) as two:
            futures = [one.submit(add, 1), two.submit(add, 2)]
            self.assertEqual([future.result(timeout=30) for future in futures], [2, 3])
            self.assertEqual([one.task_group_id, two.task_group_id], group_ids)
            for group_id, future in zip(group_ids, futures):
                group = one.client._compute_web_client.v2.get_task_group(group_id).data
                self.assertEqual([task["id"] for task in group["tasks"]], [future.task_id])

    def test_waits_for_open_futures_at_shutdown(self):
        gcx = executor()
        futures = [gcx.submit(wait, 1) for _ in range(3)]
        # The SDK waits for ever when it is shut down between two of its own requests (docs/protocol.md).
        wait_for_ids(futures)
        gcx.shutdown()
        self.assertEqual([future.done() for future in futures], [True] * 3)
        self.assertEqual([future.result() for future in futures], [1] * 3)
        with self.assertRaisesRegex(RuntimeError, "is shutdown"):
            gcx.submit(add, 1)

    def test_does_not_wait_at_shutdown_when_told_so(self):
        gcx = executor()
        future = gcx.submit(wait, 2)
        wait_for_ids([future])
        gcx.shutdown(wait=False)
        self.assertFalse(future.done())
        # The stream goes on for as long as the program does.
        self.assertEqual(future.result(timeout=30), 2)

    def test_cancels_at_shutdown_what_it_has_not_sent(self):
        # The SDK counts only requests of fewer tasks than the limit: from the third one on it waits.
        gcx = executor(api_burst_limit=2, api_burst_window_s=16, batch_size=1)
        futures = [gcx.submit(add, number) for number in range(20)]
        self.assertEqual(futures[0].result(timeout=30), 1)
        gcx.shutdown(wait=False, cancel_futures=True)
        cancelled = [future for future in futures if future.cancelled()]
        self.assertGreaterEqual(len(cancelled), 10)
        for future in futures:
            if future not in cancelled and future.task_id is not None:
                future.result(timeout=30)

    def test_goes_to_another_amqp_port(self):
        # The suite forwards it to the broker, and sees that it was used.
        with executor(task_group_id=some_id(), amqp_port=int(os.environ["OTHER_AMQP_PORT"])) as gcx:
            self.assertEqual(gcx.submit(add, 1).result(timeout=30), 2)

    def test_gets_the_hardware_of_the_worker(self):
        with executor() as gcx:
            self.assertIn("== Compute Endpoint worker == == shell: ", gcx.get_worker_hardware_details())

    def test_is_not_warned_of_environment_differences(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with executor() as gcx:
                gcx.submit(add, 1).result(timeout=30)
        self.assertEqual([str(w.message) for w in caught if "Environment differences" in str(w.message)], [])

    def test_is_not_disturbed_by_what_a_function_prints(self):
        with executor() as gcx:
            self.assertEqual(gcx.submit(say, "hello\n" * 10_000).result(timeout=30), "hello\n" * 10_000)

    def test_calls_a_javascript_function(self):
        with executor(client=Client(), serializer=ComputeSerializer(strategy_data=JSONData())) as gcx:
            future = gcx.submit_to_registered_function(os.environ["JAVASCRIPT_FUNCTION_ID"], args=(20, 22))
            self.assertEqual(future.result(timeout=30), 42)

    def test_is_told_how_to_call_a_javascript_function(self):
        with executor() as gcx:
            future = gcx.submit_to_registered_function(os.environ["JAVASCRIPT_FUNCTION_ID"], args=(20, 22))
            with self.assertRaises(TaskExecutionFailed) as caught:
                future.result(timeout=30)
            self.assertIn("JSONData", str(caught.exception))

    def test_reloads_in_a_new_process_what_another_left_behind(self):
        writer = subprocess.run(
            [sys.executable, "leave_tasks.py"], capture_output=True, text=True, timeout=60, check=True
        )
        group_id, *task_ids = writer.stdout.split()
        self.assertEqual(len(task_ids), 6)
        with executor(client=Client()) as gcx:
            futures = {future.task_id: future for future in gcx.reload_tasks(group_id)}
            self.assertEqual(list(futures), task_ids)
            # Some had ended, and come from the service; one sleeps, and comes from the queue.
            self.assertEqual([futures[id_].result(timeout=60) for id_ in task_ids[:4]], [1, 2, 3, 4])
            with self.assertRaisesRegex(TaskExecutionFailed, "KeyError: 'left behind'"):
                futures[task_ids[4]].result(timeout=60)
            self.assertEqual(futures[task_ids[5]].result(timeout=60), "slept")
            self.assertEqual(str(gcx.task_group_id), group_id)

    def test_reads_by_id_what_an_executor_submitted(self):
        with executor() as gcx:
            future = gcx.submit(add, 41)
            future.result(timeout=30)
            self.assertEqual(result_of(Client(), future.task_id), 42)


if __name__ == "__main__":
    outcomes.run()
