"""``make compose-test``: the compose file's stack in a container engine, run as an operator would."""
