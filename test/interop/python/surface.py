"""Prints what the installed SDK offers publicly, for the suite to compare with its table of cases."""

import json

from globus_compute_sdk import Client, Executor, __version__
from globus_sdk import __version__ as globus_sdk_version


def public_names(cls):
    return sorted(name for name in dir(cls) if not name.startswith("_"))


print(
    json.dumps(
        {
            "version": __version__,
            "globusSdkVersion": globus_sdk_version,
            "Client": public_names(Client),
            "Executor": public_names(Executor),
        }
    )
)
