"""The golden messages of test/golden against the package that defines them."""

import json
import pathlib
import unittest
import uuid

import outcomes
from globus_compute_common.messagepack import pack, unpack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result, Task

VECTORS = json.loads((pathlib.Path(__file__).parents[2] / "golden" / "messages.json").read_text())
TYPES = {"task": Task, "result": Result, "ep_status_report": EPStatusReport}


class GoldenCases(unittest.TestCase):
    def test_reads_every_message(self):
        for vector in VECTORS:
            with self.subTest(vector["name"]):
                message = unpack(bytes.fromhex(vector["hex"]))
                self.assertIsInstance(message, TYPES[vector["type"]])
                for field in ("task_id", "endpoint_id"):
                    if field in vector["data"]:
                        self.assertEqual(getattr(message, field), uuid.UUID(vector["data"][field]))

    def test_writes_every_message_alike(self):
        for vector in VECTORS:
            with self.subTest(vector["name"]):
                self.assertEqual(pack(unpack(bytes.fromhex(vector["hex"]))).hex(), vector["hex"])


if __name__ == "__main__":
    outcomes.run()
