"""Asks outpost_sdk for results that are too large for a message, in every way that it has; prints what came."""

import json

from outpost_sdk import Client, Executor
from seeds_support import result_of, results_of
from support import ENDPOINT_ID

CHARS = 200_000


def large(chars):
    print("said")
    return "x" * chars


def large_failure(chars):
    raise ValueError("y" * chars)


client = Client()
client.throttling_enabled = False
outcome = {}
function_id = client.register_function(large)
task_id = client.run(CHARS, endpoint_id=ENDPOINT_ID, function_id=function_id)
outcome["client"] = len(result_of(client, task_id))
batch = client.create_batch()
for chars in (1, CHARS, CHARS + 1):
    batch.add(chars, endpoint_id=ENDPOINT_ID, function_id=function_id)
task_ids = client.batch_run(batch)
records = results_of(client, task_ids)
outcome["batch"] = [len(records[task_id]["result"]) for task_id in task_ids]
with Executor(ENDPOINT_ID, client=client) as executor:
    futures = [executor.submit(large, chars) for chars in (CHARS, 2, CHARS + 2)]
    failed = executor.submit(large_failure, CHARS)
    outcome["executor"] = [len(future.result(60)) for future in futures]
    outcome["exception"] = len(str(failed.exception(60)))
    group = executor.task_group_id
with Executor(ENDPOINT_ID, client=client) as executor:
    again = executor.reload_tasks(group)
    outcome["reloaded"] = sorted(len(future.result(60)) for future in again if future.exception(60) is None)
print(json.dumps(outcome))
