"""Who may not: a wrong secret, and somebody else's endpoint, function and task."""

import os
import tempfile
import unittest
from unittest import mock

import outcomes
from globus_compute_sdk import Client
from globus_sdk import GlobusAPIError

ENDPOINT_ID = os.environ["ENDPOINT_ID"]


def add(x, y=1):
    return x + y


class StrangerCases(unittest.TestCase):
    def test_refuses_a_wrong_secret(self):
        # In a directory of its own, since a token that was stored earlier would do without the secret.
        with tempfile.TemporaryDirectory() as directory, mock.patch.dict(
            os.environ, GLOBUS_COMPUTE_CLIENT_SECRET="wrong", GLOBUS_COMPUTE_USER_DIR=directory
        ):
            with self.assertRaises(GlobusAPIError) as caught:
                Client().get_endpoints()
            self.assertEqual(caught.exception.http_status, 401)
            self.assertIn("invalid_client", caught.exception.text)

    def test_refuses_somebody_elses_endpoint(self):
        client = Client()
        function_id = client.register_function(add)
        with self.assertRaises(GlobusAPIError) as caught:
            client.run(1, endpoint_id=ENDPOINT_ID, function_id=function_id)
        self.assertEqual((caught.exception.http_status, caught.exception.code), (403, "ENDPOINT_ACCESS_FORBIDDEN"))

    def test_refuses_somebody_elses_function(self):
        with self.assertRaises(GlobusAPIError) as caught:
            Client().get_function(os.environ["OTHER_FUNCTION_ID"])
        self.assertEqual(caught.exception.http_status, 403)

    def test_does_not_show_somebody_elses_task(self):
        with self.assertRaises(GlobusAPIError) as caught:
            Client().get_task(os.environ["OTHER_TASK_ID"])
        self.assertEqual(caught.exception.http_status, 404)


if __name__ == "__main__":
    outcomes.run()
