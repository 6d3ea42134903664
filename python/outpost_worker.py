"""Runs Python functions for a worker host: one interpreter, one task at a time.

The protocol runs on descriptors of its own, 3 (in) and 4 (out), as frames: two big-endian u32 (bytes that follow; header
bytes), a JSON header with a "type", a body. Descriptors 1 and 2 are files that the host opened; they belong to the
function, and what it wrote is returned with its result.

    host                                        interpreter
     |- configure {endpoint_id, working_dir, ...} ->|
     |<- ready {python_version, dill_version, pid} -|
     |- task {task_id, nonce, ...} + Task message ->|
     |<- result {nonce, failed, output} + Result ---|

With `--stdio` instead of the host's pid, a launcher (of a container, say) stands between the two: the protocol then comes and goes
over descriptors 0 and 1, and this process opens the files for its output itself, by the names that `configure` gives.

Invariants: every task ends in exactly one result frame, or in the death of this process; nothing that a function prints can
disturb the protocol; a fork of this process never answers; this process does not outlive its host.

Standard library only, Python 3.9 or newer. dill is used when this interpreter has it.
"""

import base64
import codecs
import importlib.util
import io
import json
import linecache
import os
import platform
import signal
import stat
import struct
import sys
import time
import traceback
import types
from collections import OrderedDict
from importlib.util import find_spec

IN_FD = 3
OUT_FD = 4
FRAME_BYTES_MAX = 256 * 1024 * 1024
FRAME_HEADER_BYTES_MAX = 1024 * 1024
CODE_CACHE_COUNT_MAX = 256
CODE_CACHE_CHARS_MAX = 8 * 1024 * 1024
PR_SET_PDEATHSIG = 1
# Layout of the table of running tasks: src/protocol/running-cells.ts.
RUNNING_HEADER_BYTES = 64

# Made once: json.dumps and json.loads build theirs anew for every call that is not plain.
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_DECODER = json.JSONDecoder()
_quote = json.encoder.encode_basestring

EXECUTION_FAILED = "An error occurred during the execution of this task"

DATA_SERIALIZERS = {
    "DillDataBase64": "00",
    "JSONData": "11",
    "AllDataStrategies": "13",
    "DEFAULT_STRATEGY_DATA": "00",
}
CODE_SERIALIZERS = {
    "DillCode": "01",
    "DillCodeTextInspect": "03",
    "DillCodeSource": "04",
    "CombinedCode": "10",
    "AllCodeStrategies": "12",
    "PureSourceTextInspect": "st",
    "PureSourceDill": "sd",
    "DEFAULT_STRATEGY_CODE": "01",
}
# Modules that the origin's classes can be imported from.
SERIALIZER_MODULES = ("globus_compute_sdk.serialize", "globus_compute_sdk.serialize.concretes")

SDK_PACKAGE = "globus_compute_sdk"
SEND_SOURCE = "`Executor(serializer=ComputeSerializer(strategy_code=AllCodeStrategies()))`"

# Pickles of functions that were looked at, by hash and length; a function comes back with every one of its tasks.
CHECKED_COUNT_MAX = 4096


class FrameError(Exception):
    """The host sent bytes that are no frame."""


class EnvelopeError(Exception):
    """The body is not a task message."""


class SerializationError(Exception):
    """A value could not be serialized."""


class DeserializationError(Exception):
    """A buffer could not be deserialized."""


class DillMissingError(DeserializationError):
    """A buffer needs dill, and this interpreter has none."""

    def __init__(self, what):
        super().__init__(
            "%s needs dill, but %s has no dill; install it there (`%s -m pip install dill`), "
            "or set `python:` of the endpoint to an interpreter that has it, or send the function as source with JSON data"
            % (what, this_interpreter(), sys.executable)
        )


class PackageMissingError(DeserializationError):
    """A pickle is of a class or function that this interpreter has not."""

    def __init__(self, what, module):
        package = module.partition(".")[0]
        distribution = "globus-compute-sdk" if package == SDK_PACKAGE else package
        super().__init__(
            "%s needs the module %s, but %s does not have it; install what provides it there (`%s -m pip install %s`), "
            "or set `python:` of the endpoint to an interpreter that has it"
            % (what, module, this_interpreter(), sys.executable, distribution)
        )


