"""The unmodified Client as the owner of endpoints: registration, documents, allowed functions, lock and deletion."""

import unittest

import outcomes
from globus_compute_sdk import Client
from support import ENDPOINT_ID, client_of, refused, some_id

METADATA = {
    "endpoint_version": "4.15.0",
    "python_version": "3.11.2",
    "hostname": "login1",
    "local_user": "me",
    "endpoint_config": "display_name: null\n",
    "user_config_template": "engine:\n  type: ThreadPoolEngine\n",
    "user_config_schema": {"type": "object"},
}


def add(x, y=1):
    return x + y


class EndpointCases(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.client = Client()

    def registered(self, **options):
        document = self.client.register_endpoint("spare", None, **options)
        self.addCleanup(self.client.delete_endpoint, document["endpoint_id"])
        return document

    def test_registers_with_all_that_a_manager_tells(self):
        document = self.registered(metadata=METADATA, display_name="Spare", public=False, high_assurance=False)
        endpoint_id = document["endpoint_id"]
        for name in ("command", "task", "result", "heartbeat"):
            info = document[f"{name}_queue_info"]
            self.assertRegex(info["connection_url"], r"^amqp://[^/]+:[^/]+@[^/]+:\d+/[^?]*$")
            self.assertTrue(info["queue"] and info["exchange"])
        for name in ("result", "heartbeat"):
            info = document[f"{name}_queue_info"]
            kwargs = info["queue_publish_kwargs"]
            self.assertEqual(set(kwargs), {"exchange", "routing_key", "mandatory", "properties"})
            self.assertEqual((kwargs["exchange"], kwargs["mandatory"]), (info["exchange"], True))
            self.assertEqual(kwargs["properties"], {"delivery_mode": 2})
            self.assertIn(endpoint_id, kwargs["routing_key"])
        self.assertEqual(document["warnings"], [])
        shown = self.client.get_endpoint_metadata(endpoint_id)
        self.assertEqual({key: shown[key] for key in METADATA}, METADATA)
        self.assertEqual((shown["uuid"], shown["name"], shown["display_name"]), (endpoint_id, "spare", "Spare"))
        for key in ("multi_user", "public", "high_assurance", "subscription_admin_verified"):
            self.assertIs(shown[key], False)

    def test_registers_again_under_its_id(self):
        endpoint_id = self.registered(multi_user=True)["endpoint_id"]
        again = self.client.register_endpoint("renamed", endpoint_id, metadata=METADATA)
        self.assertEqual(again["endpoint_id"], endpoint_id)
        shown = self.client.get_endpoint_metadata(endpoint_id)
        self.assertEqual((shown["name"], shown["multi_user"]), ("renamed", False))

    def test_says_what_a_self_hosted_hub_does_not_have(self):
        for option in ({"high_assurance": True}, {"auth_policy": some_id()}):
            with self.subTest(option):
                refused(self, lambda: self.registered(**option), 422, "SEMANTICALLY_INVALID", "this hub has no")
        document = self.registered(subscription_id=some_id(), admins=[some_id()])
        self.assertEqual([warning.split()[0] for warning in document["warnings"]], ["subscription_uuid", "admins"])

    def test_lists_own_endpoints_and_with_any_also_public_ones(self):
        private, public = (self.registered(public=flag)["endpoint_id"] for flag in (False, True))
        mine = self.client.get_endpoints()
        self.assertTrue({ENDPOINT_ID, private, public} <= {endpoint["uuid"] for endpoint in mine})
        for endpoint in mine:
            self.assertEqual(set(endpoint), {"uuid", "name", "display_name", "owner"})
        stranger = client_of("STRANGER")
        self.assertEqual(stranger.get_endpoints(role="owner"), [])
        theirs = {endpoint["uuid"] for endpoint in stranger.get_endpoints(role="any")}
        self.assertIn(public, theirs)
        self.assertNotIn(private, theirs)

    def test_sees_who_is_online(self):
        status = self.client.get_endpoint_status(ENDPOINT_ID)
        self.assertEqual(status["status"], "online")
        self.assertGreaterEqual(status["details"]["total_workers"], 1)
        self.assertTrue(all(isinstance(value, int) for value in status["details"].values()))
        self.assertEqual(self.client.get_endpoint_status(self.registered()["endpoint_id"]), {"status": "offline"})
        shown = self.client.get_endpoint_metadata(ENDPOINT_ID)
        self.assertTrue(shown["hostname"])

    def test_restricts_functions(self):
        function_id = self.client.register_function(add)
        endpoint_id = self.registered(allowed_functions=[function_id])["endpoint_id"]
        self.assertEqual(
            self.client.get_allowed_functions(endpoint_id),
            {"endpoint_id": endpoint_id, "restricted": True, "functions": [function_id]},
        )
        self.assertEqual(
            self.client.get_allowed_functions(ENDPOINT_ID), {"endpoint_id": ENDPOINT_ID, "restricted": False}
        )
        # Nobody takes it from there; what counts is that it was accepted.
        self.client.run(1, endpoint_id=endpoint_id, function_id=function_id)
        other_id = self.client.register_function(add)
        refused(
            self,
            lambda: self.client.run(1, endpoint_id=endpoint_id, function_id=other_id),
            403,
            "FUNCTION_NOT_PERMITTED",
            other_id,
            endpoint_id,
        )

    def test_stops_an_endpoint_for_a_while(self):
        endpoint_id = self.registered()["endpoint_id"]
        locked = self.client.stop_endpoint(endpoint_id).data
        self.assertEqual(locked["endpoint_id"], endpoint_id)
        self.assertIsInstance(locked["lock_expiration_timestamp"], float)
        refused(
            self, lambda: self.client.register_endpoint("spare", endpoint_id), 423, "RESOURCE_LOCKED", endpoint_id
        )

    def test_deletes_an_endpoint(self):
        endpoint_id = self.client.register_endpoint("spare", None)["endpoint_id"]
        self.assertEqual(self.client.delete_endpoint(endpoint_id).data, {"result": 302})
        for call in (self.client.get_endpoint_status, self.client.get_endpoint_metadata):
            refused(self, lambda: call(endpoint_id), 404, "ENDPOINT_NOT_FOUND", endpoint_id)
        refused(
            self, lambda: self.client.register_endpoint("spare", endpoint_id), 404, "ENDPOINT_NOT_FOUND", endpoint_id
        )


if __name__ == "__main__":
    outcomes.run()
