"""The unmodified globus-compute-sdk through the hub: idle latency, then a batch at once. Prints JSON.

    sdk_batch.py TASKS SAMPLES
"""

import json
import os
import sys
import time

import globus_compute_sdk
from globus_compute_sdk import Executor


def noop():
    return 1


def main():
    task_count, sample_count = int(sys.argv[1]), int(sys.argv[2])
    with Executor(endpoint_id=os.environ["ENDPOINT_ID"]) as executor:
        executor.submit(noop).result(timeout=60)
        latencies = []
        for _ in range(sample_count):
            begun = time.perf_counter()
            executor.submit(noop).result(timeout=60)
            latencies.append((time.perf_counter() - begun) * 1000)
        begun = time.perf_counter()
        futures = [executor.submit(noop) for _ in range(task_count)]
        for future in futures:
            future.result(timeout=600)
        seconds = time.perf_counter() - begun
    version = globus_compute_sdk.__version__
    print(json.dumps({"latenciesMs": latencies, "seconds": seconds, "sdkVersion": version}))


if __name__ == "__main__":
    main()
