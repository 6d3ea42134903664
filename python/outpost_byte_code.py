"""Tells whether a pickle holds byte code that this interpreter must not run, without loading the pickle.

Byte code belongs to one minor version of Python, and a pickle does not say which one wrote it. Loading it in another ends in
nonsense or in a crash of the interpreter, so it is looked at first: an unpickler that makes nothing collects the arguments of
every code object, and these are held against what this version writes.

1. Which fields a code object has tells 3.8 and 3.9 from 3.10 and from 3.11 and newer.
2. Among the versions that share them, the instructions must be ones that this version's compiler writes: known opcodes, inline
   caches where they belong, arguments within bounds, jumps that land on instructions.

What both rules let through reads the same in both versions (`return a + b` is the same bytes in 3.11 and 3.12), and runs alike.
"""

import dis
import io
import opcode
import pickle
import sys
from types import CodeType

MARK = b"_create_code"
_OWN = sys.version_info[:2]

# dill writes the arguments of CodeType, since 3.10 after the old line table.
_FIELDS_38, _FIELDS_310, _FIELDS_311 = 16, 16, 18
_PLACES = {16: (6, 7, 8, 9, 14, 15), 18: (6, 7, 8, 9, 16, 17)}  # code, consts, names, varnames, freevars, cellvars

_HAS_CACHES = _OWN >= (3, 11)
# RESUME begins the body of every function since 3.11, and its number moved with the versions.
_RESUME_OF = {151: "3.11 or 3.12", 149: "3.13", 128: "3.14"}
_FIRST = ("RESUME", "COPY_FREE_VARS", "MAKE_CELL", "RETURN_GENERATOR")
_LAST = (
    "RETURN_VALUE",
    "RETURN_CONST",
    "RERAISE",
    "RAISE_VARARGS",
    "JUMP_BACKWARD",
    "JUMP_BACKWARD_NO_INTERRUPT",
    "JUMP_FORWARD",
    "JUMP_ABSOLUTE",
    "INTERPRETER_EXIT",
)

# CALL_INTRINSIC_1 of 3.12, POP_JUMP_BACKWARD_IF_NOT_NONE of 3.11.
_STOP_ITERATION = 173
_GENERATOR_FLAGS = 0x20 | 0x80 | 0x200


class _Inert:
    """Stands in for everything that a pickle names; nothing comes of it."""

    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, *args, **kwargs):
        return self

    def __setitem__(self, key, value):
        pass

    def __setstate__(self, state):
        pass

    append = add = extend = update = __setstate__


