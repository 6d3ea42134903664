"""Submits six tasks, waits for five of them, prints the group and the ids, and dies without a farewell."""

import os
import time

from support import executor


def add(x, y=1):
    return x + y


def fail(text):
    raise KeyError(text)


def sleep(seconds):
    import time

    time.sleep(seconds)
    return "slept"


gcx = executor()
futures = [gcx.submit(add, number) for number in range(4)]
futures.append(gcx.submit(fail, "left behind"))
for future in futures:
    future.exception(timeout=30)
futures.append(gcx.submit(sleep, 4))
while futures[-1].task_id is None:
    time.sleep(0.05)
print(gcx.task_group_id, *(future.task_id for future in futures), flush=True)
os._exit(0)
