"""Golden buffers of the Globus Compute SDK, read and written by the shim."""

import ast
import os
import sys
import types
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

import outpost_worker as worker  # noqa: E402
from test_outpost_worker import golden  # noqa: E402

VECTORS = golden("serialization.json")
OWN = "%d.%d" % sys.version_info[:2]
HAS_DILL = worker.installed_version("dill") is not None
HAS_SDK = worker.installed_version("globus_compute_sdk") is not None


class Data(unittest.TestCase):
    def test_reads_what_the_sdk_writes(self):
        for vector in VECTORS["data"]:
            if "json" not in vector and not HAS_DILL:
                continue
            value = ast.literal_eval(vector["python"])
            with self.subTest(vector["name"]):
                read = worker.deserialize(vector["buffer"])
                # JSON makes lists of tuples, and AllDataStrategies prefers JSON.
                self.assertEqual(read, list(value) if isinstance(value, tuple) and "json" in vector else value)

    def test_writes_what_the_sdk_writes(self):
        for vector in VECTORS["data"]:
            if vector["id"] != "11" and not HAS_DILL:
                continue
            with self.subTest(vector["name"]):
                self.assertEqual(worker.serialize(vector["id"], ast.literal_eval(vector["python"])), vector["buffer"])

    def test_asks_for_dill_by_name_when_it_is_missing(self):
        if HAS_DILL:
            self.skipTest("this interpreter has dill")
        with self.assertRaisesRegex(worker.DillMissingError, "-m pip install dill"):
            worker.deserialize("00\ngAROLg==\n")


class Code(unittest.TestCase):
    def check(self, function):
        case = VECTORS["code"]
        self.assertEqual(function(*case["args"], **case["kwargs"]), case["value"])

    def test_runs_every_source_form_in_any_version_without_dill(self):
        for vector in VECTORS["code"]["sources"]:
            with self.subTest(vector["name"]):
                self.check(worker.deserialize(vector["buffer"]))

    def test_refuses_byte_code_of_other_versions_before_it_is_loaded(self):
        for vector in VECTORS["code"]["byte_code"]:
            if vector["python"] == OWN:
                continue
            with self.subTest(vector["python"]), self.assertRaises(worker.PythonVersionError) as caught:
                worker.deserialize(vector["buffer"])
            message = str(caught.exception)
            self.assertIn(vector["python"], message)
            self.assertIn("AllCodeStrategies()", message)
            self.assertIn("submit from Python " + OWN, message)

    def test_refuses_functions_among_the_arguments_too(self):
        foreign = [vector for vector in VECTORS["code"]["byte_code"] if vector["python"] not in (OWN, "3.8", "3.9")]
        with self.assertRaises(worker.PythonVersionError):
            worker.deserialize("00" + foreign[0]["buffer"][2:])

    def test_byte_code_of_another_version_does_not_keep_a_source_form_from_running(self):
        for vector in VECTORS["code"]["byte_code"]:
            source = VECTORS["code"]["sources"][0]["buffer"]
            with self.subTest(vector["python"]):
                if vector["python"] != OWN:
                    self.check(worker.deserialize("12\n" + worker.pack_buffers([vector["buffer"], source])))

    @unittest.skipUnless(HAS_DILL, "this interpreter has no dill")
    def test_runs_byte_code_of_its_own_version(self):
        own = [vector for vector in VECTORS["code"]["byte_code"] if vector["python"] == OWN]
        for vector in own:
            self.check(worker.deserialize(vector["buffer"]))

    def test_runs_functions_that_are_pickled_by_their_name(self):
        for vector in VECTORS["by_reference"]:
            if vector["id"] == "01" and not HAS_DILL:
                continue
            with self.subTest(vector["name"]):
                self.assertEqual(worker.deserialize(vector["buffer"])(*vector["args"]), vector["value"])


class ByteCode(unittest.TestCase):
    def test_never_refuses_what_this_version_compiled(self):
        byte_code = worker.companion("outpost_byte_code")
        for module in (ast, types, unittest.case, unittest.mock if hasattr(unittest, "mock") else unittest.suite):
            with open(module.__file__, encoding="utf-8") as file:
                compiled = compile(file.read(), module.__file__, "exec")
            for code in byte_code.codes_within(compiled):
                self.assertTrue(byte_code._is_own(byte_code.fields_of(code)), (module.__name__, code.co_name))

    def test_runs_nothing_that_a_pickle_names(self):
        import pickle

        marker = os.path.join(HERE, "must-not-appear")

        class Evil:
            def __reduce__(self):
                return os.mkdir, (marker,)

        byte_code = worker.companion("outpost_byte_code")
        self.assertIsNone(byte_code.foreign_version(pickle.dumps([Evil(), "_create_code"])))
        self.assertFalse(os.path.exists(marker))

    def test_leaves_what_is_no_pickle_to_the_unpickler(self):
        self.assertIsNone(worker.companion("outpost_byte_code").foreign_version(b"_create_code"))


class Missing(unittest.TestCase):
    def test_names_the_package_of_a_shell_function(self):
        if HAS_SDK:
            self.skipTest("this interpreter has the SDK")
        for vector in VECTORS["shell"]:
            with self.subTest(vector["name"]):
                with self.assertRaisesRegex(worker.PackageMissingError, "-m pip install globus-compute-sdk`"):
                    worker.deserialize(vector["buffer"])

    def test_names_the_module_that_a_pickle_needs(self):
        # GLOBAL of a module that nobody has.
        import base64

        payload = base64.b64encode(b"cno_such_module_here\nf\n.").decode()
        with self.assertRaisesRegex(worker.PackageMissingError, "needs the module no_such_module_here"):
            worker.deserialize("02\n" + payload)


if __name__ == "__main__":
    unittest.main()
