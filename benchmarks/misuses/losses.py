"""A user's own code that raises, exits, hangs, patches, or returns what is no loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from misuses.case import ERROR, Case, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD = """
import asyncio, builtins, ctypes, decimal, functools, gc, io, json, math, os, random, signal
import subprocess, sys, threading, time, warnings
import numpy as np
import tensorflow as tf


def fused(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

"""

DRIVER = '''
"""Gives a loss to lossfuzz.check, and says what came of it; 71 if state was changed."""

import atexit, decimal, inspect, os, signal, sys

import gmpy2, mpmath, numpy
import lossfuzz
from lossfuzz.harness.backend import start_tensorflow
from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.backend import BackendError

start_tensorflow()
import keras
try:
    import mine
except FormulaError as error:  # at its decorator
    print(f"FormulaError: {error}", file=sys.stderr)
    sys.exit(2)

out, err = os.dup(1), os.dup(2)


def state():
    streams = [os.readlink(f"/proc/self/fd/{n}") if os.path.exists(f"/proc/self/fd/{n}") else None
               for n in (0, 1, 2)]
    try:
        folder = os.getcwd()
    except OSError:
        folder = None
    return {
        "NumPy's error state": numpy.geterr(),
        "the working folder": folder,
        "standard output": (sys.stdout is STDOUT or STDOUT.closed) and not sys.stdout.closed,
        "standard error": (sys.stderr is STDERR or STDERR.closed) and not sys.stderr.closed,
        "descriptors": streams,
        "Keras's floatx": keras.config.floatx(),
        "Keras's policy": keras.config.dtype_policy().name,
        "mpmath's precision": mpmath.mp.prec,
        "gmpy2's precision": gmpy2.get_context().precision,
        "decimal's precision": decimal.getcontext().prec,
        "SIGINT's handler": signal.getsignal(signal.SIGINT),
        "the alarm": signal.getitimer(signal.ITIMER_REAL)[0],
    }


STDOUT, STDERR = sys.stdout, sys.stderr
before = state()
name, against = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "softmax-cross-entropy"
against = getattr(mine, against.removeprefix("mine:")) if against.startswith("mine:") else against
limit = {}
if "time_limit" in inspect.signature(lossfuzz.check).parameters:
    limit["time_limit"] = 10.0
try:
    lossfuzz.check(
        getattr(mine, name), against, formats="float32", modes=MODE, rows=200, shapes=[(16, 5)],
        families="normal", **limit,
    )
    told, code = "sound", 0
except lossfuzz.LossDefect as error:
    told, code = f"LossDefect: {error}", 1
except (AssertionError, ValueError, TypeError, FormulaError, BackendError) as error:
    told, code = f"{type(error).__name__}: {error}", 2
except KeyboardInterrupt:
    told, code = "KeyboardInterrupt", 130
except BaseException as error:
    told, code = f"internal error: it raises {type(error).__name__}: {error!r}"[:300], 70
after = state()
changed = [what for what in before if after[what] != before[what]]
for what in changed:
    told, code = f"{told[:300]}\\ninternal error: {what} is changed: {after[what]}", 71
os.write(err if code > 1 else out, (told + "\\n").encode(errors="replace"))
atexit._run_exitfuncs()
os._exit(code)
'''

RUN = (
    "lossfuzz run --loss mine:{name} --as softmax-cross-entropy --formats float32 "
    "--modes {mode} --rows 300 --families normal --shapes 16x5 --time-limit 10 --out out"
)

REFUSED = (2,)
SOUND = (0,)
DEFECT = (0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A loss of a user.

    Attributes:
        name: of what it does.
        body: its source; ``mine`` is its name.
        says: what must be said of it, beside its name where it is refused.
        codes: of a run, and of a check.
        doors: ``check``, ``run``, ``workers``: through which it is given.
        mode: of TensorFlow.
        named: as what it is told where it is refused by `lossfuzz.check`.
    """

    name: str
    body: str
    says: str = ""
    codes: tuple[int, ...] = REFUSED
    doors: tuple[str, ...] = ("check", "run")
    mode: str = "eager"
    named: str = "mine"


def _does(name: str, line: str, says: str = "", **more: Any) -> Loss:
    """A loss that does something, and is sound but for that."""
    body = f"def mine(logits, labels):\n    {line}\n    return fused(logits, labels)\n"
    return Loss(name=name, body=body, says=says, **more)


def _returns(name: str, value: str, says: str = "", **more: Any) -> Loss:
    body = f"def mine(logits, labels):\n    return {value}\n"
    return Loss(name=name, body=body, says=says, **more)


def _gradient(name: str, value: str, says: str = "", **more: Any) -> Loss:
    body = (
        "@tf.custom_gradient\ndef _inner(logits, labels):\n"
        f"    def gradient(upstream):\n        return {value}, None\n"
        "    return fused(logits, labels), gradient\n\n\n"
        "def mine(logits, labels):\n    return _inner(logits, labels)\n"
    )
    return Loss(name=name, body=body, says=says, **more)


ALL = ("check", "run", "workers")
CHECK = ("check",)
ALONE = ("run", "workers")
"""Not through a check, which cannot outlive what ends its own process."""

RAISING = (
    _does("raises ValueError", "raise ValueError('my own words')", "my own words"),
    _does("raises KeyError", "raise KeyError('my own key')", "my own key"),
    _does("raises without words", "raise RuntimeError", "RuntimeError"),
    _does("raises BaseException", "raise BaseException('bare')", "BaseException|bare", doors=ALL),
    _does("raises GeneratorExit", "raise GeneratorExit", "GeneratorExit", doors=ALL),
    _does("raises StopIteration", "raise StopIteration", "StopIteration", doors=CHECK),
    _does(
        "raises KeyboardInterrupt", "raise KeyboardInterrupt", "KeyboardInterrupt|", codes=(2, 130)
    ),
    _does("raises MemoryError", "raise MemoryError", "[Mm]emory"),
    _does("raises AssertionError", "assert False, 'my own claim'", "my own claim", doors=CHECK),
    _does("raises NotImplementedError", "raise NotImplementedError", "NotImpl", doors=CHECK),
    _does("raises RecursionError", "def f(): f()\n    f()", "[Rr]ecursion"),
    _does("raises a group", "raise BaseExceptionGroup('g', [SystemExit(0)])", "g", doors=CHECK),
    _does("raises a warning as an error", "warnings.warn('my warning')", codes=SOUND, doors=CHECK),
    _does("raises escapes", r"raise ValueError('\x1b[31mred\x1b]0;owned\x07\x9b5m')", "red"),
    _does("raises markup", "raise ValueError('[bold]x[/] [/red] [link=x]')", r"\[/red\]"),
    _does("raises many lines", r"raise ValueError('a\nb\nc' * 9999)", "a"),
    _does("raises a megabyte", "raise ValueError('x' * 10**6)", "xxx"),
    _does("raises surrogates", r"raise ValueError('\ud800 alone')", "alone"),
    Loss(
        name="raises what cannot be shown",
        body="class Bad(Exception):\n    def __str__(self): raise RuntimeError('no words')\n\n\n"
        "def mine(logits, labels):\n    raise Bad\n",
        says="Bad",
    ),
    Loss(
        name="raises what exits when shown",
        body="class Bad(Exception):\n    def __str__(self): sys.exit(0)\n\n\n"
        "def mine(logits, labels):\n    raise Bad\n",
        says="Bad",
    ),
    _does("exits with 0", "sys.exit(0)", "SystemExit|exit", doors=ALL),
    _does("exits with 1", "sys.exit(1)", "SystemExit|exit"),
    _does("exits with a text", "sys.exit('bye')", "bye", doors=CHECK),
    _does("quits", "builtins.exit()", "SystemExit|exit", doors=CHECK),
    _does("raises in a graph", "raise ValueError('my own words')", "my own words", mode="graph"),
    _does("exits in a graph", "sys.exit(0)", "SystemExit|exit", mode="graph"),
    _does("raises BaseException in a graph", "raise BaseException('bare')", "bare", mode="graph"),
    Loss(
        name="raises on the tenth call",
        body="calls = []\n\n\ndef mine(logits, labels):\n    calls.append(1)\n"
        "    if len(calls) > 10: raise ValueError('tenth')\n    return fused(logits, labels)\n",
        says="tenth",
        codes=(0, 1, 2),
    ),
    Loss(
        name="exits with 0 on the tenth call",
        body="calls = []\n\n\ndef mine(logits, labels):\n    calls.append(1)\n"
        "    if len(calls) > 10: sys.exit(0)\n    return fused(logits, labels)\n",
        says="exit|SystemExit|refusal",
        codes=(0, 1, 2),  # a refusal of some rows, which the report tells
        doors=ALL,
    ),
    Loss(
        name="raises in its gradient",
        body="@tf.custom_gradient\ndef _inner(x, y):\n    def gradient(up):\n"
        "        raise ValueError('my gradient')\n    return fused(x, y), gradient\n\n\n"
        "def mine(logits, labels):\n    return _inner(logits, labels)\n",
        says="my gradient",
    ),
    Loss(
        name="exits in its gradient",
        body="@tf.custom_gradient\ndef _inner(x, y):\n    def gradient(up):\n"
        "        sys.exit(0)\n    return fused(x, y), gradient\n\n\n"
        "def mine(logits, labels):\n    return _inner(logits, labels)\n",
        says="exit|SystemExit",
    ),
)

_HUNG = "took more than 10 s|silent for 10 s|hung|timeout"
_HANGS = (0, 1, 2)
"""A campaign makes a finding of it, and nobody has asked that a run fail for a finding."""

ENDING = (
    _does("ends its process with 0", "os._exit(0)", "crash|ended|exit", codes=(1, 2), doors=ALONE),
    _does("ends its process with 3", "os._exit(3)", "crash|ended|exit", codes=(1, 2), doors=ALONE),
    _does("aborts", "os.abort()", "crash|ended|SIGABRT", codes=(1, 2), doors=("workers",)),
    _does(
        "segfaults", "ctypes.string_at(0)", "crash|ended|SIGSEGV", codes=(1, 2), doors=("workers",)
    ),
    _does(
        "kills itself",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "crash|ended|SIGKILL",
        codes=(1, 2),
        doors=("workers",),
    ),
    _does(
        "terminates itself",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "crash|ended|SIGTERM|interrupted",
        codes=(1, 2, 143),
        doors=ALONE,
    ),
    Loss(
        name="ends its process on the 30th call",
        body="calls = []\n\n\ndef mine(logits, labels):\n    calls.append(1)\n"
        "    if len(calls) > 30: os._exit(0)\n    return fused(logits, labels)\n",
        says="crash|ended",
        codes=(0, 1, 2),
        doors=ALONE,
    ),
    Loss(
        name="ends its process on rare rows",
        body="def mine(logits, labels):\n    if logits.shape[0] and float(logits[0, 0]) > 2.5: "
        "os._exit(0)\n    return fused(logits, labels)\n",
        says="crash|ended|no defect",
        codes=(0, 1, 2),
        doors=("workers",),
    ),
    _does("hangs", "while True: pass", _HUNG, codes=_HANGS, doors=ALL),
    _does("sleeps", "time.sleep(10**6)", _HUNG, codes=_HANGS, doors=ALL),
    _does(
        "waits for a lock",
        "lock = threading.Lock(); lock.acquire(); lock.acquire()",
        _HUNG,
        codes=_HANGS,
        doors=ALL,
    ),
    _does(
        "hangs and catches everything",
        "while True:\n        try:\n            time.sleep(1)\n        except BaseException: pass",
        _HUNG,
        codes=(*_HANGS, 124),
        doors=ALL,
    ),
    _does(
        "stops itself",
        "os.kill(os.getpid(), signal.SIGSTOP)",
        f"{_HUNG}|stopped",
        codes=_HANGS,
        doors=("run", "workers"),
    ),
    _does(
        "reads standard input", "sys.stdin.read(); input()", "EOF|input", codes=(0, 2), doors=ALL
    ),
    _does("asks for 1 TiB", "bytearray(2**40)", "[Mm]emory", doors=ALL, codes=(1, 2)),
    _does(
        "leaves a thread behind",
        "threading.Thread(target=time.sleep, args=(10**6,)).start()",
        codes=SOUND,
        doors=("run",),
    ),
    _does("forks", "os.fork()", codes=(0, 1, 2), says="."),
    _does(
        "forks a child that ends",
        "child = os.fork()\n    if not child: os._exit(0)\n    os.waitpid(child, 0)",
        codes=(0, 1, 2),
        says=".",
        doors=ALL,
    ),
    _does(
        "starts a process that stays",
        "subprocess.Popen(['sleep', '1000'])",
        codes=(0, 1, 2),
        says=".",
        doors=("workers",),
    ),
)

PRINTING = (
    _does("prints", "print('my line')", codes=SOUND, says="no defect|sound", doors=ALL),
    _does(
        "prints megabytes", "print('x' * 10**6)", codes=SOUND, says="no defect|sound", doors=ALL
    ),
    _does("closes standard output", "sys.stdout.close()", codes=SOUND, says="no defect|sound"),
    _does("closes standard error", "sys.stderr.close()", codes=SOUND, says="no defect|sound"),
    _does("closes standard input", "sys.stdin.close()", codes=SOUND, says="no defect|sound"),
    _does("closes descriptor 1", "os.closerange(1, 2)", codes=SOUND, says="no defect|sound"),
    _does("closes descriptor 2", "os.closerange(2, 3)", codes=SOUND, says="no defect|sound"),
    _does(  # the check's driver could not tell what came of it
        "closes all descriptors",
        "os.closerange(0, 200)",
        codes=(0, 2),
        says=".",
        doors=("run", "workers"),
    ),
    _does("has no standard output", "sys.stdout = None", codes=SOUND, says="no defect|sound"),
    _does("has no standard error", "sys.stderr = None", codes=SOUND, says="no defect|sound"),
    _does("redirects", "sys.stdout = io.StringIO()", codes=SOUND, says="no defect|sound"),
    _does(
        "redirects descriptors",
        "n = os.open(os.devnull, 2); os.dup2(n, 1); os.dup2(n, 2)",
        codes=SOUND,
        says="no defect|sound",
    ),
)

_KEPT = {"codes": SOUND, "says": "no defect|sound"}
PATCHING = (
    _does("sets NumPy to raise", "np.seterr(all='raise')", **_KEPT, doors=ALL),
    _does(
        "has NumPy call back", "np.seterrcall(lambda *a: 1 / 0); np.seterr(all='call')", **_KEPT
    ),
    _does("takes NumPy's exp", "np.exp = None", codes=(0, 2), says=".", doors=ALL),
    _does("takes NumPy's asarray", "np.asarray = lambda *a, **k: 1 / 0", codes=(0, 2), says="."),
    _does("takes NumPy's isfinite", "np.isfinite = np.isnan", codes=(0, 2), says="."),
    _does("takes math's isfinite", "math.isfinite = lambda x: False", codes=(0, 2), says="."),
    _does("takes json's dumps", "json.dumps = lambda *a, **k: ''", codes=(0, 2), says="."),
    _does("takes print", "builtins.print = None", codes=(0, 2), says="."),
    _does("takes len", "builtins.len = None", codes=(0, 2), says=".", doors=CHECK),
    _does("goes to another folder", "os.chdir('/')", **_KEPT, doors=ALL),
    _does(
        "removes its folder",
        "os.makedirs('gone', exist_ok=True); os.chdir('gone'); os.rmdir('../gone')",
        **_KEPT,
    ),
    _does("clears the environment", "os.environ.clear()", **_KEPT, doors=ALL),
    _does("clears the search path", "sys.path.clear()", **_KEPT, doors=ALL),
    _does("clears the modules", "sys.modules.clear()", codes=(0, 2), says=".", doors=CHECK),
    _does("sets Keras's floatx", "tf.keras.config.set_floatx('float64')", **_KEPT),
    _does("sets Keras's policy", "tf.keras.config.set_dtype_policy('mixed_float16')", **_KEPT),
    _does("sets mpmath's precision", "import mpmath; mpmath.mp.prec = 5", **_KEPT, doors=ALL),
    _does("sets gmpy2's precision", "import gmpy2; gmpy2.get_context().precision = 5", **_KEPT),
    _does("sets flint's precision", "import flint; flint.ctx.prec = 5", **_KEPT),
    _does("sets decimal's precision", "decimal.getcontext().prec = 2", **_KEPT),
    _does("traps in decimal", "decimal.getcontext().traps[decimal.Inexact] = True", **_KEPT),
    _does("makes warnings errors", "warnings.simplefilter('error')", **_KEPT, doors=ALL),
    _does("lowers the recursion limit", "sys.setrecursionlimit(60)", codes=(0, 2), says="."),
    _does("ignores SIGINT", "signal.signal(signal.SIGINT, signal.SIG_IGN)", **_KEPT),
    _does("sets an alarm", "signal.alarm(1)", codes=(0, 2), says=".", doors=CHECK),
    _does("seeds", "np.random.seed(0); random.seed(0); tf.random.set_seed(0)", **_KEPT),
    _does("runs functions eagerly", "tf.config.run_functions_eagerly(True)", **_KEPT),
    _does("disables eager mode", "tf.compat.v1.disable_eager_execution()", codes=(0, 2), says="."),
    _does("clears Keras's session", "tf.keras.backend.clear_session()", **_KEPT),
    _does("traces", "sys.settrace(lambda *a: 1 / 0)", codes=(0, 2), says=".", doors=CHECK),
    _does("sets the locale", "import locale; locale.setlocale(locale.LC_ALL, 'C')", **_KEPT),
    _does("sets flush to zero", "tf.config.experimental.enable_op_determinism()", **_KEPT),
    _does(
        "rounds downwards",
        "ctypes.CDLL('libm.so.6').fesetround(0x400)",
        codes=SOUND,
        says="no defect|sound",
        doors=ALL,
    ),
)

RETURNING = (
    _returns("returns nothing", "None", "None"),
    _returns("returns a number", "1.0", "number|float|shape"),
    _returns("returns text", "'loss'", "str|text"),
    _returns("returns an array", "np.zeros(16)", "gradient|array|dtype"),
    _returns("returns a list", "[fused(logits, labels)]", "list|shape", codes=(0, 2)),
    _returns("returns a tuple", "(fused(logits, labels), 1)", "tuple"),
    _returns("returns a dict", "{'loss': fused(logits, labels)}", "dict"),
    _returns("returns a generator", "(x for x in logits)", "generator"),
    _returns("returns its logits", "logits", "shape|5"),
    _returns("returns a scalar", "tf.reduce_max(logits)", "one number|scalar|reduction|shape"),
    _returns("returns a matrix", "tf.zeros([3, 3])", "shape|gradient"),
    _returns("returns too few", "fused(logits, labels)[1:]", "shape|16|15"),
    _returns("returns none of them", "fused(logits, labels)[:0]", "shape|16|0"),
    _returns("returns integers", "tf.cast(fused(logits, labels), tf.int32)", "int32|gradient"),
    _returns("returns complex", "tf.cast(fused(logits, labels), tf.complex64)", "complex"),
    _returns("returns booleans", "fused(logits, labels) > 0", "bool"),
    _returns("returns strings", "tf.strings.as_string(fused(logits, labels))", "string"),
    _returns(
        "returns float64", "tf.cast(fused(logits, labels), tf.float64)", ".", codes=(0, 1, 2)
    ),
    _returns("returns a ragged tensor", "tf.ragged.constant([[1.0], []])", "[Rr]agged"),
    _returns("returns a sparse tensor", "tf.sparse.from_dense(logits)", "[Ss]parse"),
    _returns("returns a variable", "tf.Variable(fused(logits, labels))", "gradient|[Vv]ariable"),
    _returns("returns a data set", "tf.data.Dataset.range(3)", "[Dd]ataset|type"),
    _returns("returns its function", "fused", "function"),
    _returns("returns NaN", "fused(logits, labels) * float('nan')", "finite|NaN", codes=(0, 1)),
    _returns("stops its gradient", "tf.stop_gradient(fused(logits, labels))", "gradient"),
    _returns("returns a constant", "tf.zeros([logits.shape[0]])", "gradient|constant"),
    _returns("has a random loss", "fused(logits, labels) * tf.random.uniform([])", "same|random"),
    _returns("returns a coroutine", "asyncio.sleep(1)", "coroutine"),
    _gradient("a gradient of the wrong shape", "upstream", "gradient"),
    _gradient("a gradient of the wrong shape in a graph", "upstream", "gradient", mode="graph"),
    _gradient("a gradient of a scalar", "tf.reduce_sum(upstream)", "gradient"),
    _gradient("a gradient of None", "None", "gradient"),
    _gradient("a gradient of text", "'x'", "gradient|str"),
    _gradient(
        "a gradient of another dtype",
        "tf.cast(tf.zeros_like(logits), tf.float64)",
        "gradient",
        codes=(0, 1, 2),
    ),
    _gradient("too many gradients", "logits, logits", "gradient", codes=(2,)),
    _gradient(
        "a gradient of slices",
        "tf.IndexedSlices(tf.zeros([1, 5]), [0], [16, 5])",
        "gradient|no defect",
        codes=(0, 1, 2),
    ),
    _gradient("a gradient of NaN", "logits * float('nan')", "finite|NaN", codes=(0, 1)),
)


def _has(name: str, body: str, says: str = "", **more: Any) -> Loss:
    return Loss(name=name, body=body + "\n", says=says, **more)


SIGNATURES = (
    _has("takes nothing", "def mine(): return 1", "argument|positional|called with"),
    _has("takes one", "def mine(x): return x", "argument|positional|called with"),
    _has("takes four", "def mine(a, b, c, d): return a", "argument|positional|called with"),
    _has("takes keywords alone", "def mine(*, x, y): return x", "argument|positional|called with"),
    _has(
        "takes anything", "def mine(*a, **k): return fused(*a)", codes=SOUND, says="no defect|so"
    ),
    _has("is asynchronous", "async def mine(x, y): return fused(x, y)", "coroutine|async"),
    _has("is a generator", "def mine(x, y): yield fused(x, y)", "generator"),
    _has("is a class", "class mine:\n    def __call__(self, x, y): return fused(x, y)", "class"),
    _has("is no function", "mine = 5", "int|call", named="5"),
    _has("is nothing", "mine = None", "None|call", named="None"),
    _has("is a module", "import math as mine", "module|call", named="math"),
    _has("is a built-in", "mine = max", ".", named="builtins:max"),
    _has("is NumPy's", "mine = np.add", ".", named="numpy:add"),
    _has(
        "is a method of a class",
        "class K:\n    def loss(self, x, y): return fused(x, y)\n\n\nmine = K.loss",
        "argument|positional|called with|method",
    ),
    _has(
        "is a method of an object",
        "class K:\n    def loss(self, x, y): return fused(x, y)\n\n\nmine = K().loss",
        codes=SOUND,
        says="no defect|sound",
    ),
    _has("is partial", "mine = functools.partial(fused)", codes=SOUND, says="no defect|sound"),
    _has(
        "is partial and full",
        "mine = functools.partial(fused, 1, 2)",
        "argument|positional",
        named="partial",
    ),
    _has(
        "has a signature that lies",
        "def mine(x, y): return fused(x, y)\n\n\nmine.__signature__ = 5",
        ".",
        codes=(0, 2),
    ),
    _has(
        "has a signature that raises",
        "class K:\n    def __call__(self, x, y): return fused(x, y)\n    @property\n"
        "    def __signature__(self): raise SystemExit(0)\n\n\nmine = K()",
        ".",
        codes=(0, 2),
    ),
    _has(
        "answers to every name",
        "class K:\n    def __getattr__(self, name): return K()\n"
        "    def __call__(self, *a): return fused(*a)\n\n\nmine = K()",
        ".",
        codes=(0, 2),
    ),
    _has(
        "has a name of nonsense",
        "def mine(x, y): return fused(x, y)\n\n\nmine.__qualname__ = '<b>\\x1b[31m'\n"
        "mine.__module__ = 5 and None",
        ".",
        codes=(0, 2),
    ),
    _has("exchanges its arguments", "def mine(a, b): return fused(b, a)", ".", codes=(0, 1, 2)),
    _has("is a layer", "mine = tf.keras.layers.Dense(1)", ".", named="Dense"),
    _has("is Keras's name", "mine = 'mse'", "str|call", named="mse"),
)

GROUPS = {
    "own losses that raise": RAISING,
    "own losses that end": ENDING,
    "own losses and streams": PRINTING,
    "own losses that patch": PATCHING,
    "own losses that return": RETURNING,
    "own losses by signature": SIGNATURES,
}


def _cases(losses: Iterable[Loss]) -> Table:
    return [_case(loss, door) for loss in losses for door in loss.doors]


def _case(loss: Loss, door: str) -> Case:
    files = {"mine.py": HEAD + loss.body}
    slow = "hang" in loss.says or "silent" in loss.says
    says = loss.says or "."
    if loss.codes == REFUSED:  # whoever is refused, is named
        named = loss.named if door == "check" else "mine"
        says = rf"(?s)(?=.*{named})(?=.*({says}))"
    if door == "check":
        files["tried.py"] = DRIVER.replace("MODE", repr(loss.mode))
        command, folder = "python tried.py mine", {"PYTHONPATH": "$PLACE/work"}
    else:
        command = RUN.format(name="mine", mode=loss.mode)
        # In the current folder, where the handbook puts it; a process finds it there by itself.
        command += " --workers 1" if door == "workers" else ""
        folder = {}
    return Case(
        name=f"{door}: {loss.name}",
        command=command,
        says=says,
        codes=loss.codes,
        seconds=150 if door == "workers" or slow else 60,
        files=files,
        environment=folder,
        one_line=False,
        changes=True,
        own_traceback=False,
    )


LOSSES: dict[str, Table] = {name: _cases(losses) for name, losses in GROUPS.items()}


def _import(name: str, content: str, says: str = ".", **more: Any) -> Case:
    return Case(
        name=name,
        command=RUN.format(name="mine", mode="eager").replace("mine:mine", "mine:f"),
        says=f"{ERROR}.*mine.*({says})",
        files={"mine.py": content},
        **more,
    )


def _named(name: str, given: str, says: str = ".", **files: str) -> Case:
    command = RUN.format(name="mine", mode="eager").replace("mine:mine", given)
    return Case(
        name=name,
        command=command,
        says=f"{ERROR}.*{says}",
        files={"mine.py": HEAD + "f = fused\n", **{f"{k}.py": v for k, v in files.items()}},
    )


IMPORTS: Table = [
    _import("exits with 0 at import", "import sys; sys.exit(0)", "SystemExit|exit"),
    _import("exits with a text at import", "import sys; sys.exit('bye')", "bye"),
    _import("raises at import", "raise ValueError('my words')", "my words"),
    _import("raises BaseException at import", "raise BaseException('bare')", "bare"),
    _import("raises GeneratorExit at import", "raise GeneratorExit", "GeneratorExit"),
    _import("interrupts at import", "raise KeyboardInterrupt", ".", codes=(2, 130)),
    _import("raises escapes at import", r"raise ValueError('\x1b[31mred')", "red"),
    _import("raises many lines at import", r"raise ValueError('a\nb\nc')", "a"),
    _import(
        "raises a broken text at import",
        "class E(Exception):\n  def __str__(self): 1/0\nraise E",
        "E",
    ),
    _import("does not parse", "def f(:", "SyntaxError|syntax"),
    _import("is no UTF-8", "\x00\x01", "null|SyntaxError|source"),
    _import("is empty", "", "f"),
    _import("needs what is not there", "import nowhere_at_all", "nowhere_at_all"),
    _import("imports itself", "import mine\nf = mine.g", "g"),
    _import("hangs at import", "while True: pass", "took more than 10 s", seconds=90),
    _import("reads standard input at import", "input()", "EOF"),
    _import("closes standard output at import", "import sys; sys.stdout.close()", "f"),
    _import("closes standard error at import", "import sys; sys.stderr.close()", "f"),
    _import("clears the search path at import", "import sys; sys.path.clear()", "f"),
    _named("no module", "nothing:f", "nothing"),
    _named("no function", "mine:g", "g"),
    _named("no colon", "mine", "mine"),
    _named("no name", "mine:", "mine"),
    _named("no module's name", ":f", ":f"),
    _named("two colons", "mine:f:g", "mine:f:g"),
    _named("a file", "mine.py:f", "mine.py"),
    _named("a file by its path", "./mine.py:f", "mine.py"),
    _named("an absolute path", "/tmp/mine:f", "mine"),  # noqa: S108 - a name, no file
    _named("a relative module", ".mine:f", "mine"),
    _named("dots alone", "..:f", "[.][.]"),
    _named("a number of the library", "math:pi", "pi"),
    _named("a module's dictionary", "mine:__dict__", "__dict__"),
    _named("an attribute of a function", "mine:f.g", "g"),
    _named("spaces", "' mine : f '", "mine"),
    _named("a module named as lossfuzz", "lossfuzz:f", "f"),
    _named("a function that exits when called", "sys:exit", "exit"),
    _named("the system's", "os:system", "system"),
    _named("a class of the library", "collections:OrderedDict", "class"),
    Case(  # it is measured once
        name="the same twice",
        command=RUN.format(name="mine", mode="eager").replace("mine:mine", "mine:f --loss mine:f"),
        says="no defect",
        codes=SOUND,
        files={"mine.py": HEAD + "f = fused\n"},
    ),
]


def _formula(name: str, body: str, says: str = ".", **more: Any) -> list[Case]:
    head = "import sys, time, math\nimport lossfuzz\n" + HEAD + "mine = fused\n"
    head += "calls = []\n\n\n@lossfuzz.formula(source='me')\n"
    source = f"{head}def exact(x, logits, label):\n{body}\n"
    files = {"mine.py": source, "tried.py": DRIVER.replace("MODE", "'eager'")}
    shared = {"codes": (2,), "one_line": False, "changes": True, "seconds": 60, **more}
    if 0 not in shared["codes"]:  # whatever is refused, is named
        says = rf"(?s)(?=.*exact)(?=.*({says}))"
    return [
        Case(
            name=f"check: a formula {name}",
            command="python tried.py mine mine:exact",
            says=says,
            files=files,
            environment={"PYTHONPATH": "$PLACE/work"},
            **shared,
        ),
        Case(
            name=f"run: a formula {name}",
            command=RUN.format(name="mine", mode="eager").replace(
                "softmax-cross-entropy", "mine:exact"
            ),
            says=says,
            files=files,
            **shared,
        ),
    ]


_LATER = (  # once it is measured: in its decorator it would have the usual five minutes
    "    calls.append(1)\n    if len(calls) < 60: return -x.log_softmax(logits)[label]\n"
)

FORMULAS: Table = [
    case
    for cases in (
        _formula("that raises", "    raise ValueError('my words')", "my words"),
        _formula("that raises BaseException", "    raise BaseException('bare')", "bare"),
        _formula("that exits with 0", "    sys.exit(0)", "exit|SystemExit"),
        _formula("that hangs", _LATER + "    while True: pass", "took", seconds=120),
        _formula("that sleeps", _LATER + "    time.sleep(10**6)", "took", seconds=120),
        _formula("that recurses", "    return exact(x, logits, label)", "[Rr]ecursion|exact"),
        _formula("that returns nothing", "    return None", "None"),
        _formula("that returns text", "    return 'loss'", "str|text|'loss'"),
        _formula("that returns its logits", "    return logits", "list|logits|one"),
        _formula("that returns a constant", "    return 1.0", ".", codes=(1, 2)),
        _formula("that returns a tensor", "    return tf.constant(1.0)", "[Tt]ensor"),
        _formula("that returns NaN", "    return float('nan')", "."),
        _formula("that asks TensorFlow", "    return tf.exp(logits[0])", "."),
        _formula("that asks NumPy", "    return np.exp(logits[0])", "."),
        _formula("that asks math", "    return math.exp(logits[0])", "."),
        _formula("that branches", "    return logits[0] if logits[0] > 0 else logits[1]", "."),
        _formula("that divides by 0", "    return logits[label] / 0", "."),
        _formula("that indexes too far", "    return logits[10**6]", "index|range|10"),
        _formula("that asks for what is not there", "    return x.nothing(logits)", "nothing"),
        _formula("that takes a root of less than 0", "    return x.sqrt(-logits[0] - 10**9)", "."),
        _formula("that adds text", "    return logits[0] + 'x'", "."),
        _formula(
            "that changes mpmath",
            "    import mpmath; mpmath.mp.prec = 5\n    return -x.log_softmax(logits)[label]",
            ".",
            codes=(0, 2),
        ),
        _formula(
            "that is random",
            "    import random\n    return logits[label] * random.random()",
            ".",
            codes=(1, 2),
        ),
        _formula(
            "that grows with every call",
            "    time.sleep(0.5)\n    return -x.log_softmax(logits)[label]",
            ".",
            codes=(0, 1, 2),
            seconds=120,
        ),
    )
    for case in cases
]
FORMULAS += [
    Case(
        name=f"run: mathematics that is {what}",
        command=RUN.format(name="mine", mode="eager").replace("softmax-cross-entropy", given),
        says=f"{ERROR}.*{says}",
        files={
            "mine.py": HEAD + "mine = fused\nnumber = 5\nclass K: pass\n"
            "def none(): pass\ndef one(x): pass\ndef many(a, b, c, d, e): pass\n"
        },
        one_line=False,
    )
    for what, given, says in (
        ("no function", "mine:number", "number"),
        ("a class", "mine:K", "K"),
        ("without arguments", "mine:none", "none"),
        ("of one argument", "mine:one", "one"),
        ("of five arguments", "mine:many", "many"),
        ("not there", "mine:nothing", "nothing"),
        ("a loss on tensors", "mine:mine", "mine"),
    )
]
