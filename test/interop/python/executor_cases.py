"""The unmodified Executor against our hub and agent."""

import os
import time
import unittest
import warnings

import outcomes
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.serialize import (
    AllCodeStrategies,
    ComputeSerializer,
    JSONData,
    PureSourceTextInspect,
)

ENDPOINT_ID = os.environ["ENDPOINT_ID"]


def add(x, y=1):
    return x + y


def fail(text):
    raise KeyError(text)


def size_of(data):
    return len(data)


def say(text):
    print(text)
    return text


class ExecutorCases(unittest.TestCase):
    def test_runs_a_thousand_tasks(self):
        with Executor(endpoint_id=ENDPOINT_ID) as executor:
            futures = [executor.submit(add, number, y=number) for number in range(1000)]
            self.assertEqual([future.result(timeout=120) for future in futures], [2 * n for n in range(1000)])

    def test_raises_what_the_function_raised(self):
        with Executor(endpoint_id=ENDPOINT_ID) as executor:
            with self.assertRaises(TaskExecutionFailed) as caught:
                executor.submit(fail, "nope").result(timeout=30)
            self.assertIn("KeyError: 'nope'", str(caught.exception))

    def test_passes_keyword_arguments(self):
        with Executor(endpoint_id=ENDPOINT_ID) as executor:
            self.assertEqual(executor.submit(add, x=40, y=2).result(timeout=30), 42)

    def test_runs_a_lambda(self):
        with Executor(endpoint_id=ENDPOINT_ID) as executor:
            self.assertEqual(executor.submit(lambda a, b: a * b, 6, 7).result(timeout=30), 42)

    def test_passes_an_argument_of_five_megabytes(self):
        with Executor(endpoint_id=ENDPOINT_ID) as executor:
            self.assertEqual(executor.submit(size_of, b"x" * 5_000_000).result(timeout=60), 5_000_000)

    def test_sends_source_and_json(self):
        with Executor(endpoint_id=ENDPOINT_ID) as executor:
            executor.serializer = ComputeSerializer(strategy_code=PureSourceTextInspect(), strategy_data=JSONData())
            self.assertEqual(executor.submit(add, 1, y=2).result(timeout=30), 3)

    def test_sends_all_code_strategies(self):
        with Executor(endpoint_id=ENDPOINT_ID) as executor:
            executor.serializer = ComputeSerializer(strategy_code=AllCodeStrategies())
            self.assertEqual(executor.submit(add, 1, y=2).result(timeout=30), 3)

    def test_is_not_warned_of_environment_differences(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with Executor(endpoint_id=ENDPOINT_ID) as executor:
                executor.submit(add, 1).result(timeout=30)
        self.assertEqual([str(w.message) for w in caught if "Environment differences" in str(w.message)], [])

    def test_is_not_disturbed_by_what_a_function_prints(self):
        with Executor(endpoint_id=ENDPOINT_ID) as executor:
            self.assertEqual(executor.submit(say, "hello\n" * 10_000).result(timeout=30), "hello\n" * 10_000)

    def test_calls_a_javascript_function(self):
        with Executor(endpoint_id=ENDPOINT_ID) as executor:
            executor.serializer = ComputeSerializer(strategy_data=JSONData())
            future = executor.submit_to_registered_function(os.environ["JAVASCRIPT_FUNCTION_ID"], args=(20, 22))
            self.assertEqual(future.result(timeout=30), 42)

    def test_is_told_how_to_call_a_javascript_function(self):
        with Executor(endpoint_id=ENDPOINT_ID) as executor:
            future = executor.submit_to_registered_function(os.environ["JAVASCRIPT_FUNCTION_ID"], args=(20, 22))
            with self.assertRaises(TaskExecutionFailed) as caught:
                future.result(timeout=30)
            self.assertIn("JSONData", str(caught.exception))

    def test_reloads_tasks_of_a_group(self):
        with Executor(endpoint_id=ENDPOINT_ID) as executor:
            futures = [executor.submit(add, number) for number in range(5)]
            for future in futures:
                future.result(timeout=30)
            group_id = executor.task_group_id
        with Executor(endpoint_id=ENDPOINT_ID, task_group_id=group_id, client=Client()) as executor:
            reloaded = executor.reload_tasks()
            # Executors of one process share a task group, so other cases' tasks are among them, failed ones too.
            results = [future.result(timeout=30) for future in reloaded if future.exception(timeout=30) is None]
            self.assertLessEqual({1, 2, 3, 4, 5}, {result for result in results if isinstance(result, int)})


if __name__ == "__main__":
    outcomes.run()
