"""What is in the image, and what it says of itself."""

import json
import os
import sys

described, mount = sys.argv[1:]
with open(described, encoding="utf-8") as file:
    config = json.load(file)["Docker"]["config"]
files = sorted(
    os.path.relpath(os.path.join(folder, name), mount) for folder, _, names in os.walk(mount) for name in names
)
assert files == ["etc/agentd/agentd.toml", "usr/bin/agentd"], files
assert config["User"] == "10001:10001", config["User"]
assert config["Entrypoint"] == ["/usr/bin/agentd"] and config["Cmd"] == ["serve"], config
assert config["Healthcheck"]["Test"] == ["CMD", "/usr/bin/agentd", "status", "--ready"], config["Healthcheck"]
assert list(config["Volumes"]) == ["/var/lib/agentd"] and list(config["ExposedPorts"]) == ["8443/tcp"], config
data = os.stat(os.path.join(mount, "var/lib/agentd"))
assert (data.st_uid, data.st_mode & 0o777) == (10001, 0o700), (data.st_uid, oct(data.st_mode))