class _Collector(pickle.Unpickler):
    """Collects the arguments of code objects. Runs nothing that the pickle names."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.codes = []

    def find_class(self, module, name):
        return self._collect if name == "_create_code" else _Inert

    def persistent_load(self, pid):
        return _Inert()

    def _collect(self, *args):
        self.codes.append(args)
        return _Inert()


def _fields(args):
    """(arguments of CodeType, whether the old line table stood before them)."""
    return (args, False) if args and isinstance(args[0], int) else (args[1:], True)


def _family(count, has_line_table):
    if count == _FIELDS_311:
        return (3, 11), "3.11 or newer"
    if count == _FIELDS_310 and has_line_table:
        return (3, 10), "3.10"
    if count == _FIELDS_38:
        return (3, 8), "3.8 or 3.9"
    return None, "another version"


def _own_family():
    return (3, 11) if _OWN >= (3, 11) else (3, 10) if _OWN == (3, 10) else (3, 8)


def _caches():
    """Number of inline caches by opcode: a list by number until 3.12, a table by name since."""
    table = getattr(opcode, "_inline_cache_entries", ())
    if isinstance(table, dict):
        return {dis.opmap[name]: count for name, count in table.items() if name in dis.opmap}
    return {number: count for number, count in enumerate(table) if count}


_CACHES = _caches()
_KNOWN = frozenset(number for number in dis.opmap.values() if number < 256)
_NAMES = {number: name for name, number in dis.opmap.items()}
_FAST = frozenset(n for name, n in dis.opmap.items() if name in ("LOAD_FAST", "STORE_FAST", "DELETE_FAST", "LOAD_FAST_CHECK"))


def _name_index(op, arg):
    """Index into the names, which some opcodes shift to make room for flags."""
    name = _NAMES[op]
    if name == "LOAD_GLOBAL" and _OWN >= (3, 11):
        return arg >> 1
    if name == "LOAD_ATTR" and _OWN >= (3, 12):
        return arg >> 1
    if name == "LOAD_SUPER_ATTR":
        return arg >> 2
    return arg


def _instructions(code):
    """[(offset, opcode, argument, end)] of the instructions, or None when they are not of this version."""
    found = []
    offset, prefix = 0, 0
    while offset < len(code):
        op = code[offset]
        arg = prefix | code[offset + 1]
        if op not in _KNOWN:
            return None
        end = offset + 2
        if op == dis.EXTENDED_ARG:
            prefix = arg << 8
        else:
            prefix = 0
            for _ in range(_CACHES.get(op, 0) if _HAS_CACHES else 0):
                if end >= len(code) or code[end] != 0 or code[end + 1] != 0:
                    return None
                end += 2
        if _HAS_CACHES and op == 0:
            return None
        found.append((offset, op, arg, end))
        offset = end
    return found


def _jump_target(op, arg, end):
    """Offset that a jump goes to."""
    unit = 2 if _OWN >= (3, 10) else 1
    if op in dis.hasjabs:
        return arg * unit
    return end - arg * unit if "BACKWARD" in _NAMES[op] else end + arg * unit


def _has_own_idioms(flags, instructions):
    """What tells 3.11 and 3.12 apart where their opcodes agree."""
    if _OWN not in ((3, 11), (3, 12)):
        return True
    names = [_NAMES[op] for _, op, _, _ in instructions]
    wraps_generator = False
    shares_returns = flags & _GENERATOR_FLAGS != 0 or any(op in dis.hasjrel for _, op, _, _ in instructions)
    for index in range(1, len(names)):
        # 3.12 ends generators and coroutines with what turns StopIteration into RuntimeError; 3.11 has another opcode there.
        if names[index] == "RERAISE" and instructions[index - 1][1] == _STOP_ITERATION:
            wraps_generator = True
        # 3.12 returns a constant with one instruction, unless branches share the return.
        if _OWN == (3, 12) and not shares_returns and names[index - 1 : index + 1] == ["LOAD_CONST", "RETURN_VALUE"]:
            return False
    return flags & _GENERATOR_FLAGS == 0 or wraps_generator == (_OWN == (3, 12))


def _is_own(fields):
    """Whether the instructions of a code object are ones that this version writes."""
    code_at, consts_at, names_at, varnames_at, free_at, cells_at = _PLACES[len(fields)]
    code = fields[code_at]
    code = code.encode("latin-1") if isinstance(code, str) else bytes(code)
    instructions = _instructions(code) if len(code) % 2 == 0 and code else None
    if instructions is None:
        return False
    if _HAS_CACHES and _NAMES[instructions[0][1]] not in _FIRST:
        return False
    if _HAS_CACHES and not any(_NAMES[op] == "RESUME" for _, op, _, _ in instructions):
        return False
    if _NAMES[instructions[-1][1]] not in _LAST:
        return False
    if not _has_own_idioms(fields[5], instructions):
        return False
    starts = {offset for offset, _, _, _ in instructions}
    locals_max = len(fields[varnames_at]) + (len(fields[free_at]) + len(fields[cells_at]) if _HAS_CACHES else 0)
    for _, op, arg, end in instructions:
        if op in dis.hasconst and arg >= len(fields[consts_at]):
            return False
        if op in dis.hasname and _name_index(op, arg) >= len(fields[names_at]):
            return False
        if op in _FAST and arg >= locals_max:
            return False
        if op in dis.hascompare and _OWN < (3, 12) and arg >= len(dis.cmp_op):
            return False
        if (op in dis.hasjrel or op in dis.hasjabs) and _jump_target(op, arg, end) not in starts:
            return False
    return True


def _maker(fields, family_name):
    """The version that wrote a code object, as far as it can be told."""
    if len(fields) != _FIELDS_311:
        return "3.9" if family_name == "3.8 or 3.9" and _OWN == (3, 8) else family_name
    code = fields[_PLACES[18][0]]
    code = code.encode("latin-1") if isinstance(code, str) else bytes(code)
    for offset in range(0, min(len(code), 40), 2):
        version = _RESUME_OF.get(code[offset])
        if version == "3.11 or 3.12" and _OWN in ((3, 11), (3, 12)):
            return "3.12" if _OWN == (3, 11) else "3.11"
        if version is not None:
            return version
    return family_name


def foreign_version(data):
    """The version of Python whose byte code a pickle holds when that is not this one; None when nothing speaks against loading it."""
    collector = _Collector(data)
    try:
        collector.load()
    except Exception:
        pass  # What cannot be read is for the real unpickler to report; what was seen until then counts.
    for args in collector.codes:
        fields, has_line_table = _fields(args)
        family, name = _family(len(fields), has_line_table)
        if family != _own_family():
            return _maker(fields, name)
        try:
            if not _is_own(fields):
                return _maker(fields, name)
        except (IndexError, KeyError, TypeError, ValueError):
            return _maker(fields, name)
    return None


def fields_of(code):
    """A code object as the fields that a pickle has; for tests."""
    own = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_nlocals, code.co_stacksize, code.co_flags]
    own += [code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_filename, code.co_name]
    if _HAS_CACHES:
        own += [code.co_qualname, code.co_firstlineno, code.co_linetable, code.co_exceptiontable]
    else:
        own += [code.co_firstlineno, code.co_linetable if _OWN >= (3, 10) else code.co_lnotab]
    return tuple(own + [code.co_freevars, code.co_cellvars])


def codes_within(code):
    """A code object and those nested in it; for tests."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from codes_within(const)
