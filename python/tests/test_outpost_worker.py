"""Tests of the worker shim, without a host. Run with `python3 -m unittest discover -s python/tests`."""

import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SHIM = os.path.join(HERE, "..", "outpost_worker.py")
GOLDEN = os.path.join(HERE, "..", "..", "test", "golden")
sys.path.insert(0, os.path.join(HERE, ".."))
sys.dont_write_bytecode = True

import outpost_worker as worker  # noqa: E402

# Popen can pass descriptors on but not renumber them.
MOVE_DESCRIPTORS = """
import os, sys
high = [os.dup2(int(fd), number) for fd, number in zip(sys.argv[1:3], (30, 31))]
os.dup2(high[0], 3)
os.dup2(high[1], 4)
os.execv(sys.executable, [sys.executable] + sys.argv[3:])
"""

TASK_ID = "11111111-2222-4333-8444-555555555555"


def golden(name):
    with open(os.path.join(GOLDEN, name), encoding="utf-8") as file:
        return json.load(file)


def task_message(*buffers):
    data = {"task_id": TASK_ID, "container_id": None, "container": None, "task_buffer": worker.pack_buffers(buffers)}
    return b"\x01" + json.dumps({"message_type": "task", "data": data}).encode()


class GoldenFrames(unittest.TestCase):
    def test_encodes_and_decodes_as_the_host_does(self):
        for vector in golden("frames.json")["frames"]:
            with self.subTest(vector["name"]):
                body = bytes.fromhex(vector["body_hex"])
                self.assertEqual(worker.encode_frame(vector["header"], body).hex(), vector["hex"])
                header, read = worker.read_frame(io.BytesIO(bytes.fromhex(vector["hex"])))
                self.assertEqual((header, read), (vector["header"], body))

    def test_refuses_what_is_no_frame(self):
        for vector in golden("frames.json")["invalid"]:
            with self.subTest(vector["name"]), self.assertRaises(worker.FrameError):
                worker.read_frame(io.BytesIO(bytes.fromhex(vector["hex"])))

    def test_tells_an_end_between_frames_from_one_inside(self):
        self.assertIsNone(worker.read_frame(io.BytesIO(b"")))
        whole = worker.encode_frame({"type": "x"}, b"body")
        for length in range(1, len(whole)):
            with self.assertRaises(worker.FrameError):
                worker.read_frame(io.BytesIO(whole[:length]))

    def test_refuses_to_write_a_frame_over_the_limit(self):
        with self.assertRaises(worker.FrameError):
            worker.encode_frame({"type": "x" * worker.FRAME_HEADER_BYTES_MAX})


class GoldenWire(unittest.TestCase):
    def test_packed_buffers(self):
        for vector in golden("wire.json")["packed_buffers"]:
            with self.subTest(vector["name"]):
                self.assertEqual(worker.pack_buffers(vector["buffers"]).encode().hex(), vector["hex"])
                self.assertEqual(worker.unpack_buffers(bytes.fromhex(vector["hex"]).decode()), vector["buffers"])

    def test_invalid_packed_buffers(self):
        for text in golden("wire.json")["invalid_packed_buffers"]:
            with self.subTest(text), self.assertRaises(worker.DeserializationError):
                worker.unpack_buffers(text)

    def test_reads_task_messages(self):
        for vector in golden("wire.json")["messages"]["tasks"]:
            with self.subTest(vector["name"]):
                self.assertEqual(worker.unpack_task(bytes.fromhex(vector["hex"])), vector["task_buffer"])

    def test_writes_result_messages(self):
        for vector in golden("wire.json")["messages"]["results"]:
            with self.subTest(vector["name"]):
                packed = worker.pack_result(
                    vector["task_id"],
                    vector["data"],
                    worker.compact(vector["details"]),
                    vector["error_details"],
                    int(vector["started_ns"]),
                    int(vector["ended_ns"]),
                )
                self.assertEqual(packed.hex(), vector["hex"])

    def test_spells_lone_surrogates(self):
        packed = worker.pack_result(TASK_ID, "\ud83d", "null", None, 1, 2)
        self.assertEqual(json.loads(packed[1:])["data"]["data"], "\ud83d")

    def test_refuses_other_messages(self):
        for body in (b"", b"\x02{}", b"\x01[", b"\x01[]", b'\x01{"message_type":"result","data":{}}'):
            with self.subTest(body), self.assertRaises(worker.EnvelopeError):
                worker.unpack_task(body)


