"""The document of the Globus Compute SDK with the newest globus-compute-sdk and outpost_sdk: all of its examples, with one other import."""

import inspect
import logging
import os
import pathlib
import unittest
import uuid

import globus_compute_sdk
import globus_sdk
import outcomes
import outpost_sdk
from globus_compute_sdk.errors import TaskExecutionFailed, TaskPending
from outpost_sdk import Executor, FuncXClient, StaticTokenLoginManager
from seeds_support import GROUP, SECOND_ENDPOINT, TUTORIAL_ENDPOINT, printed, result_of, results_of

log = logging.getLogger(__name__)

# document
from outpost_sdk import Client
gcc = Client()
# end

tutorial_endpoint = TUTORIAL_ENDPOINT
# Nothing here is slow because of the throttle, which has tests of its own.
gcc.throttling_enabled = False


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


def misbehave():
  raise KeyError("boom")


def same_names(endpoint_id, function_id="f"):
  return endpoint_id + function_id


def token_for(scope):
    app = globus_sdk.ConfidentialAppAuthClient(
        os.environ["OUTPOST_CLIENT_ID"],
        os.environ["OUTPOST_CLIENT_SECRET"],
        base_url=os.environ["OUTPOST_HUB_URL"] + "/",
    )
    return app.oauth2_client_credentials_tokens(requested_scopes=scope)["access_token"]


