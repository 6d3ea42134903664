"""Unpacks messages, one in hexadecimal a line, with the package that defines them, and prints each as JSON."""

import sys

from globus_compute_common.messagepack import unpack

for line in sys.stdin:
    print(unpack(bytes.fromhex(line)).model_dump_json())