class Serialization(unittest.TestCase):
    def test_json(self):
        value = {"a": [1, "\u00e9", None, True, 1.5]}
        self.assertEqual(worker.serialize("11", value), '11\n{"a": [1, "\\u00e9", null, true, 1.5]}')
        self.assertEqual(worker.deserialize(worker.serialize("11", value)), value)

    def test_a_value_is_plain_only_when_json_keeps_it(self):
        for value in (None, True, 1, 1.5, "s", [1, [2, {"k": None}]]):
            self.assertTrue(worker.is_plain(value), value)
        self.assertFalse(worker.is_plain([1, (2,)]), "JSON makes a list of a tuple")
        self.assertTrue(worker.is_plain([1, (2,)], (list, tuple)))
        for value in ({1: 2}, {1, 2}, b"", float("nan"), float("inf"), object(), [1j]):
            self.assertFalse(worker.is_plain(value), value)

    def test_source_runs_in_a_fresh_namespace(self):
        source = "st\nf:state = []\ndef f(x):\n    state.append(x)\n    return state\n"
        self.assertEqual([worker.deserialize(source)(1), worker.deserialize(source)(2)], [[1], [2]])

    def test_source_that_does_not_define_the_name(self):
        with self.assertRaisesRegex(worker.DeserializationError, "does not define 'g'"):
            worker.deserialize("sd\ng:def f(): pass")

    def test_combined_code_takes_the_first_that_loads(self):
        source = "def f():\n    return 1\n"
        self.assertEqual(worker.deserialize("12\n" + worker.pack_buffers(["01\nnonsense", "st\nf:" + source]))(), 1)

    def test_pickled_code_needs_no_dill(self):
        import base64
        import pickle

        self.assertIs(worker.deserialize("02\n" + base64.b64encode(pickle.dumps(os.getcwd)).decode()), os.getcwd)

    def test_asked_serializers_are_tried_in_order(self):
        prefix = "globus_compute_sdk.serialize.concretes."
        self.assertEqual(worker.serialize_with(1, [prefix + "DillCode", prefix + "JSONData"]), "11\n1")
        self.assertEqual(worker.serialize_with(1, ["globus_compute_sdk.serialize.JSONData"]), "11\n1")
        with self.assertRaisesRegex(worker.SerializationError, "(?s)All strategies failed.*JSONData: TypeError: .*set"):
            worker.serialize_with({1}, [prefix + "JSONData"])
        for path in ("JSONData", "somewhere.else.JSONData", prefix + "PickleCode", prefix + "PureSourceDill"):
            with self.subTest(path), self.assertRaisesRegex(worker.SerializationError, "not a data serializer"):
                worker.serialize_with(1, [path])

    def test_a_callable_takes_the_code_serializers_of_the_list(self):
        import textwrap

        prefix = "globus_compute_sdk.serialize."
        buffer = worker.serialize_with(textwrap.dedent, [prefix + "JSONData", prefix + "PureSourceTextInspect"])
        self.assertEqual(buffer[:16], "st\ndedent:def de")

    def test_the_code_cache_is_bounded_and_forgets_sources(self):
        import linecache

        cache = worker.CodeCache()
        for number in range(worker.CODE_CACHE_COUNT_MAX + 10):
            cache.compile("many", "x = %d" % number)
        held = [name for name in linecache.cache if name.startswith("<function many ")]
        self.assertEqual(len(held), worker.CODE_CACHE_COUNT_MAX)