class PythonVersionError(DeserializationError):
    """A pickle holds byte code of another Python."""

    def __init__(self, what, version):
        super().__init__(
            "%s holds byte code of Python %s, but %s is to run it, and byte code only runs in the minor version that made it. "
            "Send source instead: %s; or submit from Python %d.%d; or set `python:` of the endpoint to an interpreter of Python %s"
            % ((what, version, this_interpreter(), SEND_SOURCE) + sys.version_info[:2] + (version,))
        )


class MaxResultSizeExceeded(Exception):
    """The serialized result is over the limit."""

    def __init__(self, size, limit):
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self):
        return "Task result of %dB exceeded current limit of %dB" % (self.size, self.limit)


def this_interpreter():
    """This interpreter, for messages."""
    return "this interpreter (%s, Python %s)" % (sys.executable, platform.python_version())


# --- frames -------------------------------------------------------------------------------------------------------


def compact(value):
    """JSON as the origin's writer spells it."""
    return _ENCODER.encode(value)


def parse_json(text):
    """What json.loads returns, without the regular expressions that it spends on white space which is rarely there."""
    try:
        value, end = _DECODER.scan_once(text, 0)
    except StopIteration:
        return _DECODER.decode(text)
    return value if end == len(text) else _DECODER.decode(text)


def _refuse_constant(name):
    raise ValueError("%s is not JSON" % name)


_STRICT_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_strict_json(text):
    """JSON as other languages read it: without NaN and Infinity, which only values of Python functions may have."""
    try:
        value, end = _STRICT_DECODER.scan_once(text, 0)
    except StopIteration:
        return _STRICT_DECODER.decode(text)
    return value if end == len(text) else _STRICT_DECODER.decode(text)


def json_text(value):
    """What json.dumps returns; most results are small, and an encoder for each costs more than they do."""
    kind = type(value)
    if kind is str:
        return json.encoder.encode_basestring_ascii(value)
    if kind is int:
        return int.__repr__(value)
    return "null" if value is None else json.dumps(value)


def encode_frame(header, body=b""):
    """One frame as bytes."""
    head = compact(header).encode("utf-8", "backslashreplace")
    if len(head) > FRAME_HEADER_BYTES_MAX or 4 + len(head) + len(body) > FRAME_BYTES_MAX:
        raise FrameError("frame with %d header and %d body bytes is over the limit" % (len(head), len(body)))
    return struct.pack(">II", 4 + len(head) + len(body), len(head)) + head + body


