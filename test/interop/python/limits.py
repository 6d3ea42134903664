"""Makes more requests than the hub allows, and asks for a result that is too large for a message; prints what came of it."""

import io
import json
import logging
import os

from globus_compute_sdk import Client
from globus_compute_sdk.errors import TaskExecutionFailed
from support import executor


def large(chars):
    return "x" * chars


client = Client()
for _ in range(int(os.environ["REQUESTS"])):
    client.get_endpoints()
outcome = {"requests": int(os.environ["REQUESTS"])}
with executor(client=client) as gce:
    future = gce.submit(large, 200_000)
    try:
        future.result(timeout=60)
    except TaskExecutionFailed as error:
        outcome["failure"] = str(error)
    outcome["task_id"] = future.task_id
try:
    Client().get_result(future.task_id)
except TaskExecutionFailed as error:
    outcome["client_failure"] = str(error)
# A batch is told without what failed, and the log has why.
logged = io.StringIO()
logging.getLogger("globus_compute_sdk").addHandler(logging.StreamHandler(logged))
outcome["records"] = len(Client().get_batch_result([future.task_id]))
outcome["logged"] = logged.getvalue()
print(json.dumps(outcome))