class OutpostDocument(unittest.TestCase):
    def test_outpost_sdk_signs_in_at_the_hub_of_the_environment(self):
        self.assertEqual(gcc.web_service_address, os.environ["OUTPOST_HUB_URL"])
        self.assertEqual(gcc.auth_client.userinfo()["sub"], os.environ["OUTPOST_CLIENT_ID"])

    def test_outpost_sdk_registers_a_function_and_runs_it(self):
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

    def test_outpost_sdk_passes_arguments_to_a_function(self):
        # document
        func_id = gcc.register_function(hello)

        task_id = gcc.run("Bob", "Smith", endpoint_id=tutorial_endpoint, function_id=func_id)
        # end
        self.assertEqual(result_of(gcc, task_id), "Hello Bob Smith")

    def test_outpost_sdk_raises_the_type_that_the_function_raised(self):
        task_id = gcc.run(endpoint_id=tutorial_endpoint, function_id=gcc.register_function(misbehave))
        for _ in range(2):
            with self.assertRaises(KeyError) as caught:
                result_of(gcc, task_id)
        self.assertIsInstance(caught.exception, TaskExecutionFailed)
        self.assertEqual(caught.exception.remote_message, "'boom'")
        self.assertIn("in misbehave", str(caught.exception))
        record = gcc.get_batch_result([task_id])[task_id]
        self.assertEqual((record["pending"], record["status"]), (False, "failed"))

    def test_outpost_sdk_passes_arguments_that_are_named_as_the_ids_are(self):
        batch = gcc.create_batch()
        batch.add(gcc.register_function(same_names), tutorial_endpoint, kwargs={"endpoint_id": "e"})
        (task_id,) = gcc.batch_run(batch)
        self.assertEqual(result_of(gcc, task_id), "ef")

    def test_outpost_sdk_keeps_a_result_for_the_session_and_for_the_next(self):
        task_id = gcc.run(7, endpoint_id=tutorial_endpoint, function_id=gcc.register_function(number))
        self.assertEqual(result_of(gcc, task_id), 7)
        original, gcc.web_client.v2.get_task = gcc.web_client.v2.get_task, None
        try:
            self.assertEqual(gcc.get_result(task_id), 7)
        finally:
            gcc.web_client.v2.get_task = original
        self.assertEqual(Client().get_result(task_id), 7)

    def test_outpost_sdk_shares_a_function_with_a_group_and_with_everybody(self):
        # document
        gcc.register_function(hello, description="My function", group=GROUP)
        # end
        # document
        gcc.register_function(hello, description="My function", public=True)
        # end

    def test_outpost_sdk_searches_functions(self):
        func_id = gcc.register_function(number, description="my function about the numbat")
        with printed() as text:
            # document
            search_results = gcc.search_function("my function", offset=0, limit=5)
            print(search_results)
            # end
        self.assertIn("function_uuid", text.getvalue())
        found = gcc.search_function("numbat")
        self.assertEqual([one["function_uuid"] for one in found], [func_id])
        self.assertEqual((found.total, found.has_next_page), (1, False))

    def test_outpost_sdk_runs_a_batch_in_order_and_reads_its_records(self):
        func_id = gcc.register_function(number)
        # document
        batch = gcc.create_batch()

        for x in range(0,5):
          batch.add(x, endpoint_id=tutorial_endpoint, function_id=func_id)

        # batch_run returns a list task ids
        batch_res = gcc.batch_run(batch)
        # end
        self.assertEqual(len({uuid.UUID(task_id) for task_id in batch_res}), 5)
        with printed():
            # document
            results = gcc.get_batch_result(batch_res)
            print(results)
            # end
        for record in results.values():
            self.assertIn("status", record)
            self.assertIs(record["pending"], "result" not in record)
        records = results_of(gcc, batch_res)
        self.assertEqual([records[task_id]["result"] for task_id in batch_res], [0, 1, 2, 3, 4])
        record = records[batch_res[0]]
        self.assertEqual((record["pending"], record["status"]), (False, "success"))
        self.assertGreater(float(record["completion_t"]), 1e9)
        self.assertIsInstance(record["completion_t"], str)

    def test_outpost_sdk_does_not_wait_for_an_endpoint_that_is_away(self):
        away = str(uuid.uuid4())
        gcc.web_client.v2.post("/v2/endpoints", data={"endpoint_name": "away", "endpoint_uuid": away})
        func_id = gcc.register_function(number)
        batch = gcc.create_batch()
        for x in range(2):
            batch.add(x, endpoint_id=away, function_id=func_id)
        task_ids = gcc.batch_run(batch)
        records = gcc.get_batch_result(task_ids)
        self.assertEqual(list(records), task_ids)
        for record in records.values():
            self.assertEqual((record["pending"], record["status"]), (True, "waiting-for-ep"))
            self.assertNotIn("result", record)
        with self.assertRaises(TaskPending) as caught:
            gcc.get_result(task_ids[0])
        self.assertEqual(caught.exception.reason, "waiting-for-ep")

    def test_outpost_sdk_has_a_reference_of_every_member(self):
        text = pathlib.Path(outpost_sdk.__file__).with_name("README.md").read_text()
        for ours, theirs in ((Client, globus_compute_sdk.Client), (Executor, globus_compute_sdk.Executor)):
            for name, member in inspect.getmembers(ours):
                if name.startswith("_"):
                    continue
                # What the SDK has is documented there, and may have no text of its own.
                if name in vars(ours) or not hasattr(theirs, name):
                    self.assertTrue(inspect.getdoc(member), f"{ours.__name__}.{name} has no text")
                    self.assertTrue(name in text, f"README.md says nothing about {ours.__name__}.{name}")
        for name in outpost_sdk.__all__:
            if not name.startswith("_"):
                self.assertTrue(inspect.getdoc(getattr(outpost_sdk, name)), name)

    def test_outpost_sdk_runs_one_batch_at_several_endpoints(self):
        func_id, other_id = gcc.register_function(number), gcc.register_function(hello)
        batch = gcc.create_batch(resource_specification={"walltime": 60})
        for x in range(6):
            endpoint = (tutorial_endpoint, SECOND_ENDPOINT)[x % 2]
            batch.add(x, endpoint_id=endpoint, function_id=func_id)
        batch.add("Bob", lastname="Smith", endpoint_id=SECOND_ENDPOINT, function_id=other_id)
        task_ids = gcc.batch_run(batch)
        records = results_of(gcc, task_ids)
        self.assertEqual([records[task_id]["result"] for task_id in task_ids], [0, 1, 2, 3, 4, 5, "Hello Bob Smith"])
        endpoints = [records[task_id]["details"]["endpoint_id"] for task_id in task_ids[:2]]
        self.assertEqual(endpoints, [tutorial_endpoint, SECOND_ENDPOINT])

    def test_outpost_sdk_submits_a_batch_once_however_often_it_is_sent(self):
        func_id = gcc.register_function(number)
        batch = gcc.create_batch()
        batch.add(1, endpoint_id=tutorial_endpoint, function_id=func_id)
        batch.add(2, endpoint_id=SECOND_ENDPOINT, function_id=func_id)
        body, key = batch.prepare_placed(), str(uuid.uuid4())
        first, again = (gcc.web_client.submit(body, key).data for _ in range(2))
        self.assertEqual(first, again)
        other = gcc.web_client.submit(body, str(uuid.uuid4())).data
        self.assertNotEqual(first["task_group_id"], other["task_group_id"])
        group = gcc.web_client.v2.get_task_group(first["task_group_id"])
        self.assertEqual({task["id"] for task in group["tasks"]}, {task["task_uuid"] for task in first["results"]})

    def test_outpost_sdk_has_the_executor_and_its_map(self):
        with Executor(endpoint_id=tutorial_endpoint) as executor:
            self.assertEqual(list(executor.map(number, range(5), timeout=60)), [0, 1, 2, 3, 4])
            self.assertEqual(executor.submit(hello, "Bob", lastname="Smith").result(60), "Hello Bob Smith")

    def test_outpost_sdk_signs_in_again_when_forced_to(self):
        before = gcc.app.token_storage.get_token_data("funcx_service").access_token
        forced = Client(force_login=True)
        self.assertNotEqual(forced.app.token_storage.get_token_data("funcx_service").access_token, before)
        old = Client(authorizer=globus_sdk.AccessTokenAuthorizer(before), do_version_check=False)
        with self.assertRaisesRegex(globus_sdk.GlobusAPIError, "USER_UNAUTHENTICATED"):
            old.get_endpoints()
        # Who had the old one signs in by himself.
        self.assertIsInstance(gcc.get_endpoints(), list)

    def test_outpost_sdk_is_built_from_tokens_by_a_login_manager(self):
        compute_token = token_for(Client.FUNCX_SCOPE)
        openid_token = token_for("openid")
        fx = client_of_the_document(compute_token, token_for(globus_sdk.scopes.SearchScopes.all), openid_token)
        func_id = fx.register_function(number)
        self.assertEqual(result_of(fx, fx.run(5, endpoint_id=tutorial_endpoint, function_id=func_id)), 5)
        self.assertEqual(fx.auth_client.userinfo()["sub"], os.environ["OUTPOST_CLIENT_ID"])
        with self.assertLogs(log, "WARNING"):
            fx.logout()
        manager = StaticTokenLoginManager({Client.FUNCX_SCOPE: compute_token, "openid": openid_token})
        static = Client(login_manager=manager)
        self.assertEqual(static.auth_client.userinfo()["sub"], os.environ["OUTPOST_CLIENT_ID"])
        self.assertIsInstance(static.get_endpoints(), list)

    def test_outpost_sdk_registers_a_container_and_a_function_in_it(self):
        container = gcc.register_container("/opt/venv", "venv", name="tools")
        self.assertEqual(gcc.get_function(gcc.register_function(number, container_uuid=container))["container_uuid"], container)

    def test_outpost_sdk_has_the_throttle_of_the_document(self):
        # document
        fxc = FuncXClient()
        fxc.throttling_enabled = False
        # end
        self.assertFalse(fxc.throttling_enabled)
        self.assertTrue(Client().throttling_enabled)


def client_of_the_document(compute_token, search_token, openid_token):
  # document
  import globus_sdk
  from globus_sdk.scopes import AuthScopes, SearchScopes
  from outpost_sdk.login_manager import LoginManager
  from outpost_sdk.web_client import WebClient
  from outpost_sdk import Client

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