def read_frame(stream):
    """The next (header, body) of a buffered binary stream, or None at its end."""
    prefix = stream.read(8)
    if not prefix:
        return None
    if len(prefix) < 8:
        raise FrameError("the stream ended inside a frame")
    length, header_length = struct.unpack(">II", prefix)
    if length > FRAME_BYTES_MAX or header_length > FRAME_HEADER_BYTES_MAX or header_length + 4 > length:
        raise FrameError("frame says %d bytes with %d of header: out of bounds or not a frame" % (length, header_length))
    rest = stream.read(length - 4)
    if len(rest) < length - 4:
        raise FrameError("the stream ended inside a frame")
    try:
        header = parse_strict_json(rest[:header_length].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FrameError("the header of a frame is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        raise FrameError("the header of a frame has no type")
    return header, rest[header_length:]


# --- packed buffers and envelopes ---------------------------------------------------------------------------------


def pack_buffers(buffers):
    """Packs texts; the length before each counts code points."""
    return "".join("%d\n%s" % (len(buffer), buffer) for buffer in buffers)


def unpack_buffers(packed):
    """Unpacks what pack_buffers made."""
    buffers = []
    offset = 0
    while offset < len(packed):
        newline = packed.find("\n", offset, offset + 11)
        digits = packed[offset:newline] if newline != -1 else ""
        if not (digits.isascii() and digits.isdigit()):
            raise DeserializationError("packed buffer %d: no length before it" % (len(buffers) + 1))
        end = newline + 1 + int(digits)
        if end > len(packed):
            raise DeserializationError(
                "packed buffer %d: says %s characters, but the text ends before" % (len(buffers) + 1, digits)
            )
        buffers.append(packed[newline + 1 : end])
        offset = end
    return buffers


def unpack_task(body):
    """The task_buffer of a task message."""
    if not body:
        raise EnvelopeError("message is malformed: it is empty")
    if body[0] != 1:
        raise EnvelopeError("message is malformed: protocol version %d is not 1" % body[0])
    try:
        envelope = parse_strict_json(body[1:].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise EnvelopeError("message is malformed: it is not JSON") from error
    data = envelope.get("data") if isinstance(envelope, dict) else None
    if not isinstance(data, dict) or envelope.get("message_type") != "task":
        raise EnvelopeError("message is malformed: it is not a task")
    task_buffer = data.get("task_buffer")
    if not isinstance(task_buffer, str):
        raise EnvelopeError("message is malformed: task_buffer is not a string")
    return task_buffer


def pack_result(task_id, data, details_json, error_details, started_ns, ended_ns):
    """A Result message; fields stand in the order of the origin's writer, with `details` as ready JSON text."""
    error_json = "null" if error_details is None else compact(error_details)
    text = (
        '{"message_type":"result","data":{"task_id":"%s","data":%s,"details":%s,"error_details":%s,"task_statuses":['
        '{"timestamp":%d,"state":"execution-start","actor":"worker"},'
        '{"timestamp":%d,"state":"execution-end","actor":"worker"}]}}'
    ) % (task_id, _quote(data), details_json, error_json, started_ns, ended_ns)
    try:
        return b"\x01" + text.encode("utf-8")
    except UnicodeEncodeError:
        # Lone surrogates have no UTF-8 form; JSON can spell them.
        return b"\x01" + text.encode("utf-8", "backslashreplace")


# --- serialization ------------------------------------------------------------------------------------------------


def load_dill(what):
    """The dill module. Imported late: it costs 40 ms, and functions sent as source do without."""
    try:
        import dill
    except ImportError as error:
        raise DillMissingError(what) from error
    return dill


_COMPANIONS = {}


def companion(name):
    """A module that lies beside this file, loaded when it is needed first: its folder is not on the import path."""
    module = _COMPANIONS.get(name)
    if module is None:
        path = os.path.join(os.path.dirname(os.path.realpath(__file__)), name + ".py")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _COMPANIONS[name] = module
    return module


def installed_version(package):
    """Version of a package without importing it (importlib.metadata costs 20 ms), or None when it is not installed."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    module = sys.modules.get(package)
    if module is not None and isinstance(getattr(module, "__version__", None), str):
        return module.__version__
    site = os.path.dirname(os.path.dirname(spec.origin))
    prefix = package + "-"
    try:
        names = os.listdir(site)
    except OSError:
        return "unknown"
    for name in names:
        if name.startswith(prefix) and name.endswith((".dist-info", ".egg-info")):
            return name[len(prefix) :].rsplit(".", 1)[0].split("-py", 1)[0]
    return "unknown"


class CodeCache:
    """Compiled sources. Only code is kept, never a namespace: each task gets a fresh one, so that no state survives."""

    def __init__(self):
        self._entries = OrderedDict()
        self._chars = 0
        self._serial = 0

    def compile(self, name, source):
        key = (name, source)
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            return entry[0]
        self._serial += 1
        filename = "<function %s #%d>" % (name, self._serial)
        # Tracebacks and inspect.getsource find the source here; an mtime of None keeps the entry from being checked.
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        try:
            code = compile(source, filename, "exec")
        except BaseException:
            linecache.cache.pop(filename, None)
            raise
        self._entries[key] = (code, filename)
        self._chars += len(source)
        while len(self._entries) > CODE_CACHE_COUNT_MAX or self._chars > CODE_CACHE_CHARS_MAX:
            (_, old_source), (_, old_filename) = self._entries.popitem(last=False)
            self._chars -= len(old_source)
            linecache.cache.pop(old_filename, None)
        return code


CODE_CACHE = CodeCache()


def function_of_source(name, source):
    """Executes a source in a fresh namespace and looks the function up by its name."""
    namespace = {}
    exec(CODE_CACHE.compile(name, source), namespace)
    if name not in namespace:
        raise DeserializationError("the source of the function does not define %r" % name)
    return namespace[name]


def _split_source(payload):
    name, separator, source = payload.partition(":")
    if not separator:
        raise DeserializationError("a source buffer is `name:source`, but this one has no colon")
    return name, source


def _first_that_loads(candidates):
    failures = []
    for identifier, payload in candidates:
        try:
            return deserialize(identifier + "\n" + payload)
        except Exception as error:
            failures.append("%s: %s" % (identifier, error))
    raise DeserializationError("no form of the buffer could be deserialized:\n* " + "\n* ".join(failures))


_CHECKED = set()


def _check_byte_code(data, what):
    """Refuses a pickle with byte code of another Python, before anything of it is loaded."""
    if b"_create_code" not in data:
        return  # By far most arguments, and objects of installed modules.
    key = (hash(data), len(data))
    if key in _CHECKED:
        return
    version = companion("outpost_byte_code").foreign_version(data)
    if version is not None:
        raise PythonVersionError(what, version)
    if len(_CHECKED) >= CHECKED_COUNT_MAX:
        _CHECKED.clear()
    _CHECKED.add(key)


def load_pickle(payload, what, needs_dill):
    """The object of a base64 pickle."""
    data = base64.b64decode(payload)
    _check_byte_code(data, what)
    try:
        if needs_dill:
            return load_dill(what).loads(data)
        import pickle

        return pickle.loads(data)
    except DillMissingError:
        if SDK_PACKAGE.encode() in data and find_spec(SDK_PACKAGE) is None:
            # Asking for dill first would only lead to the next question.
            raise PackageMissingError(what, SDK_PACKAGE) from None
        raise
    except ModuleNotFoundError as error:
        if error.name is None:
            raise
        raise PackageMissingError(what, error.name) from error


def deserialize(buffer):
    """The value or function of a serialized buffer."""
    identifier, separator, payload = buffer[:2], buffer[2:3], buffer[3:]
    if separator != "\n":
        raise DeserializationError("a serialized buffer starts with a two-character identifier and a newline")
    if identifier == "11":
        return parse_json(payload)
    if identifier in ("st", "sd"):
        return function_of_source(*_split_source(payload))
    if identifier == "00":
        return load_pickle(payload, "data serialized with dill (00)", True)
    if identifier == "01":
        return load_pickle(payload, "a function serialized as DillCode (01)", True)
    if identifier == "02":
        return load_pickle(payload, "a function serialized as PickleCode (02)", False)
    if identifier in ("03", "04"):
        # A pair of texts: any unpickler reads it, whatever Python or dill wrote it.
        return function_of_source(*load_pickle(payload, "a function serialized as " + identifier, False))
    if identifier in ("12", "13"):
        return _first_that_loads((part[:2], part[3:]) for part in unpack_buffers(payload))
    if identifier == "10":
        # The origin joins with the character that its sources hold too; readers take pairs in order, as it does.
        parts = iter(payload.split(":"))
        return _first_that_loads((key.rstrip("\n"), text) for key, text in zip(parts, parts))
    if identifier == "v8":
        raise DeserializationError(
            "the arguments are a structured clone (v8), which only JavaScript reads; send JSON to a Python function"
        )
    raise DeserializationError("unknown serialization identifier %r" % identifier)


def _base64_lines(data):
    return codecs.encode(data, "base64").decode("ascii")


def _source_of(identifier, value):
    import inspect

    if identifier in ("sd", "04"):
        return load_dill("a function as source").source.getsource(value, lstrip=True)
    return inspect.getsource(value)


def serialize(identifier, value):
    """A value as the buffer that an identifier names; raises whatever stops it."""
    if identifier == "11":
        return "11\n" + json_text(value)
    if identifier in ("00", "01"):
        return identifier + "\n" + _base64_lines(load_dill("a result of type %s" % type(value).__name__).dumps(value))
    if identifier in ("st", "sd"):
        return "%s\n%s:%s" % (identifier, value.__name__, _source_of(identifier, value))
    if identifier in ("03", "04"):
        pair = (value.__name__, _source_of(identifier, value))
        return identifier + "\n" + _base64_lines(load_dill("a function as source").dumps(pair))
    parts = {"12": ("st", "sd", "01"), "13": ("11", "00"), "10": ("04", "01", "03", "sd", "st")}[identifier]
    buffers, failures = [], []
    for part in parts:
        try:
            buffers.append(serialize(part, value))
        except Exception as error:
            failures.append("%s: %s" % (part, error))
    if not buffers:
        raise SerializationError("\n\nSerialization errors:\n* " + "\n* ".join(failures))
    if identifier == "10":
        return "10\n" + ":".join(piece for buffer in buffers for piece in (buffer[:3], buffer[3:]))
    return identifier + "\n" + pack_buffers(buffers)


def is_plain(value, lists=(list,)):
    """Whether JSON keeps a value as it is; it makes lists of tuples, which `lists` may allow."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return True
    if kind is float:
        return value - value == 0
    if kind in lists:
        return all([is_plain(item, lists) for item in value])
    if kind is dict:
        return all([type(key) is str and is_plain(item, lists) for key, item in value.items()])
    return False


def serialize_with(value, result_serializers):
    """Tries the serializers that the submitter asked for, in order (import paths of the origin's classes)."""
    table = CODE_SERIALIZERS if callable(value) else DATA_SERIALIZERS
    failures = []
    for path in result_serializers:
        module, _, name = path.rpartition(".")
        identifier = table.get(name) if module in SERIALIZER_MODULES else None
        if identifier is None:
            kind = "code" if callable(value) else "data"
            failures.append("%s: not a %s serializer that this worker knows" % (path, kind))
            continue
        try:
            return serialize(identifier, value)
        except Exception as error:
            failures.append("%s: %s: %s" % (path, type(error).__name__, error))
    raise SerializationError("All strategies failed.\n* " + "\n* ".join(failures))


def serialize_like(value, args_identifier):
    """Serializes a result the way its arguments came: JSON for JSON where that keeps the value, dill otherwise."""
    try:
        if args_identifier == "11" and is_plain(value):
            return serialize("11", value)
    except RecursionError:
        pass  # Deeper than the check, or circular: dill handles both.
    identifier = "01" if callable(value) else "00"
    try:
        return serialize(identifier, value)
    except DillMissingError as missing:
        if is_plain(value, (list, tuple)):
            return serialize("11", value)
        raise SerializationError("JSON cannot hold the result, and %s" % missing) from None
    except Exception as error:
        raise SerializationError(
            "All strategies failed.\n* %s: %s: %s" % (identifier, type(error).__name__, error)
        ) from error


# --- captured output ----------------------------------------------------------------------------------------------


class Capture:
    """One of the descriptors 1 and 2: a file in append mode that the host opened, emptied after each task."""

    def __init__(self, fd):
        self._fd = fd
        # Own descriptor: a function may redirect or close the standard one.
        self._file = os.dup(fd)
        self._identity = os.fstat(self._file)[1:3]
        self._is_file = stat.S_ISREG(os.fstat(fd).st_mode)

    def take(self, bytes_max):
        """(text or None, truncated): the tail of what was written since the last call."""
        if not self._is_file:
            return None, False
        try:
            seen = os.fstat(self._fd)
        except OSError:
            seen = None
        if seen is None or seen[1:3] != self._identity:
            os.dup2(self._file, self._fd)
            seen = os.fstat(self._file)
        size = seen.st_size
        if size == 0:
            return None, False
        tail = os.pread(self._file, bytes_max, max(0, size - bytes_max))
        os.ftruncate(self._file, 0)
        return tail.decode("utf-8", "replace"), size > bytes_max


class Output:
    """Standard output and error of the running task."""

    def __init__(self, bytes_max):
        self._bytes_max = bytes_max
        self._captures = {"stdout": Capture(1), "stderr": Capture(2)}
        # Line buffered, so that a killed interpreter leaves what it printed; never an encoding error in a C locale.
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self._stdout, self._stderr = sys.stdout, sys.stderr

    def restore(self):
        """Undoes what an earlier task did to sys.stdout and sys.stderr."""
        sys.stdout, sys.stderr = self._stdout, self._stderr

    def take(self):
        """What the task wrote, as the `output` of a result frame; None when it wrote nothing."""
        streams = [self._stdout, self._stderr]
        streams += [stream for stream in (sys.stdout, sys.stderr) if stream not in streams]
        for stream in streams:
            try:
                stream.flush()
            except Exception:  # A stream that the function closed or replaced; what it had is gone.
                pass
        output = {}
        for name, capture in self._captures.items():
            text, truncated = capture.take(self._bytes_max)
            if text is not None:
                output[name] = text
                if truncated:
                    output["truncated"] = True
        return output or None


# --- one task -----------------------------------------------------------------------------------------------------


def error_text(error):
    """The traceback of what a function raised, without the frames of this file."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    # Our own errors say everything themselves; what led to them is about this file.
    chain = not isinstance(error, (DeserializationError, SerializationError))
    return "".join(traceback.format_exception(type(error), error.with_traceback(frames), frames, chain=chain))


# Set when there is a limit: what a function that ran into it is to be told.
MEMORY_LIMIT = ""


def limit_memory(megabytes):
    """Limits the address space of this process, and of each that it starts."""
    global MEMORY_LIMIT
    import resource

    size = megabytes << 20
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or size <= hard:
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        MEMORY_LIMIT = "(worker_memory_mb limits this interpreter to %d MiB of address space; the operator of this endpoint can raise it)" % megabytes


def remote_error(error):
    """(text, error_details) of what a function raised, or of a buffer that could not be read or written."""
    try:
        message = str(error)
    except Exception:
        message = "<message of the exception could not be read>"
    try:
        text = error_text(error)
    except Exception as failure:
        text = "%s: %s\n(its traceback could not be formatted: %r)\n" % (type(error).__name__, message, failure)
    if MEMORY_LIMIT and isinstance(error, MemoryError):
        message = (message + " " + MEMORY_LIMIT).lstrip()
        text += MEMORY_LIMIT + "\n"
    exception = {"type": type(error).__name__, "message": message[:4096]}
    return text, {"code": "RemoteExecutionError", "user_message": EXECUTION_FAILED, "exception": exception}


def own_error(error):
    """(text, error_details) of a failure that the origin reports by its repr."""
    name = "CouldNotExecuteUserTaskError" if isinstance(error, EnvelopeError) else type(error).__name__
    text = "%s(%s)" % (name, ", ".join(repr(arg) for arg in error.args))
    return text, {"code": name, "user_message": "remote error: %s" % error}


class Ahead:
    """Tasks that came while another one ran, and that the host may take back until they begin.

    The host puts a byte into a pipe for each. Whoever reads it has the task: this process, which then begins it, or the host, which
    then has the newest of them.
    """

    def __init__(self, running_table):
        # The other end stays open, so that an empty pipe says so instead of ending.
        self.tokens, self._end = os.pipe()
        os.set_blocking(self.tokens, False)
        self._pipe = os.fstat(self.tokens)[1:3]
        self._path = running_table
        try:
            self._table = None if running_table is None else os.open(running_table, os.O_WRONLY | os.O_CLOEXEC)
            self._identity = None if self._table is None else os.fstat(self._table)[1:3]
        except OSError:  # The agent has given it up: then every task counts as begun.
            self._table = None

    def begin(self, header):
        """Whether the task is this interpreter's to run. It is then marked in the table of running tasks."""
        if os.fstat(self.tokens)[1:3] != self._pipe:
            raise OSError("a function closed descriptor %d, which belongs to the worker" % self.tokens)
        try:
            os.read(self.tokens, 1)
        except BlockingIOError:
            return False
        if self._table is not None:
            self._mark(bytes.fromhex(header["key"]), header["cell"])
        return True

    def _mark(self, key, cell):
        try:
            if os.fstat(self._table)[1:3] != self._identity:
                raise OSError("it is another file")
            os.pwrite(self._table, key, RUNNING_HEADER_BYTES + cell * len(key))
        except OSError:
            self._table = None
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                pass  # Somebody else could not write it either.


class Worker:
    """Runs tasks."""

    def __init__(self, config, output):
        self._config = config
        self._output = output
        self._pid = os.getpid()
        self._details_json = "null"
        self._mpi_variables = ()
        marks_dir = config.get("sandbox_marks_dir")
        self._sandboxes = None
        if marks_dir is not None:
            self._sandboxes = companion("outpost_sandbox").Sandboxes(config["working_dir"], marks_dir)

    def _details(self):
        """Environment of this worker, as the SDK expects it. What is not installed is left out, not invented."""
        dill_version = installed_version("dill")
        details = {"os": platform.platform()}
        if dill_version is not None:
            details["dill_version"] = dill_version
        details["python_version"] = platform.python_version()
        sdk_version = installed_version("globus_compute_sdk")
        if sdk_version is not None:
            details["globus_compute_sdk_version"] = sdk_version
        details["endpoint_id"] = self._config["endpoint_id"]
        return compact(details)

    def warm_up(self):
        """What the first task would wait for otherwise."""
        try:
            load_dill("")
        except Exception:
            pass  # Without dill, or with a broken one: a task that needs it is told.
        self._details_json = self._details()

    def _prepare(self, header):
        self._output.restore()
        environ = os.environ
        environ["GC_TASK_UUID"] = header["task_id"]
        timeout_ms = header.get("timeout_ms")
        if timeout_ms is not None:
            environ["GC_TASK_TIMEOUT"] = str(timeout_ms / 1000)
        elif "GC_TASK_TIMEOUT" in environ:
            del environ["GC_TASK_TIMEOUT"]
        if "GC_TASK_SANDBOX_DIR" in environ:
            del environ["GC_TASK_SANDBOX_DIR"]
        if self._mpi_variables:
            for name in self._mpi_variables:
                environ.pop(name, None)
            self._mpi_variables = ()
        try:
            os.chdir(self._config["working_dir"])
        except FileNotFoundError:  # Somebody tidied it away.
            os.makedirs(self._config["working_dir"], exist_ok=True)
            os.chdir(self._config["working_dir"])
        if self._sandboxes is not None:
            self._sandboxes.enter(header["task_id"])
        specification = header.get("resource_specification")
        if specification:
            variables = companion("outpost_shell").mpi_environment(specification)
            self._mpi_variables = tuple(variables)
            environ.update(variables)

    def _leave_sandbox(self):
        try:
            self._sandboxes.leave()
        except Exception:
            pass  # The mark stays, and the sandbox goes with the next start of the host.

    def _execute(self, header, body):
        buffers = unpack_buffers(unpack_task(body))
        if len(buffers) != 3:
            raise DeserializationError("a task has 3 packed buffers, but this one has %d" % len(buffers))
        self._prepare(header)
        function, args, kwargs = [deserialize(buffer) for buffer in buffers]
        value = function(*args, **kwargs)
        if type(value) is types.CoroutineType:
            import asyncio

            value = asyncio.run(value)
        elif type(function) is not types.FunctionType and hasattr(function, "execute_cmd_line"):
            # A shell function of the SDK, which leaves a command running that it no longer waits for.
            shell = companion("outpost_shell")
            if shell.timed_out(value):
                shell.end_processes_of(header["task_id"])
        serializers = header.get("result_serializers")
        data = serialize_with(value, serializers) if serializers else serialize_like(value, buffers[1][:2])
        if len(data) > self._config["result_chars_max"]:
            raise MaxResultSizeExceeded(len(data), self._config["result_chars_max"])
        return data

    def run(self, header, body):
        """The result frame of a task, as bytes."""
        started_ns = time.time_ns()
        error_details = None
        try:
            data = self._execute(header, body)
        except (EnvelopeError, MaxResultSizeExceeded) as error:
            data, error_details = own_error(error)
        except BaseException as error:  # sys.exit() and Ctrl-C of a function are its own errors, too.
            data, error_details = remote_error(error)
            limit = self._config["result_chars_max"]
            if len(data) > limit:
                data = "(the beginning of the traceback is cut)\n" + data[-limit:]
        if os.getpid() != self._pid:
            os._exit(0)  # A fork that the function made and returned from: the parent answers.
        if self._sandboxes is not None:
            self._leave_sandbox()
        ended_ns = time.time_ns()
        result = pack_result(header["task_id"], data, self._details_json, error_details, started_ns, ended_ns)
        frame = {"type": "result", "task_id": header["task_id"], "nonce": header["nonce"], "failed": error_details is not None}
        output = self._output.take()
        if output is not None:
            frame["output"] = output
        return encode_frame(frame, result)


# --- the process --------------------------------------------------------------------------------------------------


def write_all(data):
    """Writes to the host, however many calls that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(OUT_FD, view) :]


def die_with(host_pid):
    """Asks the kernel to kill this process when the host dies, and looks whether it has died already."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != host_pid:
        os._exit(0)


def take_stdio():
    """Makes the protocol's descriptors out of the standard ones, and keeps functions from the originals."""
    import fcntl

    # Far above those that they are to become.
    requests, answers = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in (0, 1)]
    os.dup2(requests, IN_FD)
    os.dup2(answers, OUT_FD)
    os.close(requests)
    os.close(answers)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)


def open_captures(paths):
    """Points the descriptors 1 and 2 to the files that the host reads, or to own ones where it cannot see those."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    for fd, path in zip((1, 2), paths):
        try:
            file = os.open(path, flags)
        except OSError:
            if fd == 2 and stat.S_ISREG(os.fstat(2).st_mode):
                continue  # It is that file already.
            import tempfile

            with tempfile.NamedTemporaryFile() as named:
                file = os.open(named.name, flags)
        os.dup2(file, fd)
        os.close(file)


def die_with_stream():
    """Ends this process when the other end of its requests is gone, also while a function runs."""
    import select
    import threading

    def watch():
        poll = select.poll()
        poll.register(IN_FD, 0)  # Only the end, which is always told.
        poll.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="outpost-stream", daemon=True).start()


def stand_aside():
    """Makes room for the functions: `__main__` is theirs (dill loads into it), and so is the import path."""
    own = sys.modules["__main__"]
    sys.modules["outpost_worker"] = own
    sys.modules["__main__"] = types.ModuleType("__main__")
    if sys.path and os.path.realpath(sys.path[0]) == os.path.dirname(os.path.realpath(__file__)):
        del sys.path[0]


def serve():
    """Answers tasks until the host closes the stream."""
    stream = open(IN_FD, "rb", buffering=io.DEFAULT_BUFFER_SIZE * 8, closefd=False)
    configure = read_frame(stream)
    if configure is None:
        return
    config = configure[0]
    if "memory_mb" in config:
        limit_memory(config["memory_mb"])
    if "capture" in config:
        open_captures(config["capture"])
        die_with_stream()
    worker = Worker(config, Output(config["output_bytes_max"]))
    ahead = Ahead(config.get("running_table"))
    ready = {
        "type": "ready",
        "python_version": platform.python_version(),
        "dill_version": installed_version("dill"),
        "pid": os.getpid(),
        "tokens": ahead.tokens,
    }
    write_all(encode_frame(ready))
    worker.warm_up()
    while True:
        frame = read_frame(stream)
        if frame is None:
            return
        if frame[0]["type"] == "task" and ("key" not in frame[0] or ahead.begin(frame[0])):
            write_all(worker.run(*frame))


def main(argv):
    """Entry: `outpost_worker.py <pid of the host>`, or `outpost_worker.py --stdio`."""
    if sys.version_info < (3, 9):
        sys.exit("Python 3.9 or newer is needed, but %s is %s" % (sys.executable, platform.python_version()))
    is_launched = argv[1] == "--stdio"
    if is_launched:
        take_stdio()
    for fd in (IN_FD, OUT_FD):
        os.set_inheritable(fd, False)
    if not is_launched:
        die_with(int(argv[1]))
    stand_aside()
    serve()
    # Threads that functions left running must not keep the interpreter: it ends here.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv)
