# Sourced by run: the blocks of docs/ that are marked `console systemd`, typed
# into the machine in their order. As in tests/api/guide.rs, a line that does
# not begin with $ is one that the command must print, … standing for
# anything, and "# exits N" says how a command ends.

# What cannot be done here, and why.
cannot() { # a command
  case "$1" in
    "sudo agentd cert renew "* | "sudo agentd cert revoke "*)
      echo "there is no authority here; tests/acme does it against pebble" ;;
    "sudo agentd admin reset-password "*)
      echo "it asks on a terminal; tests/api/users.rs has it" ;;
    "sudo agentd restore s3:"* | "sudo agentd standby "*)
      echo "there is no bucket here; tests/s3 does it" ;;
    *) return 1 ;;
  esac
}
# There is no Internet here, which these find out.
may_find_faults() { [[ $1 == "sudo agentd doctor" || $1 == "sudo agentd status" ]]; }

guide() { # a file of docs/
  local line command='' expected=() in=''
  while IFS= read -r line; do
    case "$in:$line" in
      ':```console systemd') in=1 ;;
      '1:```') guide_do "$command" "${expected[@]}"; command='' expected=() in='' ;;
      '1:$ '*) guide_do "$command" "${expected[@]}"; command=${line#'$ '} expected=() ;;
      1:*) expected+=("$line") ;;
    esac
  done <"docs/$1.md"
}
guide_do() { # a command, lines that it must print
  local command=${1//0.1.0-1/$this} wanted=0 code=0 line pattern why
  [ -n "$command" ] || return 0
  if [[ $command == "sudo agentd setup --domain "* ]]; then
    # It would ask on a terminal; the same answers as flags.
    setup
    return
  fi
  if why=$(cannot "$command"); then
    echo "figure: not run: $command ($why)"
    return 0
  fi
  if [[ $command == *'# exits '* ]]; then wanted=${command##*'# exits '}; fi
  echo "\$ $command"
  vm env TESTBED_MIGRATION_FILE="${migration:-}" PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    bash -c "cd /root; set -o pipefail; $command" </dev/null >"$work/printed" 2>&1 || code=$?
  cat "$work/printed"
  if may_find_faults "$command" && [ "$code" = 1 ]; then code=0; fi
  [ "$code" = "$wanted" ] || { echo "ended with $code, not $wanted: $command"; return 1; }
  for pattern in "${@:2}"; do
    guide_printed "${pattern//…/*}" || { echo "$command does not print: $pattern"; return 1; }
  done
}
guide_printed() { # a pattern
  local line
  while IFS= read -r line || [ -n "$line" ]; do
    # shellcheck disable=SC2053  # a pattern is meant
    if [[ $line == ${1//0.1.0-1/$this} ]]; then return 0; fi
  done <"$work/printed"
  [ "$1" = '*' ]
}

check_guide_install() {
  bare
  migration_is 'CREATE TABLE more (x INTEGER) STRICT;'
  guide install
}
check_guide() {
  bare
  guide first-hour
  setup || true
  cat >"$m/etc/agentd/dns-hook" <<'SH'
#!/bin/sh
exit 0
SH
  chmod 755 "$m/etc/agentd/dns-hook"
  guide hardening
  guide troubleshooting
  guide certificates
}
check_guide_backups() {
  bare
  install "$this" >/dev/null
  setup
  guide backups
}