@unittest.skipIf(worker.installed_version("dill") is None, "this interpreter has no dill")
class Dill(unittest.TestCase):
    def test_vectors_of_the_origin(self):
        for value, text in (((), "gAQpLg=="), ({}, "gAR9lC4="), (None, "gAROLg=="), (3, "gARLAy4=")):
            self.assertEqual(worker.serialize("00", value), "00\n%s\n" % text)

    def test_every_code_serializer_reads_what_it_writes(self):
        import textwrap

        for identifier in ("01", "03", "04", "st", "sd", "10", "12"):
            with self.subTest(identifier):
                buffer = worker.serialize(identifier, textwrap.dedent)
                try:
                    self.assertEqual(worker.deserialize(buffer)("  a"), "a")
                except NameError:
                    self.assertIn(identifier, ("03", "04", "st", "sd", "10", "12"), "source forms lose their module")


class Process(unittest.TestCase):
    """The shim as a process, with this test as its host."""

    def start(self, **config):
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        self.out, self.err = tempfile.TemporaryFile("a+b"), tempfile.TemporaryFile("a+b")
        self.process = subprocess.Popen(
            [sys.executable, "-c", MOVE_DESCRIPTORS, str(request_read), str(answer_write), SHIM, str(os.getpid())],
            pass_fds=(request_read, answer_write),
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=self.err,
        )
        os.close(request_read)
        os.close(answer_write)
        self.requests = open(request_write, "wb", buffering=0)
        self.answers = open(answer_read, "rb")
        settings = {"endpoint_id": "e", "working_dir": HERE, "result_chars_max": 1000, "output_bytes_max": 100}
        settings.update(config)
        self.requests.write(worker.encode_frame(dict(settings, type="configure")))
        return worker.read_frame(self.answers)[0]

    def tearDown(self):
        self.requests.close()
        self.process.wait(10)
        for file in (self.answers, self.out, self.err):
            file.close()

    def run_task(self, source, args="11\n[]", **header):
        header = dict({"type": "task", "task_id": TASK_ID, "nonce": "n"}, **header)
        self.requests.write(worker.encode_frame(header, task_message("st\nf:" + source, args, "11\n{}")))
        frame, body = worker.read_frame(self.answers)
        return frame, json.loads(body[1:])["data"]

    def test_runs_tasks_and_ends_with_its_stream(self):
        ready = self.start()
        self.assertEqual((ready["type"], ready["pid"]), ("ready", self.process.pid))
        frame, result = self.run_task("def f(a):\n    print('hi')\n    return a\n", "11\n[7]")
        self.assertEqual(frame["output"], {"stdout": "hi\n"})
        self.assertEqual((frame["nonce"], frame["failed"], result["data"]), ("n", False, "11\n7"))
        self.requests.close()
        self.assertEqual(self.process.wait(10), 0)

    def test_reports_what_a_function_raises(self):
        self.start()
        frame, result = self.run_task("def f():\n    raise ValueError('boom')\n")
        self.assertTrue(frame["failed"])
        self.assertEqual(result["error_details"]["exception"], {"type": "ValueError", "message": "boom"})
        self.assertIn("raise ValueError('boom')", result["data"])
        self.assertNotIn("outpost_worker", result["data"])

    def test_refuses_a_body_that_is_no_task(self):
        self.start()
        self.requests.write(worker.encode_frame({"type": "task", "task_id": TASK_ID, "nonce": "n"}, b"\x02"))
        _, body = worker.read_frame(self.answers)
        details = json.loads(body[1:])["data"]["error_details"]
        self.assertEqual(details["code"], "CouldNotExecuteUserTaskError")

    def test_prints_cannot_disturb_the_protocol(self):
        self.start()
        noise = "import os, sys\ndef f():\n    os.write(1, %r)\n    sys.stdin.read()\n    return 1\n" % struct.pack(">II", 8, 4)
        self.assertEqual(self.run_task(noise)[1]["data"], "11\n1")


if __name__ == "__main__":
    unittest.main()
