"""The document of the funcX SDK with the unmodified funcx 1.0.4: its examples, in its order."""

import unittest
import uuid

import funcx
import globus_sdk
import outcomes
from funcx.sdk.client import FuncXClient
from seeds_support import GROUP, SECOND_ENDPOINT, TUTORIAL_ENDPOINT, printed, result_of, results_of, until

# document
fxc = FuncXClient()
# end

tutorial_endpoint = TUTORIAL_ENDPOINT


# document
def platform_func():
  import platform
  return platform.platform()
# end


# document
def funcx_hello(firstname, lastname):
  return 'Hello {} {}'.format(firstname, lastname)
# end


def number(x):
  return x


def misbehave():
  raise ValueError("boom")


class FuncxDocument(unittest.TestCase):
    def test_funcx_signs_in_by_the_environment(self):
        self.assertEqual(funcx.__version__, "1.0.4")
        self.assertIs(funcx.FuncXClient, FuncXClient)
        self.assertEqual(fxc.web_client.base_url, "http://localhost:5000/v2/")

    def test_funcx_registers_a_function_and_runs_it(self):
        # document
        func_uuid = fxc.register_function(platform_func)
        # end
        uuid.UUID(func_uuid)
        # document
        tutorial_endpoint = '4b116d3c-1703-4f8f-9f6f-39921e5864df'
        task_id = fxc.run(endpoint_id=tutorial_endpoint, function_id=func_uuid)
        # end
        uuid.UUID(task_id)
        with printed() as text:
            # document
            try:
              print(fxc.get_result(task_id))
            except Exception as e:
              print("Exception: {}".format(e))
            # end
        self.assertRegex(text.getvalue(), "^(Exception: Task is pending due to |Linux)")
        self.assertIn("Linux", result_of(fxc, task_id))

    def test_funcx_raises_what_the_function_raised(self):
        task_id = fxc.run(endpoint_id=tutorial_endpoint, function_id=fxc.register_function(misbehave))
        with self.assertRaisesRegex(Exception, "ValueError: boom"):
            result_of(fxc, task_id)

    def test_funcx_passes_arguments_to_a_function(self):
        # document
        func_id = fxc.register_function(funcx_hello)

        task_id = fxc.run("Bob", "Smith", endpoint_id=tutorial_endpoint, function_id=func_id)
        # end
        self.assertEqual(result_of(fxc, task_id), "Hello Bob Smith")

    def test_funcx_keeps_a_result_for_the_session_and_for_the_next(self):
        task_id = fxc.run(7, endpoint_id=tutorial_endpoint, function_id=fxc.register_function(number))
        self.assertEqual(result_of(fxc, task_id), 7)
        original, fxc.web_client.get_task = fxc.web_client.get_task, None
        try:
            self.assertEqual(fxc.get_result(task_id), 7)
        finally:
            fxc.web_client.get_task = original
        self.assertEqual(FuncXClient().get_result(task_id), 7)

    def test_funcx_shares_a_function_with_a_group_and_with_everybody(self):
        # document
        fxc.register_function(funcx_hello, description="My function", group=GROUP)
        # end
        # document
        fxc.register_function(funcx_hello, description="My function", public=True)
        # end
        with self.assertRaisesRegex(globus_sdk.GlobusAPIError, "AUTH_GROUP_NOT_FOUND"):
            fxc.register_function(funcx_hello, group=str(uuid.uuid4()))

    def test_funcx_searches_the_index_of_functions(self):
        func_id = fxc.register_function(number, description="my function that nobody else calls quokka")
        with printed() as text:
            # document
            search_results = fxc.search_function("my function", offset=0, limit=5)
            print(search_results)
            # end
        self.assertIn(func_id, text.getvalue())
        self.assertGreaterEqual(search_results["count"], 1)
        self.assertLessEqual(len(search_results["gmeta"]), 5)
        found = fxc.search_function("quokka")
        (entry,) = found["gmeta"]
        self.assertEqual(entry["subject"], func_id)
        content = entry["entries"][0]["content"]
        self.assertEqual(content["function_name"], "number")
        self.assertTrue(fxc.searcher._exists(func_id))
        self.assertFalse(fxc.searcher._exists(str(uuid.uuid4())))
        hidden = fxc.register_function(number, description="a wombat", searchable=False)
        self.assertEqual(fxc.search_function("wombat")["total"], 0, hidden)

    def test_funcx_runs_a_batch_in_order(self):
        func_id = fxc.register_function(number)
        # document
        batch = fxc.create_batch()

        for x in range(0,5):
          batch.add(x, endpoint_id=tutorial_endpoint, function_id=func_id)

        batch_res = fxc.batch_run(batch)
        # end
        # document
        fxc.get_batch_result(batch_res)
        # end
        records = results_of(fxc, batch_res)
        self.assertEqual([records[task_id]["result"] for task_id in batch_res], [0, 1, 2, 3, 4])

    def test_funcx_runs_one_batch_at_several_endpoints(self):
        func_id, platform_id = fxc.register_function(number), fxc.register_function(platform_func)
        batch = fxc.create_batch()
        for x in range(6):
            endpoint = (tutorial_endpoint, SECOND_ENDPOINT)[x % 2]
            batch.add(x, endpoint_id=endpoint, function_id=func_id)
        batch.add(endpoint_id=SECOND_ENDPOINT, function_id=platform_id)
        task_ids = fxc.batch_run(batch)
        results = [results_of(fxc, task_ids)[task_id]["result"] for task_id in task_ids]
        self.assertEqual(results[:6], [0, 1, 2, 3, 4, 5])
        self.assertIn("Linux", results[6])

    def test_funcx_ends_its_throttle(self):
        # document
        fxc = FuncXClient()
        fxc.throttling_enabled = False
        # end
        func_id = fxc.register_function(number)
        for _ in range(25):
            fxc.run(1, endpoint_id=tutorial_endpoint, function_id=func_id)

    def test_funcx_registers_a_container_and_a_function_in_it(self):
        container = fxc.register_container("/opt/venv", "venv", name="tools", description="a place to run")
        found = fxc.get_container(container, "venv")
        self.assertEqual((found["container_uuid"], found["location"]), (container, "/opt/venv"))
        uuid.UUID(fxc.register_function(number, container_uuid=container))

    def test_funcx_sees_how_an_endpoint_stands(self):
        self.assertEqual(until(lambda: fxc.get_endpoint_status(tutorial_endpoint))["status"], "online")

    def test_funcx_restricts_what_an_endpoint_runs(self):
        endpoint = str(uuid.uuid4())
        self.assertEqual(fxc.register_endpoint("listed", endpoint)["endpoint_id"], endpoint)
        one, two = fxc.register_function(number), fxc.register_function(platform_func)
        self.assertEqual(fxc.get_whitelist(endpoint)["result"], [])
        fxc.add_to_whitelist(endpoint, one)
        fxc.add_to_whitelist(endpoint, [two, one])
        self.assertEqual(fxc.get_whitelist(endpoint)["result"], [one, two])
        (deleted,) = fxc.delete_from_whitelist(endpoint, one)
        self.assertEqual(deleted["result"], one)
        with self.assertRaisesRegex(globus_sdk.GlobusAPIError, "is not among those"):
            fxc.delete_from_whitelist(endpoint, one)
        with self.assertRaisesRegex(globus_sdk.GlobusAPIError, "FUNCTION_NOT_PERMITTED"):
            fxc.run(1, endpoint_id=endpoint, function_id=one)
        fxc.delete_from_whitelist(endpoint, [two])
        with self.assertRaisesRegex(globus_sdk.GlobusAPIError, "FUNCTION_NOT_PERMITTED"):
            fxc.run(1, endpoint_id=endpoint, function_id=two)

    def test_funcx_is_told_that_nobody_builds_images(self):
        with self.assertRaisesRegex(globus_sdk.GlobusAPIError, "builds no container images"):
            fxc.web_client.post("containers/build", data={"name": "x"})


if __name__ == "__main__":
    outcomes.run()
