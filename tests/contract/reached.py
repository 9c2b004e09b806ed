"""Whether a run has reached every operation: an operation that never succeeded
has not been looked at, whatever the checks say.

    reached.py openapi.json service.log
"""

import json
import re
import sys

document = json.load(open(sys.argv[1]))
operations = {
    (method.upper(), path): re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path)) + "$")
    for path, item in document["paths"].items()
    for method in item
}
reached = set()
for line in open(sys.argv[2]):
    try:
        entry = json.loads(line)
    except ValueError:
        continue
    if entry.get("message") == "request" and 200 <= entry["status"] < 300:
        for (method, path), pattern in operations.items():
            if method == entry["method"] and pattern.match(entry["path"]):
                reached.add((method, path))
# The log has health and metrics at debug level only.
quiet = {"/health", "/api/v1/health", "/ready", "/metrics"}
# These need an ACME server; tests/acme has one.
elsewhere = {"/admin/certificates/{name}/renew", "/admin/certificates/{name}/revoke"}
missed = sorted(key for key in operations if key not in reached and key[1] not in quiet | elsewhere)
for method, path in missed:
    print(f"never succeeded: {method} {path}", file=sys.stderr)
print(f"{len(operations) - len(missed)} of {len(operations)} operations reached")
sys.exit(1 if missed else 0)
