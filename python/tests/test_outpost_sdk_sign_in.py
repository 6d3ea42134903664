"""The package outpost_sdk: where it finds the hub, and who signs in there."""

import os
import sys
import tempfile
import unittest
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from fake_hub import ENDPOINT, FUNCTION, WithHub  # noqa: E402, I001

import globus_sdk  # noqa: E402
from outpost_sdk import (  # noqa: E402
    Client,
    Executor,
    LoginManagerProtocol,
    SignInRequired,
    StaticTokenLoginManager,
    WebClient,
)
from outpost_sdk import sign_in  # noqa: E402


class SigningIn(WithHub):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("OUTPOST_", "GLOBUS_", "FUNCX_"))
        }
        patch = mock.patch.dict(os.environ, {**kept, "OUTPOST_HOME": home.name}, clear=True)
        patch.start()
        self.addCleanup(patch.stop)

    def hub_with_tokens(self):
        hub, given = self.hub(), []

        def token(body):
            given.append(body)
            scope = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
            first = {"access_token": f"token{len(given)}", "scope": scope, "resource_server": "funcx_service"}
            openid = {**first, "access_token": "o", "scope": "openid", "resource_server": "auth.globus.org"}
            common = {"expires_in": 3600, "token_type": "Bearer"}
            others = [{**openid, **common}] if "openid" in body else []
            return {**first, **common, "other_tokens": others}

        hub.answers["POST /v2/oauth2/token"] = token
        hub.answers["POST /v2/oauth2/token/revoke"] = {"active": False}
        hub.answers["GET /v2/endpoints"] = []
        return hub

    def test_finds_the_hub_and_the_credentials_in_the_environment(self):
        hub = self.hub_with_tokens()
        os.environ.update(OUTPOST_HUB_URL=f"{hub.url}/", OUTPOST_CLIENT_ID=FUNCTION, OUTPOST_CLIENT_SECRET="s")
        # What was exported for the SDK itself does not matter.
        os.environ.update(GLOBUS_SDK_ENVIRONMENT="local")
        client = Client()
        self.assertEqual(client.get_endpoints(), [])
        self.assertEqual(client.web_service_address, hub.url)
        self.assertEqual(hub.asked("GET /v2/endpoints")[0][0]["Authorization"], "Bearer token1")
        Client().get_endpoints()
        self.assertEqual(len(hub.asked("POST /v2/oauth2/token")), 1)

    def test_does_not_throttle_an_executor_that_has_a_client_of_its_own(self):
        hub = self.hub_with_tokens()
        os.environ.update(OUTPOST_HUB_URL=hub.url, OUTPOST_CLIENT_ID=FUNCTION, OUTPOST_CLIENT_SECRET="s")
        for client, is_throttled in ((None, False), (Client(), True)):
            with Executor(ENDPOINT, client) as executor:
                self.assertIs(executor.client.throttling_enabled, is_throttled)

    def test_signs_in_again_when_forced_to(self):
        hub = self.hub_with_tokens()
        os.environ.update(OUTPOST_HUB_URL=hub.url, OUTPOST_CLIENT_ID=FUNCTION, OUTPOST_CLIENT_SECRET="s")
        Client().get_endpoints()
        Client(force_login=True).get_endpoints()
        self.assertEqual(len(hub.asked("POST /v2/oauth2/token/revoke")), 1)
        self.assertEqual(hub.asked("GET /v2/endpoints")[1][0]["Authorization"], "Bearer token2")
        with self.assertRaisesRegex(ValueError, "get it a new token"):
            self.client(hub, force_login=True)

    def test_takes_the_first_complete_pair_and_names_the_other_half(self):
        os.environ.update(FUNCX_SDK_CLIENT_ID="a", FUNCX_SDK_CLIENT_SECRET="b")
        with self.assertWarnsRegex(DeprecationWarning, "old names"):
            self.assertEqual(sign_in.credentials(), ("a", "b"))
        os.environ.update(GLOBUS_COMPUTE_CLIENT_ID="c", GLOBUS_COMPUTE_CLIENT_SECRET="d")
        self.assertEqual(sign_in.credentials(), ("c", "d"))
        os.environ.update(OUTPOST_CLIENT_ID="e", OUTPOST_CLIENT_SECRET="")
        self.assertEqual(sign_in.credentials(), ("c", "d"))
        del os.environ["GLOBUS_COMPUTE_CLIENT_SECRET"], os.environ["FUNCX_SDK_CLIENT_SECRET"]
        with self.assertRaisesRegex(ValueError, "OUTPOST_CLIENT_SECRET must be set, because OUTPOST_CLIENT_ID is"):
            sign_in.credentials()

    def test_fails_at_once_without_credentials_and_without_a_terminal(self):
        hub = self.hub_with_tokens()
        with mock.patch("sys.stdin", open(os.devnull)) as stdin:
            self.addCleanup(stdin.close)
            with self.assertRaisesRegex(SignInRequired, "OUTPOST_CLIENT_ID .* login_manager="):
                Client(hub_url=hub.url)

    def test_refuses_an_address_that_carries_secrets_in_clear_text(self):
        for url in ("http://hub.example.org", "ftp://localhost", "localhost:5000", "https://"):
            with self.assertRaisesRegex(ValueError, "clear text|http or https"):
                sign_in.hub_url(url)
        for url in ("https://hub.example.org/", "http://127.0.0.1:5000", "http://[::1]:5000", "http://localhost"):
            self.assertEqual(sign_in.hub_url(url), url.rstrip("/"))
        self.assertEqual(sign_in.hub_url(), "http://localhost:5000")
        with self.assertRaisesRegex(ValueError, "environment of Globus's"):
            Client("production")

    def test_asks_a_login_manager_for_everything(self):
        hub = self.hub({"GET /v2/endpoints": [], "GET /v2/oauth2/userinfo": {"sub": "me"}})
        calls = []

        class Manager:
            def ensure_logged_in(self):
                calls.append("ensure_logged_in")

            def logout(self):
                calls.append("logout")

            def get_auth_client(self):
                return globus_sdk.AuthClient(base_url=hub.url, authorizer=globus_sdk.AccessTokenAuthorizer("a"))

            def get_web_client(self, *, base_url):
                calls.append(base_url)
                return WebClient(base_url=base_url, authorizer=globus_sdk.AccessTokenAuthorizer("c"))

        manager = Manager()
        self.assertIsInstance(manager, LoginManagerProtocol)
        client = Client(hub_url=hub.url, login_manager=manager)
        client.get_endpoints()
        self.assertEqual(hub.asked("GET /v2/endpoints")[0][0]["Authorization"], "Bearer c")
        self.assertEqual(client.auth_client.userinfo()["sub"], "me")
        self.assertEqual(hub.asked("GET /v2/oauth2/userinfo")[0][0]["Authorization"], "Bearer a")
        client.logout()
        self.assertEqual(calls, ["ensure_logged_in", hub.url, "logout"])
        with self.assertRaisesRegex(ValueError, "only one of"):
            self.client(hub, login_manager=manager)

    def test_takes_a_web_client_of_another_kind_for_its_authorizer(self):
        hub = self.hub({"GET /v2/endpoints": []})
        manager = mock.Mock()
        manager.get_web_client.return_value = globus_sdk.ComputeClientV2(
            base_url="https://elsewhere.example", authorizer=globus_sdk.AccessTokenAuthorizer("w")
        )
        Client(hub_url=hub.url, login_manager=manager).get_endpoints()
        self.assertEqual(hub.asked("GET /v2/endpoints")[0][0]["Authorization"], "Bearer w")

    def test_has_a_login_manager_for_tokens_got_elsewhere(self):
        hub = self.hub({"GET /v2/endpoints": [], "GET /v2/oauth2/userinfo": {"sub": "me"}})
        manager = StaticTokenLoginManager({Client.FUNCX_SCOPE: "c", "openid": "o"}, hub=hub.url)
        client = Client(hub_url=hub.url, login_manager=manager)
        client.get_endpoints()
        client.auth_client.userinfo()
        self.assertEqual(
            [headers.get("Authorization") for _, _, headers, _ in hub.requests], ["Bearer c"] * 2 + ["Bearer o"]
        )
        with self.assertLogs("outpost_sdk.login_manager", "WARNING"):
            client.logout()
        with self.assertRaisesRegex(LookupError, "no token for the scope .*/all"):
            Client(hub_url=hub.url, login_manager=StaticTokenLoginManager({"openid": "o"}, hub=hub.url))


if __name__ == "__main__":
    unittest.main()
