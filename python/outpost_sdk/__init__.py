"""The Globus Compute SDK for a hub of your own, with what the SDK's own Client has lost since funcX.

    from outpost_sdk import Client, Executor

``Client`` and ``Executor`` are those of ``globus_compute_sdk``; everything that worked with them works with these.
They find the hub by ``OUTPOST_HUB_URL``, and give back ``search_function``, ``register_container``, batches for
several endpoints with ids in the order of adding, ``throttling_enabled``, ``login_manager=``, ``force_login=`` and
``Executor.map``.
"""

from globus_compute_sdk.errors import SerializationError, TaskExecutionFailed, TaskPending

from .batch import Batch
from .client import Client
from .executor import Executor
from .login_manager import LoginManager, LoginManagerProtocol, StaticTokenLoginManager
from .search import FunctionSearchResults
from .sign_in import SignInRequired
from .throttle import MaxRequestSizeExceeded, ThrottlingException
from .version import __version__
from .web_client import WebClient

#: The names of the funcX documents.
FuncXClient = Client
FuncXExecutor = Executor

__all__ = (
    "Batch",
    "Client",
    "Executor",
    "FuncXClient",
    "FuncXExecutor",
    "FunctionSearchResults",
    "LoginManager",
    "LoginManagerProtocol",
    "MaxRequestSizeExceeded",
    "SerializationError",
    "SignInRequired",
    "StaticTokenLoginManager",
    "TaskExecutionFailed",
    "TaskPending",
    "ThrottlingException",
    "WebClient",
    "__version__",
)
