/** Runs a command at an endpoint and brings back what it printed and how it ended: `node shell.js ENDPOINT_ID`. */
import { Client, Executor } from 'outpost';

const [endpointId = ''] = process.argv.slice(2);
const client = new Client();
await using executor = new Executor({ client, endpointId });

// As a Python function: whatever the command starts is ended with the task.
const shell = await client.registerPythonFunction<
  [command: string],
  { code: number; stdout: string; stderr: string }
>(`
def shell(command, timeout_s=60):
    import subprocess
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=timeout_s)
    return {"code": ended.returncode, "stdout": ended.stdout, "stderr": ended.stderr}
`);
const { code, stdout, stderr } = await executor.submitToRegisteredFunction(shell, [
  'echo out; echo err >&2; exit 3',
]);
console.log(code, stdout.trim(), stderr.trim());
