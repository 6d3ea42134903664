"""Runs the test cases of one module and prints one JSON line per test, for the suite that reports them."""

import importlib
import json
import sys
import traceback
import unittest


class JsonResult(unittest.TestResult):
    def _say(self, test, outcome, text=""):
        print(json.dumps({"name": test._testMethodName, "outcome": outcome, "text": text}), flush=True)

    def addSuccess(self, test):
        self._say(test, "ok")

    def addFailure(self, test, err):
        self._say(test, "failed", "".join(traceback.format_exception(*err)))

    def addError(self, test, err):
        name = getattr(test, "_testMethodName", str(test))
        print(json.dumps({"name": name, "outcome": "failed", "text": "".join(traceback.format_exception(*err))}), flush=True)

    def addSkip(self, test, reason):
        self._say(test, "failed", f"skipped: {reason}")


if __name__ == "__main__":
    module = importlib.import_module(sys.argv[1])
    unittest.defaultTestLoader.loadTestsFromModule(module).run(JsonResult())
