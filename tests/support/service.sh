# Sourced by the scripts that test the running service from outside. Expects the
# root of the repository as the working directory.

# A Python environment with the packages in a file of requirements, kept below
# target/ and made anew when the file changes.
python_with() { # requirements, folder
  if ! cmp -s "$1" "$2/installed"; then
    rm -rf "$2/venv"
    mkdir -p "$2"
    python3 -m venv "$2/venv"
    "$2/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$1"
    cp "$1" "$2/installed"
  fi
}

# The service on a free port and a fresh folder, until the script ends. Sets
# `base` and `service`, and exports ADMIN_KEY. AGENTD names another binary than
# the debug build; further variables are those of the caller.
start_service() { # log
  if [ -z "${AGENTD:-}" ]; then
    cargo build --locked --quiet
    AGENTD=target/x86_64-unknown-linux-gnu/debug/agentd
  fi
  data=$(mktemp -d)
  export ADMIN_KEY=the-admin-key-of-the-tests-0123456789
  # Whatever the last run has written there is none of this one's.
  : >"$1"
  AGENT_ADMIN_KEY=$ADMIN_KEY "$AGENTD" serve --listen 127.0.0.1:0 --data-dir "$data" >"$1" 2>&1 &
  service=$!
  trap 'kill "$service" 2>/dev/null || true; wait "$service" 2>/dev/null || true; rm -rf "$data"' EXIT
  # The line that says "ready" has the address.
  for _ in $(seq 300); do
    base=$(sed -n 's/.*"message":"ready","address":"\([^"]*\)".*/http:\/\/\1/p' "$1")
    [ -z "$base" ] || return 0
    kill -0 "$service" 2>/dev/null || break
    sleep 0.1
  done
  echo "the service did not become ready" >&2
  cat "$1" >&2
  return 1
}
