"""What the cases of the documents share, whatever the SDK: settings, waiting, and a block of the document's own code.

The code between ``# document`` and ``# end`` is that of the document, word for word; only what it leaves to its reader is filled in.
"""

import contextlib
import io
import os
import time

TUTORIAL_ENDPOINT = "4b116d3c-1703-4f8f-9f6f-39921e5864df"
SECOND_ENDPOINT = os.environ["SECOND_ENDPOINT_ID"]
GROUP = os.environ["GROUP_ID"]
LIMIT_S = 60


def until(attempt, limit_s=LIMIT_S):
    """The first outcome of the attempt that is neither None nor False."""
    deadline = time.monotonic() + limit_s
    while True:
        outcome = attempt()
        if outcome is not None and outcome is not False:
            return outcome
        if time.monotonic() > deadline:
            raise AssertionError("still not so after %s s" % limit_s)
        time.sleep(0.1)


def result_of(client, task_id):
    """The result of a task, or what its function raised, once it is there."""

    def attempt():
        try:
            return (client.get_result(task_id),)
        except Exception as error:
            if type(error).__name__ != "TaskPending":
                raise
            return None

    return until(attempt)[0]


def results_of(client, task_ids):
    """The records of tasks, once none of them is pending."""

    def attempt():
        records = client.get_batch_result(task_ids)
        return records if len(records) == len(task_ids) and not any(r["pending"] for r in records.values()) else None

    return until(attempt)


@contextlib.contextmanager
def printed():
    """What the document's code prints."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        yield text
