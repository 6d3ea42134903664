/**
 * The functions that the workload runs. Each first appends one line to the file of markers, in one write with O_APPEND, so that
 * lines of many processes never mix; then it takes its time; then it returns its key.
 */

/** JavaScript: `(markers, key, durationMs)`. */
export const JAVASCRIPT_FUNCTION = `async (markers, key, durationMs) => {
  const { appendFileSync } = require('node:fs');
  const nonce = require('node:crypto').randomBytes(6).toString('hex');
  appendFileSync(markers, key + ' ' + process.pid + ' ' + nonce + ' ' + Date.now() + '\\n');
  await new Promise((resolve) => setTimeout(resolve, durationMs));
  return { key };
}`;

/** Python: the same. */
export const PYTHON_FUNCTION = `def mark(markers, key, duration_ms):
    import os, time
    line = f"{key} {os.getpid()} {os.urandom(6).hex()} {int(time.time() * 1000)}\\n"
    descriptor = os.open(markers, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)
    time.sleep(duration_ms / 1000)
    return {"key": key}
`;
