"""What shell functions of the Globus Compute SDK need beside the SDK itself: the end of a command at its walltime, and the
environment that an MPIFunction expects.

The SDK stops waiting for a command at its walltime and leaves it running. Here it ends with everything that it started, also
what left its process group or lost its parent: a child inherits GC_TASK_UUID in its environment, and /proc shows it.
"""

import os
import shutil
import signal
import socket
import time

# Time between asking the processes of a command to end and killing them.
GRACE_S = 1.0
POLL_S = 0.03
# How long a killed process may take to vanish (a hung file system can hold it).
VANISH_S = 5.0

# Keys that the agent reads, whatever runs.
AGENT_KEYS = ("walltime", "max_retries")
SPECIFICATION_KEYS = ("num_nodes", "ranks_per_node", "num_ranks", "launcher_options")


class ResourceSpecificationError(Exception):
    """A resource specification that cannot be met here."""


def timed_out(value):
    """Whether the outcome of a shell function, an object or a dict, says that its walltime was over."""
    name = value.get("exception_name") if isinstance(value, dict) else getattr(value, "exception_name", None)
    return name == "subprocess.TimeoutExpired"


def _children_of():
    """Living processes by parent: {parent: [child]}."""
    children = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name, "rb") as file:
                # The name in parentheses may hold anything, so count from its end: state, parent.
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue  # Gone since the directory was read.
        if state != b"Z":
            children.setdefault(int(parent), []).append(int(name))
    return children


def _has_cookie(pid, cookie):
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            return cookie in (b"\0" + file.read() + b"\0")
    except OSError:
        return False  # Gone, or somebody else's.


def processes_of(task_id):
    """Living processes that a task started, and all that these started."""
    cookie = b"\0GC_TASK_UUID=" + task_id.encode() + b"\0"
    own = os.getpid()
    children = _children_of()
    found = set()
    waiting = [pid for pids in children.values() for pid in pids if pid != own and _has_cookie(pid, cookie)]
    while waiting:
        pid = waiting.pop()
        if pid not in found and pid != own:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return found


def _signal(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass  # Gone, or changed its user.


def _reap(pids):
    for pid in pids:
        try:
            os.waitpid(pid, os.WNOHANG)
        except OSError:
            pass  # Not a child of this process, or reaped by whoever started it.


def end_processes_of(task_id):
    """Ends what a task started: asks, and kills what is there after the grace period. False when something withstands."""
    started = time.monotonic()
    seen = set()
    asked = set()
    while True:
        alive = processes_of(task_id)
        seen |= alive
        _reap(seen)
        elapsed = time.monotonic() - started
        if not alive or elapsed > GRACE_S + VANISH_S:
            return not alive
        if elapsed >= GRACE_S:
            _signal(alive, signal.SIGKILL)
        else:
            _signal(alive - asked, signal.SIGTERM)
            asked |= alive
        time.sleep(POLL_S)


def _count(specification, key, default):
    value = specification.get(key, default)
    if value is not None and (type(value) is not int or value < 1):
        raise ResourceSpecificationError("resource_specification: %s must be a whole number from 1, not %r" % (key, value))
    return value


def mpi_environment(specification):
    """The variables that an MPIFunction reads, for a resource specification on this one machine; none when it is not about MPI."""
    keys = set(specification) - set(AGENT_KEYS)
    if not keys:
        return {}
    unknown = sorted(keys - set(SPECIFICATION_KEYS))
    if unknown:
        raise ResourceSpecificationError(
            "resource_specification: %s is not known; known are %s" % (", ".join(unknown), ", ".join(SPECIFICATION_KEYS))
        )
    nodes = _count(specification, "num_nodes", 1)
    if nodes > 1:
        raise ResourceSpecificationError(
            "resource_specification: %d nodes are asked for, but this endpoint runs tasks on one machine; set num_nodes to 1" % nodes
        )
    ranks = _count(specification, "num_ranks", None)
    per_node = _count(specification, "ranks_per_node", ranks or 1)
    ranks = ranks or per_node
    options = str(specification.get("launcher_options") or "")
    host = socket.gethostname()
    prefixes = {
        "MPIEXEC": "mpiexec -n %d %s" % (ranks, options),
        "SRUN": "srun --ntasks %d --ntasks-per-node %d --nodelist %s --nodes 1 %s" % (ranks, per_node, host, options),
        "APRUN": "aprun -n %d -N %d -node-list %s %s" % (ranks, per_node, host, options),
    }
    variables = {
        "PARSL_NUM_NODES": "1",
        "PARSL_RANKS_PER_NODE": str(per_node),
        "PARSL_NUM_RANKS": str(ranks),
        "PARSL_LAUNCHER_OPTIONS": options,
        "PARSL_MPI_NODELIST": host,
    }
    for launcher, prefix in prefixes.items():
        variables["PARSL_%s_PREFIX" % launcher] = prefix.rstrip()
    # srun only works inside an allocation.
    launchers = (("SRUN",) if "SLURM_JOB_ID" in os.environ else ()) + ("MPIEXEC", "APRUN")
    for launcher in launchers:
        if shutil.which(launcher.lower()) is not None:
            variables["PARSL_MPI_PREFIX"] = variables["PARSL_%s_PREFIX" % launcher]
            return variables
    raise ResourceSpecificationError(
        "a resource_specification needs an MPI launcher, but none of mpiexec, srun (in an allocation) and aprun is on the PATH of "
        "the endpoint; install Open MPI or MPICH there, or submit without resource_specification"
    )
