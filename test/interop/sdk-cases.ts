/**
 * The cases of the interop suite, one by one, and what each public name of the Python SDK's classes is proven by.
 *
 * The cases are written in Python (test/interop/python); each stands here by name, so that one that vanishes is missed. The
 * public names are compared with the installed SDK, so that a new one without a case is missed too.
 */

/** Case names by module. */
export const CASES = {
  golden_cases: ['test_reads_every_message', 'test_writes_every_message_alike'],
  client_cases: [
    'test_checks_versions',
    'test_registers_runs_and_gets_a_result',
    'test_gets_the_function_back',
    'test_takes_the_docstring_as_the_description',
    'test_lets_others_run_a_public_function',
    'test_deletes_a_function',
    'test_runs_source_code',
    'test_keeps_the_metadata_of_source_code',
    'test_raises_what_the_function_raised',
    'test_says_pending_while_a_task_runs',
    'test_runs_a_batch_in_order',
    'test_sends_every_option_of_a_batch',
    'test_leaves_out_of_a_batch_result_what_nobody_knows',
    'test_reads_the_same_result_twice',
    'test_gives_the_details_of_the_worker',
    'test_gets_the_hardware_of_the_worker',
    'test_gets_the_address_of_the_results',
    'test_knows_who_it_is',
    'test_logs_out_and_in_again',
    'test_gets_a_new_token_when_the_hub_forgot_the_old_one',
  ],
  endpoint_cases: [
    'test_registers_with_all_that_a_manager_tells',
    'test_registers_again_under_its_id',
    'test_says_what_a_self_hosted_hub_does_not_have',
    'test_lists_own_endpoints_and_with_any_also_public_ones',
    'test_sees_who_is_online',
    'test_restricts_functions',
    'test_stops_an_endpoint_for_a_while',
    'test_deletes_an_endpoint',
  ],
  serialization_cases: [
    'test_knows_every_strategy_of_the_sdk',
    'test_runs_code_of_every_strategy_with_arguments_of_every_strategy',
    'test_returns_data_by_every_strategy',
    'test_returns_data_by_the_default_strategy',
    'test_returns_data_by_the_first_strategy_that_can',
    'test_fails_when_no_strategy_can',
    'test_fails_with_the_name_of_a_strategy_that_is_none',
    'test_returns_a_function',
    'test_brings_text_of_every_plane_through',
  ],
  refusal_cases: [
    'test_400_an_id_that_is_none',
    'test_401_a_wrong_secret',
    'test_401_an_unknown_token_which_cannot_be_renewed',
    'test_403_what_belongs_to_somebody_else',
    'test_403_a_client_that_only_runs_endpoints',
    'test_404_what_does_not_exist',
    'test_404_a_task_of_somebody_else',
    'test_404_a_group_of_people_that_the_hub_does_not_have',
    'test_404_a_function_that_was_deleted',
    'test_409_an_endpoint_that_an_agent_holds',
    'test_413_what_is_too_large',
    'test_413_too_many_tasks',
    'test_422_what_makes_no_sense',
    'test_the_executor_gives_every_future_the_error_and_ends',
  ],
  executor_cases: [
    'test_runs_a_thousand_tasks',
    'test_gives_a_future_its_ids',
    'test_raises_what_the_function_raised',
    'test_passes_keyword_arguments',
    'test_runs_a_lambda',
    'test_runs_a_shell_function',
    'test_passes_an_argument_of_five_megabytes',
    'test_has_no_map_and_maps_by_submitting',
    'test_registers_functions_once',
    'test_runs_a_public_function_of_somebody_else',
    'test_asks_for_results_in_json',
    'test_takes_a_serializer',
    'test_limits_a_task_by_its_resource_specification',
    'test_sends_a_user_endpoint_config',
    'test_two_executors_share_a_task_group_and_mix_up_nothing',
    'test_two_executors_with_groups_of_their_own',
    'test_waits_for_open_futures_at_shutdown',
    'test_does_not_wait_at_shutdown_when_told_so',
    'test_cancels_at_shutdown_what_it_has_not_sent',
    'test_goes_to_another_amqp_port',
    'test_gets_the_hardware_of_the_worker',
    'test_is_not_warned_of_environment_differences',
    'test_is_not_disturbed_by_what_a_function_prints',
    'test_calls_a_javascript_function',
    'test_is_told_how_to_call_a_javascript_function',
    'test_reloads_in_a_new_process_what_another_left_behind',
    'test_reads_by_id_what_an_executor_submitted',
  ],
} as const satisfies Record<string, readonly string[]>;

