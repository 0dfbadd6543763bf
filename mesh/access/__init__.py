"""Who may call what: the role map, API keys, the key of the services among themselves, and the gate before every call."""
