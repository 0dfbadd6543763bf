"""What every service shares and no more: server, channels, errors, settings, telemetry, database, supervisor, CLI root."""
