"""Runs the test cases of the main module and prints one JSON line per test, for the suite that reports them."""

import faulthandler
import json
import traceback
import unittest

LIMIT_S = 150


class JsonResult(unittest.TestResult):
    def _say(self, test, outcome, text=""):
        name = getattr(test, "_testMethodName", str(test))
        print(json.dumps({"name": name, "outcome": outcome, "text": text}), flush=True)

    def addSuccess(self, test):
        self._say(test, "ok")

    def addFailure(self, test, err):
        self._say(test, "failed", "".join(traceback.format_exception(*err)))

    def addError(self, test, err):
        self.addFailure(test, err)

    def addSkip(self, test, reason):
        self._say(test, "skipped", reason)


def run():
    """The cases run as the main module, as a user's script does: dill sends its functions by value."""
    import __main__

    # Before the suite's own limit, so that it is seen what hangs.
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    unittest.defaultTestLoader.loadTestsFromModule(__main__).run(JsonResult())