/** A module of cases. */
export type CaseModule = keyof typeof CASES;

type CaseName = (typeof CASES)[CaseModule][number];

/** The case that proves a public name, or why there is nothing to prove. */
export type Proof = CaseName | { readonly reachesNoService: string };

/** Public names of the SDK's `Client`. */
export const CLIENT_SURFACE: Readonly<Record<string, Proof>> = {
  FUNCX_SCOPE: { reachesNoService: 'a constant that no request uses' },
  FUNCX_SDK_CLIENT_ID: { reachesNoService: 'a constant that no request uses' },
  auth_client: 'test_knows_who_it_is',
  batch_run: 'test_runs_a_batch_in_order',
  create_batch: 'test_sends_every_option_of_a_batch',
  delete_endpoint: 'test_deletes_an_endpoint',
  delete_function: 'test_deletes_a_function',
  get_allowed_functions: 'test_restricts_functions',
  get_batch_result: 'test_leaves_out_of_a_batch_result_what_nobody_knows',
  get_endpoint_metadata: 'test_registers_with_all_that_a_manager_tells',
  get_endpoint_status: 'test_sees_who_is_online',
  get_endpoints: 'test_lists_own_endpoints_and_with_any_also_public_ones',
  get_function: 'test_gets_the_function_back',
  get_result: 'test_reads_the_same_result_twice',
  get_result_amqp_url: 'test_gets_the_address_of_the_results',
  get_task: 'test_says_pending_while_a_task_runs',
  get_worker_hardware_details: 'test_gets_the_hardware_of_the_worker',
  logout: 'test_logs_out_and_in_again',
  register_endpoint: 'test_registers_with_all_that_a_manager_tells',
  register_function: 'test_registers_runs_and_gets_a_result',
  register_source_code: 'test_runs_source_code',
  run: 'test_registers_runs_and_gets_a_result',
  stop_endpoint: 'test_stops_an_endpoint_for_a_while',
  version_check: 'test_checks_versions',
};

/** Public names of the SDK's `Executor`. */
export const EXECUTOR_SURFACE: Readonly<Record<string, Proof>> = {
  amqp_port: 'test_goes_to_another_amqp_port',
  endpoint_id: 'test_gives_a_future_its_ids',
  get_worker_hardware_details: 'test_gets_the_hardware_of_the_worker',
  map: 'test_has_no_map_and_maps_by_submitting',
  register_function: 'test_registers_functions_once',
  register_source_code: 'test_registers_functions_once',
  reload_tasks: 'test_reloads_in_a_new_process_what_another_left_behind',
  resource_specification: 'test_limits_a_task_by_its_resource_specification',
  result_serializers: 'test_asks_for_results_in_json',
  serializer: 'test_takes_a_serializer',
  shutdown: 'test_waits_for_open_futures_at_shutdown',
  submit: 'test_runs_a_thousand_tasks',
  submit_to_registered_function: 'test_runs_a_public_function_of_somebody_else',
  task_group_id: 'test_two_executors_with_groups_of_their_own',
  user_endpoint_config: 'test_sends_a_user_endpoint_config',
};

/** Every request that the SDK can make of the Compute service: all of them must have been made. */
export const SERVICE_ROUTES = [
  'DELETE /v2/endpoints/{id}',
  'DELETE /v2/functions/{id}',
  'GET /v2/endpoints',
  'GET /v2/endpoints/{id}',
  'GET /v2/endpoints/{id}/status',
  'GET /v2/functions/{id}',
  'GET /v2/get_amqp_result_connection_url',
  'GET /v2/taskgroup/{id}',
  'GET /v2/tasks/{id}',
  'GET /v2/version',
  'GET /v3/endpoints/{id}/allowed_functions',
  'POST /v2/batch_status',
  'POST /v3/endpoints',
  'POST /v3/endpoints/{id}/lock',
  'POST /v3/endpoints/{id}/submit',
  'POST /v3/functions',
  'PUT /v3/endpoints/{id}',
];

/** The same for the authorization server; these requests do not tell the version of the Compute SDK. */
export const AUTH_ROUTES = [
  'GET /v2/api/identities',
  'GET /v2/oauth2/userinfo',
  'POST /v2/oauth2/token',
  'POST /v2/oauth2/token/revoke',
];
