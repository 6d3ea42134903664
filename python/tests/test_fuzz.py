"""The shim's readers under random and damaged input: a value, or a refusal with a name. Repeat a run with FUZZ_SEED=N.

    FUZZ_SEED=7 FUZZ_EXAMPLES=20000 python3 -m unittest discover -s python/tests -p test_fuzz.py
"""

import io
import json
import os
import random
import struct
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.dont_write_bytecode = True

import outpost_worker as worker  # noqa: E402

SEED = int(os.environ.get("FUZZ_SEED") or 20_260_301)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or 400)
PIECES = ["", "\n", '"', "\\", "0", "1", ":", "\0", "\ud800", "\U0001f600", "é", "11\n[1]", "NaN", "st\nf:def f(): pass\n"]


class Generator:
    """Random values of the wire."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def text(self):
        return "".join(self.random.choice(PIECES) for _ in range(self.random.randrange(6)))

    def value(self, depth=3):
        kinds = [None, True, self.random.randrange(-(2**53), 2**53), self.random.random(), self.text()]
        if depth > 0:
            kinds.append([self.value(depth - 1) for _ in range(self.random.randrange(3))])
            kinds.append({self.text(): self.value(depth - 1) for _ in range(self.random.randrange(3))})
        return self.random.choice(kinds)

    def bytes(self, count_max):
        return self.random.randbytes(self.random.randrange(count_max + 1))

    def damaged(self, data):
        at = self.random.randrange(len(data) + 1)
        kind = self.random.randrange(4)
        if kind == 0:
            return data[:at]
        if kind == 1:
            return data[:at] + self.bytes(8) + data[at + 4 :]
        if kind == 2:
            return data + data[at:]
        return self.bytes(40)


class Fuzz(unittest.TestCase):
    def examples(self):
        for number in range(EXAMPLES):
            seed = SEED + number
            with self.subTest("FUZZ_SEED=%d FUZZ_EXAMPLES=1" % seed):
                yield Generator(seed)

    def test_frames_round_trip_and_refuse_every_beginning(self):
        for make in self.examples():
            header = {**{make.text(): make.value()}, "type": make.text()}
            body = make.bytes(100)
            whole = worker.encode_frame(header, body)
            stream = io.BytesIO(whole + whole)
            self.assertEqual(worker.read_frame(stream), (header, body))
            self.assertEqual(worker.read_frame(stream), (header, body))
            self.assertIsNone(worker.read_frame(stream))
            with self.assertRaises(worker.FrameError):
                worker.read_frame(io.BytesIO(whole[: make.random.randrange(1, len(whole))]))

    def test_damaged_frames_are_refused_by_name(self):
        for make in self.examples():
            data = make.damaged(worker.encode_frame({"type": "x", "more": make.value()}, make.bytes(50)))
            try:
                worker.read_frame(io.BytesIO(data))
            except worker.FrameError as error:
                self.assertTrue(str(error))

    def test_a_length_that_is_only_claimed_is_not_read(self):
        class Counting(io.BytesIO):
            asked = 0

            def read(self, size=-1):
                self.asked = max(self.asked, size)
                return super().read(size)

        for make in self.examples():
            stream = Counting(struct.pack(">II", make.random.randrange(2**32), make.random.randrange(2**32)))
            with self.assertRaises(worker.FrameError):
                worker.read_frame(stream)
            self.assertLessEqual(stream.asked, worker.FRAME_BYTES_MAX)

    def test_packed_buffers_round_trip(self):
        for make in self.examples():
            buffers = [make.text() for _ in range(make.random.randrange(5))]
            packed = worker.pack_buffers(buffers)
            self.assertEqual(worker.unpack_buffers(packed), buffers)
            text = packed[: make.random.randrange(len(packed) + 1)] + make.text()
            try:
                read = worker.unpack_buffers(text)
                self.assertEqual(worker.unpack_buffers(worker.pack_buffers(read)), read)
            except worker.DeserializationError as error:
                self.assertIn("packed buffer", str(error))

    def test_damaged_envelopes_are_refused_by_name(self):
        for make in self.examples():
            buffer = make.text()
            data = {"task_id": "t", "task_buffer": buffer, "more": make.value()}
            envelope = b"\x01" + json.dumps({"message_type": "task", "data": data}).encode()
            self.assertEqual(worker.unpack_task(envelope), buffer)
            try:
                worker.unpack_task(make.damaged(envelope))
            except worker.EnvelopeError as error:
                self.assertIn("message is malformed", str(error))


class Found(unittest.TestCase):
    """What random input found."""

    def test_json_that_nests_too_deep_is_refused_by_name(self):
        deep = b"[" * 100_000 + b"]" * 100_000
        with self.assertRaises(worker.EnvelopeError):
            worker.unpack_task(b"\x01" + deep)
        with self.assertRaises(worker.FrameError):
            worker.read_frame(io.BytesIO(struct.pack(">II", 4 + len(deep), len(deep)) + deep))

    def test_numbers_that_are_not_json_are_refused_in_envelopes_and_kept_in_values(self):
        data = b'{"task_buffer":"x","n":NaN}'
        with self.assertRaises(worker.EnvelopeError):
            worker.unpack_task(b'\x01{"message_type":"task","data":' + data + b"}")
        self.assertEqual(worker.deserialize("11\n-Infinity"), float("-inf"))

    def test_a_length_has_ten_digits_at_most(self):
        self.assertEqual(worker.unpack_buffers("0000000001\nx"), ["x"])
        with self.assertRaises(worker.DeserializationError):
            worker.unpack_buffers("00000000001\nx")


if __name__ == "__main__":
    unittest.main()
