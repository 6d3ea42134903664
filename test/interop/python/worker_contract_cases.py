"""What a function, a command and a program that waits for them see of a worker: sandboxes, shell functions, other Pythons, refusals."""

import os
import unittest

import outcomes
from globus_compute_sdk import MPIFunction, ShellFunction
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.serialize import AllCodeStrategies, ComputeSerializer, JSONData, PureSourceTextInspect
from globus_sdk import ComputeAPIError
from support import executor

OTHER_PYTHON_ID = os.environ.get("OTHER_PYTHON_ENDPOINT_ID", "")
needs_another_python = unittest.skipUnless(OTHER_PYTHON_ID, "this machine has no Python of another minor version")


def where():
    import os

    with open("file", "w"):
        pass
    return os.getcwd(), os.environ["GC_TASK_SANDBOX_DIR"], os.environ["GC_TASK_UUID"], os.environ.get("GC_TASK_TIMEOUT")


def exists(path):
    import os

    return os.path.exists(path)


def version(*_):
    import sys

    return list(sys.version_info[:2])


def outer():
    def inner():
        raise LookupError("deep")

    inner()


class WorkerContractCases(unittest.TestCase):
    def failure(self, future):
        with self.assertRaises(TaskExecutionFailed) as caught:
            future.result(timeout=60)
        return str(caught.exception)

    def test_runs_each_task_in_a_sandbox_that_goes(self):
        with executor(resource_specification={"walltime": 30}) as gcx:
            future = gcx.submit(where)
            cwd, sandbox, task_id, timeout = future.result(timeout=60)
            self.assertEqual((cwd, os.path.basename(cwd)), (sandbox, future.task_id))
            self.assertEqual((task_id, float(timeout)), (future.task_id, 30))
            self.assertFalse(gcx.submit(exists, cwd).result(timeout=60))

    def test_runs_a_shell_function_in_it(self):
        with executor() as gcx:
            result = gcx.submit(ShellFunction("pwd; echo {word} >&2"), word="hello").result(timeout=60)
        self.assertEqual((result.returncode, result.stderr), (0, "hello\n"))
        self.assertRegex(result.stdout, r"/[0-9a-f-]{36}\n$")

    def test_tells_the_exit_code_of_a_command(self):
        with executor() as gcx:
            result = gcx.submit(ShellFunction("exit 3")).result(timeout=60)
        self.assertEqual((result.returncode, result.exception_name), (3, "subprocess.CalledProcessError"))

    def test_ends_a_command_at_its_walltime_with_all_that_it_started(self):
        mark = "98%07d" % (os.getpid() % 10_000_000)
        command = f"sleep {mark} & setsid sleep {mark} & echo started; wait"
        with executor() as gcx:
            result = gcx.submit(ShellFunction(command, walltime=0.5)).result(timeout=60)
        self.assertEqual((result.returncode, result.exception_name), (124, "subprocess.TimeoutExpired"))
        self.assertEqual(result.stdout, "started\n")
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    self.assertNotIn(b"sleep\0" + mark.encode(), file.read())
            except OSError:
                pass

    def test_runs_an_mpi_function(self):
        with executor() as gcx:
            result = gcx.submit(MPIFunction("echo {x}"), x=1).result(timeout=60)
        self.assertEqual((result.returncode, result.stdout, result.cmd), (0, "1\n", "$PARSL_MPI_PREFIX echo 1"))

    def test_runs_an_mpi_function_on_as_many_ranks_as_asked(self):
        with executor() as gcx:
            gcx.resource_specification = {"num_nodes": 1, "num_ranks": 3}
            result = gcx.submit(MPIFunction("echo rank")).result(timeout=60)
        self.assertEqual((result.returncode, result.stdout), (0, "rank\n" * 3))

    def test_shows_the_traceback_down_to_the_line(self):
        with executor() as gcx:
            text = self.failure(gcx.submit(outer))
        self.assertTrue(text.startswith("\n Traceback (most recent call last):\n"), text)
        self.assertIn("in inner\n", text)
        self.assertTrue(text.endswith(" LookupError: deep\n"), text)

    @needs_another_python
    def test_runs_source_in_another_python(self):
        with executor(endpoint_id=OTHER_PYTHON_ID) as gcx:
            gcx.serializer = ComputeSerializer(strategy_code=PureSourceTextInspect(), strategy_data=JSONData())
            self.assertEqual(".".join(map(str, gcx.submit(version).result(timeout=60))), os.environ["OTHER_PYTHON"])

    @needs_another_python
    def test_runs_every_form_in_another_python(self):
        with executor(endpoint_id=OTHER_PYTHON_ID) as gcx:
            gcx.serializer = ComputeSerializer(strategy_code=AllCodeStrategies(), strategy_data=JSONData())
            self.assertEqual(".".join(map(str, gcx.submit(version).result(timeout=60))), os.environ["OTHER_PYTHON"])

    @needs_another_python
    def test_refuses_byte_code_in_another_python_with_the_help_of_the_sdk(self):
        with executor(endpoint_id=OTHER_PYTHON_ID) as gcx:
            gcx.serializer = ComputeSerializer(strategy_data=JSONData())
            text = self.failure(gcx.submit(version))
        self.assertIn("holds byte code of Python", text)
        self.assertIn("strategy_code=AllCodeStrategies()", text)
        self.assertGreater(len(text), 700, "the SDK adds its own help to what is about serialization")

    @needs_another_python
    def test_says_what_a_shell_function_needs(self):
        with executor(endpoint_id=OTHER_PYTHON_ID) as gcx:
            gcx.serializer = ComputeSerializer(strategy_data=JSONData())
            text = self.failure(gcx.submit(ShellFunction("true")))
        self.assertIn("-m pip install globus-compute-sdk", text)

    def test_gives_every_future_the_refusal_of_a_serializer(self):
        gcx = executor(endpoint_id=os.environ["STRICT_ENDPOINT_ID"])
        future = gcx.submit(version)
        with self.assertRaises(ComputeAPIError) as caught:
            future.result(timeout=60)
        self.assertEqual((caught.exception.http_status, caught.exception.code), (422, "SEMANTICALLY_INVALID"))
        self.assertIn("Code serializer DillCode disabled by current configuration", str(caught.exception))
        self.assertIn("PureSourceTextInspect", str(caught.exception))

    def test_runs_what_an_endpoint_allows(self):
        with executor(endpoint_id=os.environ["STRICT_ENDPOINT_ID"]) as gcx:
            gcx.serializer = ComputeSerializer(strategy_code=PureSourceTextInspect(), strategy_data=JSONData())
            self.assertEqual(len(gcx.submit(version, 1).result(timeout=60)), 2)


if __name__ == "__main__":
    outcomes.run()
