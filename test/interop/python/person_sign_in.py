"""A person signs in with the unmodified SDK, the way it does by default: the address is printed, the code is typed in.

Whoever reads the output is the browser. Prints one JSON document at the end.
"""

import json
import sys

import globus_sdk
from globus_compute_sdk import Client

client = Client(local_compute_services=True)


def greet(name):
    """Greets."""
    return "hello " + name


function_id = client.register_function(greet)
# The login above was for all of this; nothing more is asked.
authorizer = client.app.get_authorizer("auth.globus.org")
userinfo = globus_sdk.AuthClient(authorizer=authorizer).userinfo()
# The SDK renews a token that is about to end: the refresh token is used here.
storage = client.app._token_storage
tokens = storage.get_token_data_by_resource_server()
for data in tokens.values():
    data.expires_at_seconds = 0
storage.store_token_data_by_resource_server(tokens)
again = Client(local_compute_services=True)
description = again.get_function(function_id)
client.logout()
print(
    json.dumps(
        {
            "sub": userinfo["sub"],
            "email": userinfo["email"],
            "function": description["function_name"],
        }
    )
)
sys.stdout.flush()
