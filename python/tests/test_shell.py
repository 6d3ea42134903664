"""What shell functions of the SDK need beside the SDK."""

import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

import outpost_shell as shell  # noqa: E402


class MpiEnvironment(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.saved = dict(os.environ)
        os.environ["PATH"] = self.directory.name
        os.environ.pop("SLURM_JOB_ID", None)
        self.addCleanup(self.restore)

    def restore(self):
        os.environ.clear()
        os.environ.update(self.saved)
        self.directory.cleanup()

    def install(self, name):
        path = os.path.join(self.directory.name, name)
        with open(path, "w") as file:
            file.write("#!/bin/sh\n")
        os.chmod(path, 0o755)

    def test_computes_what_is_not_given(self):
        self.install("mpiexec")
        for specification, ranks, per_node in (
            ({"num_nodes": 1, "ranks_per_node": 4}, "4", "4"),
            ({"num_ranks": 3}, "3", "3"),
            ({"num_nodes": 1}, "1", "1"),
        ):
            variables = shell.mpi_environment(specification)
            self.assertEqual((variables["PARSL_NUM_RANKS"], variables["PARSL_RANKS_PER_NODE"]), (ranks, per_node))
            self.assertEqual(variables["PARSL_MPI_PREFIX"], "mpiexec -n " + ranks)

    def test_leaves_what_is_for_the_agent_alone(self):
        self.assertEqual(shell.mpi_environment({"walltime": 1, "max_retries": 2}), {})

    def test_prefers_srun_only_within_an_allocation(self):
        self.install("mpiexec")
        self.install("srun")
        self.assertTrue(shell.mpi_environment({"num_ranks": 2})["PARSL_MPI_PREFIX"].startswith("mpiexec "))
        os.environ["SLURM_JOB_ID"] = "1"
        prefix = shell.mpi_environment({"num_ranks": 2, "launcher_options": "--overlap"})["PARSL_MPI_PREFIX"]
        self.assertRegex(prefix, r"^srun --ntasks 2 --ntasks-per-node 2 --nodelist \S+ --nodes 1 --overlap$")

    def test_refuses_what_cannot_be_met(self):
        for specification, what in (
            ({"num_nodes": 2}, "set num_nodes to 1"),
            ({"cores": 2}, "cores is not known"),
            ({"num_ranks": "two"}, "num_ranks must be a whole number"),
            ({"num_ranks": 2}, "install Open MPI or MPICH"),
        ):
            with self.subTest(specification), self.assertRaisesRegex(shell.ResourceSpecificationError, what):
                shell.mpi_environment(specification)


@unittest.skipUnless(os.path.isdir("/proc/self"), "this system has no /proc")
class Processes(unittest.TestCase):
    def test_ends_what_ignores_the_request(self):
        task_id = "11111111-2222-4333-8444-%012d" % os.getpid()
        process = subprocess.Popen(
            ["/bin/sh", "-c", "trap '' TERM; echo; sleep 321; sleep 322"],
            env={"GC_TASK_UUID": task_id},
            stdout=subprocess.PIPE,
        )
        process.stdout.readline()
        self.assertIn(process.pid, shell.processes_of(task_id))
        self.assertEqual(shell.processes_of("another"), set())
        self.assertTrue(shell.end_processes_of(task_id))
        self.assertEqual(shell.processes_of(task_id), set())
        process.stdout.close()
        process.wait()


if __name__ == "__main__":
    unittest.main()
