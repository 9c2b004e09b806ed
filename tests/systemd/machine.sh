# Sourced: a small Debian, booted in a container, to do with as one likes. It is
# fetched once and kept; what the machine writes goes to memory and is gone with it.
#
#   machine_needs_root ARGUMENTS…  run by root, by sudo where it is somebody else
#   machine_tree SUITE             fetch the tree, if it is not there
#   machine_make [OPTION…]         a fresh machine in $m, off; options of systemd-nspawn
#   machine_boot                   switch it on; what it said is in $work/boot.log
#   machine_off                    switch it off and throw it away
#   vm COMMAND…                    a command inside
#   eventually SECONDS COMMAND…    a command that succeeds in the end
#   checks_run CHECKS…             each function check_NAME; 1 when one fails
#
# Needs debootstrap, systemd-container, and once the network. What a check says
# is shown when it fails, with the machine's journal.

machine_packages=systemd,systemd-sysv,dbus,ca-certificates,curl,procps,iproute2
machine_mirror=http://deb.debian.org/debian

machine_needs_root() {
  if [ "$(id -u)" != 0 ]; then
    exec sudo --preserve-env="$machine_environment,XDG_CACHE_HOME,HOME" \
      env "PATH=$PATH" "CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}" "RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}" "$0" "$@"
  fi
  local tool
  for tool in debootstrap systemd-nspawn nsenter; do
    command -v "$tool" >/dev/null || {
      echo "$tool is missing: apt-get install debootstrap systemd-container util-linux" >&2
      exit 1
    }
  done
  work=$(mktemp -d)
  machine=
  trap 'machine_off; rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM
}

machine_tree() {
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/agentd-tests partial
  # What is in it is in its name.
  tree=$cache/$1-$(sha256sum <<<"$1 $machine_packages" | cut -c1-12)
  [ ! -d "$tree" ] || return 0
  mkdir -p "$cache"
  partial=$(mktemp -d "$tree.XXXXXX")
  debootstrap --variant=minbase --include="$machine_packages" "$1" "$partial" "$machine_mirror" \
    >"$partial.log" 2>&1 || {
    tail -20 "$partial.log" >&2
    echo "debootstrap failed; the log is $partial.log" >&2
    rm -rf "$partial"
    exit 1
  }
  chmod 755 "$partial"
  rm -rf "$partial/var/cache/apt/archives"/*.deb "$partial.log"
  # Whoever was faster has made the same.
  mv -T "$partial" "$tree" 2>/dev/null || rm -rf "$partial"
}

machine_make() {
  machine_options=("$@")
  mkdir "$work/tmpfs"
  mount -t tmpfs -o size=1g,mode=755 tmpfs "$work/tmpfs"
  m=$work/tmpfs/machine
  mkdir "$m" "$work/tmpfs/upper" "$work/tmpfs/work"
  mount -t overlay overlay -o "lowerdir=$tree,upperdir=$work/tmpfs/upper,workdir=$work/tmpfs/work" "$m"
  tr -d - </proc/sys/kernel/random/uuid >"$m/etc/machine-id"
}

machine_boot() {
  systemd-nspawn --directory="$m" --boot --register=no --keep-unit --private-network --console=pipe \
    "${machine_options[@]}" >"$work/boot.log" 2>&1 </dev/null &
  machine=$!
  eventually 60 machine_is_booted || { cat "$work/boot.log" >&2; echo "the machine does not boot" >&2; exit 1; }
}
machine_is_booted() {
  init=$(ps --ppid "$machine" -o pid= 2>/dev/null | tr -d ' ' | head -1)
  [ -n "$init" ] && [[ $(vm systemctl is-system-running 2>/dev/null) =~ ^(running|degraded)$ ]]
}

machine_off() {
  if [ -n "$machine" ]; then
    # Its systemd powers off on this signal.
    kill -s RTMIN+4 "${init:-$machine}" 2>/dev/null || true
    for _ in $(seq 50); do kill -0 "$machine" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$machine" 2>/dev/null || true
    wait "$machine" 2>/dev/null || true
    machine=
  fi
  umount --recursive --lazy "$work/tmpfs" 2>/dev/null || true
  rmdir "$work/tmpfs" 2>/dev/null || true
}

vm() {
  nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup -- \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root "$@"
}
eventually() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "in vain: $*"
      return 1
    fi
    sleep 0.1
  done
}

fails() { # exit code, a command that must end with it
  local code=0
  "${@:2}" || code=$?
  [ "$code" = "$1" ] || { echo "ended with $code, not $1: ${*:2}"; return 1; }
}
same() { [ "$1" = "$2" ] || { echo "$1, not $2"; return 1; }; }
property() { vm systemctl show --value --property "$1" agentd.service; }
get() { # path, more of curl's arguments
  vm curl --silent --show-error --fail --insecure --max-time 10 "${@:2}" "$base$1"
}
is_ready() { get /ready >/dev/null; }
journal() { vm journalctl --no-pager --output=cat --since="@$since" --unit=agentd.service; }
# Read to its end: who is cut off by a grep that has seen enough fails.
journal_says() { grep --fixed-strings --quiet -- "$1" <<<"$(journal)"; }

checks_run() {
  local check outcome failed=0
  for check in "$@"; do
    since=$(date +%s)
    # Not in a condition, where -e would not count.
    set +e
    (set -e; "check_$check") >"$work/said" 2>&1
    outcome=$?
    set -e
    if [ "$outcome" = 0 ]; then
      echo "ok $check ($(($(date +%s) - since)) s)"
      # What is worth being seen, such as a figure.
      sed -n 's/^figure: /   /p' "$work/said"
    else
      failed=1
      echo "FAILED $check"
      sed 's/^/    /' "$work/said"
      vm journalctl --no-pager --output=short-precise --since="@$since" | tail -40 | sed 's/^/    | /'
      if [ -n "${KEEP:-}" ]; then break; fi
      as_usual >/dev/null 2>&1 || true
    fi
  done
  if [ -n "${KEEP:-}" ]; then
    echo "the machine runs: nsenter --target $init --mount --uts --ipc --net --pid --cgroup bash; Enter ends it"
    read -r _ || true
  fi
  return "$failed"
}
