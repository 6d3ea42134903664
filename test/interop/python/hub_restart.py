"""Submits before, during and after a restart of the hub; the suite restarts it when told to on stdout."""

import sys

from support import executor


def add(x, y=1):
    return x + y


with executor() as gcx:
    futures = [gcx.submit(add, number) for number in range(300)]
    futures[0].result(timeout=60)
    print("restart", flush=True)
    # The second half is submitted while the hub is down and on its way back.
    futures += [gcx.submit(add, number) for number in range(300, 600)]
    sys.stdin.readline()
    futures += [gcx.submit(add, number) for number in range(600, 700)]
    results = [future.result(timeout=120) for future in futures]
    assert results == [number + 1 for number in range(700)], results
print("done", flush=True)
