"""The document of the Globus Compute SDK with the unmodified globus-compute-sdk 2.34.0: its examples, as far as this version has them."""

import logging
import os
import unittest
import uuid
import warnings

import globus_sdk
import outcomes
from globus_compute_sdk import Executor, __version__
from seeds_support import GROUP, TUTORIAL_ENDPOINT, printed, result_of, results_of

log = logging.getLogger(__name__)

# document
from globus_compute_sdk import Client
gcc = Client()
# end

tutorial_endpoint = TUTORIAL_ENDPOINT


# document
def platform_func():
  import platform
  return platform.platform()
# end


# document
def hello(firstname, lastname):
  return 'Hello {} {}'.format(firstname, lastname)
# end


def number(x):
  return x


def token_for(scope):
    app = globus_sdk.ConfidentialAppAuthClient(
        os.environ["FUNCX_SDK_CLIENT_ID"], os.environ["FUNCX_SDK_CLIENT_SECRET"]
    )
    return app.oauth2_client_credentials_tokens(requested_scopes=scope)["access_token"]


class ComputeDocument(unittest.TestCase):
    def test_compute_2_signs_in_by_the_old_names_in_the_environment(self):
        self.assertEqual(__version__, "2.34.0")
        self.assertEqual(gcc.auth_client.userinfo()["sub"], os.environ["FUNCX_SDK_CLIENT_ID"])

    def test_compute_2_registers_a_function_and_runs_it(self):
        # document
        func_uuid = gcc.register_function(platform_func)
        # end
        # document
        tutorial_endpoint = '4b116d3c-1703-4f8f-9f6f-39921e5864df'
        task_id = gcc.run(endpoint_id=tutorial_endpoint, function_id=func_uuid)
        # end
        with printed() as text:
            # document
            try:
              print(gcc.get_result(task_id))
            except Exception as e:
              print("Exception: {}".format(e))
            # end
        self.assertRegex(text.getvalue(), "^(Exception: Task is pending due to |Linux)")
        self.assertIn("Linux", result_of(gcc, task_id))

    def test_compute_2_passes_arguments_to_a_function(self):
        # document
        func_id = gcc.register_function(hello)

        task_id = gcc.run("Bob", "Smith", endpoint_id=tutorial_endpoint, function_id=func_id)
        # end
        self.assertEqual(result_of(gcc, task_id), "Hello Bob Smith")

    def test_compute_2_shares_a_function_with_a_group_and_with_everybody(self):
        # document
        gcc.register_function(hello, description="My function", group=GROUP)
        # end
        # document
        gcc.register_function(hello, description="My function", public=True)
        # end

    def test_compute_2_runs_a_batch_at_one_endpoint(self):
        func_id = gcc.register_function(number)
        batch = gcc.create_batch()
        for x in range(0, 5):
            batch.add(func_id, (x,))
        task_ids = gcc.batch_run(tutorial_endpoint, batch)["tasks"][func_id]
        with printed():
            # document
            results = gcc.get_batch_result(task_ids)
            print(results)
            # end
        for record in results.values():
            self.assertIn("status", record)
            self.assertIs(record["pending"], "result" not in record)
        records = results_of(gcc, task_ids)
        self.assertEqual([records[task_id]["result"] for task_id in task_ids], [0, 1, 2, 3, 4])
        record = records[task_ids[0]]
        self.assertEqual((record["pending"], record["status"]), (False, "success"))
        self.assertGreater(float(record["completion_t"]), 1e9)
        self.assertIsInstance(record["completion_t"], str)

    def test_compute_2_is_built_from_tokens_by_a_login_manager(self):
        compute_token = token_for(Client.FUNCX_SCOPE)
        search_token = token_for(globus_sdk.SearchClient.scopes.all)
        openid_token = token_for(globus_sdk.AuthClient.scopes.openid)
        fx = client_of_the_document(compute_token, search_token, openid_token)
        self.assertTrue(fx.login_manager.ensure_logged_in())
        func_id = fx.register_function(number)
        self.assertEqual(result_of(fx, fx.run(5, endpoint_id=tutorial_endpoint, function_id=func_id)), 5)
        self.assertEqual(fx.auth_client.userinfo()["sub"], os.environ["FUNCX_SDK_CLIENT_ID"])
        search = fx.login_manager.get_search_client()
        self.assertEqual(search.search("673a4b58-3231-421d-9473-9df1b6fa3a9d", "nothing-of-the-kind")["total"], 0)
        with self.assertLogs(log, "WARNING"):
            fx.logout()

    def test_compute_2_takes_force_login_without_effect(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Client(force_login=True)
        self.assertTrue(any("force_login" in str(warning.message) for warning in caught))

    def test_compute_2_registers_a_container(self):
        container = gcc.register_container("docker.io/library/python:3.11", "docker", name="image")
        self.assertEqual(gcc.get_container(container, "docker")["container_uuid"], container)
        uuid.UUID(gcc.register_function(number, container_uuid=container))

    def test_compute_2_has_an_executor(self):
        with Executor(endpoint_id=tutorial_endpoint, client=gcc) as executor:
            self.assertEqual(executor.submit(number, 3).result(60), 3)


def client_of_the_document(compute_token, search_token, openid_token):
  # document
  import globus_sdk
  from globus_sdk.scopes import AuthScopes, SearchScopes
  from globus_compute_sdk.sdk.login_manager import LoginManager
  from globus_compute_sdk.sdk.web_client import WebClient
  from globus_compute_sdk import Client

  class LoginManager:
    """
    Implements the globus_compute_sdk.sdk.login_manager.protocol.LoginManagerProtocol class.
    """

    def __init__(self, authorizers: dict[str, globus_sdk.RefreshTokenAuthorizer]):
        self.authorizers = authorizers

    def get_auth_client(self) -> globus_sdk.AuthClient:
        return globus_sdk.AuthClient(
            authorizer=self.authorizers[AuthScopes.openid]
        )

    def get_search_client(self) -> globus_sdk.SearchClient:
        return globus_sdk.SearchClient(
            authorizer=self.authorizers[SearchScopes.all]
        )

    def get_web_client(self, *, base_url: str) -> WebClient:
        return WebClient(
            base_url=base_url,
            authorizer=self.authorizers[Client.FUNCX_SCOPE],
        )

    def ensure_logged_in(self):
        return True

    def logout(self):
        log.warning("logout cannot be invoked from here!")

  # Create authorizers from existing tokens
  compute_auth = globus_sdk.AccessTokenAuthorizer(compute_token)
  search_auth = globus_sdk.AccessTokenAuthorizer(search_token)
  openid_auth = globus_sdk.AccessTokenAuthorizer(openid_token)

  # Create a new login manager and use it to create a client
  compute_login_manager = LoginManager(
      authorizers={Client.FUNCX_SCOPE: compute_auth,
                   SearchScopes.all: search_auth,
                   AuthScopes.openid: openid_auth}
  )

  fx = Client(login_manager=compute_login_manager)
  # end
  return fx


if __name__ == "__main__":
    outcomes.run()
