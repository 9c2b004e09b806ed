# Sourced by run: what is looked at. Each check begins on a machine that has
# never seen the package: see bare.

ALL="install settings remove purge chroot upgrade no_refused disabled failed_migration downgrade older_after_removal
     guide_install guide guide_backups"
# How long an upgrade takes is a figure of the package that is shipped.
[ -z "${PACKAGE:-}" ] || ALL="$ALL times"

older=0.0.9-1
newer=0.2.0-1
base=https://127.0.0.1:8443

# Before it boots.
set_up_machine() {
  # Nobody is there to answer.
  echo 'APT::Get::Assume-Yes "true"; Dpkg::Progress-Fancy "false";' >"$m/etc/apt/apt.conf.d/90tests"
  cat >"$m/usr/local/bin/sudo" <<'SH'
#!/bin/sh
# All are root here already.
if [ "$1" = -u ]; then user=$2; shift 2; set -- setpriv "--reuid=$user" "--regid=$user" --init-groups -- "$@"; fi
exec "$@"
SH
  chmod 755 "$m/usr/local/bin/sudo"
  printf '127.0.0.1 localhost agents.example.com\n' >"$m/etc/hosts"
  # Certificates are those that the service makes itself: there is no authority here.
  echo insecure >"$m/root/.curlrc"
}
as_usual() { bare; }

apt() { # what a person types; migration is what the newer version brings
  vm env TESTBED_MIGRATION_FILE="${migration:-}" apt-get -q "$@" </dev/null 2>&1
}
install() { apt install --allow-downgrades "/root/agentd_$1_amd64.deb"; }
bare() {
  vm rm -rf /etc/systemd/system/agentd.service.d
  apt purge agentd >/dev/null || true
  vm rm -rf /var/lib/agentd /etc/agentd
  vm systemctl daemon-reload
}
# A migration that the newer version brings; it reaches the service, too.
migration_is() { # SQL
  migration=/usr/local/lib/more.sql
  echo "$1" >"$m$migration"
  mkdir -p "$m/etc/systemd/system/agentd.service.d"
  printf '[Service]\nEnvironment=TESTBED_MIGRATION_FILE=%s\n' "$migration" \
    >"$m/etc/systemd/system/agentd.service.d/migration.conf"
  vm systemctl daemon-reload
}
setup() {
  # Nobody gives out certificates here, so it ends with 75; all else is done.
  fails 75 vm agentd setup --domain agents.example.com --email ops@example.com --accept-terms --generate-password \
    --directory https://localhost:9/dir --wait 1s
}
make_job() { vm agentd job submit --tool echo --input '{"hello":"world"}' --wait >/dev/null; }
# The service's own jobs, such as those of the certificate, come and go beside it.
jobs() { vm agentd job list --tool echo --json | grep -o '"status":"succeeded"' | wc -l; }
is_installed() { # version
  same "$(vm dpkg-query --show --showformat='${Version} ${Status}' agentd)" "$1 install ok installed"
  same "$(vm dpkg --audit)" ""
}
# Its own exit code says that there is something to do.
in_setup() { { vm agentd status || true; } | grep 'setup  *not done'; }
runs() { same "$(vm systemctl is-active agentd.service)" active; }
said() { grep --fixed-strings --quiet -- "$1" "$work/out" || { cat "$work/out"; echo "that does not say: $1"; return 1; }; }
# Seconds with a fraction since a moment of date +%s.%N.
since() { awk -v from="$1" -v to="$(date +%s.%N)" 'BEGIN { printf "%.2f", to - from }'; }

check_install() {
  bare
  local begun
  begun=$(date +%s.%N)
  install "$this" >"$work/out"
  # apt has come back, so it answers: nothing to wait for.
  get /health >/dev/null
  echo "figure: apt install until HTTPS answers: $(since "$begun") s"
  said 'agentd answers on https://127.0.0.1:8443'
  is_ready
  is_installed "$this"
  same "$(vm systemctl is-enabled agentd.service)" enabled
  fails 1 vm systemctl is-enabled agentd.socket
  in_setup
  same "$(vm stat --format '%U %G %a' /etc/agentd)" "root agentd 750"
  same "$(vm stat --format '%U %G %a' /var/lib/agentd)" "agentd agentd 700"
  vm zgrep --quiet 'agentd.*setup(1)' /usr/share/man/man1/agentd.1.gz
  vm bash -n /usr/share/bash-completion/completions/agentd
  vm zgrep --quiet 'Apache' /usr/share/doc/agentd/third-party.gz
  setup
  base=https://127.0.0.1
  is_ready
  make_job
  same "$(jobs)" 1
}

# What setup writes stays through upgrades, and nobody is asked about it.
check_settings() {
  bare
  install "$older" >/dev/null
  setup
  local before
  before=$(vm cat /etc/agentd/agentd.toml)
  grep --quiet '^mode = "acme"' <<<"$before"
  install "$this" >"$work/out"
  same "$(vm cat /etc/agentd/agentd.toml)" "$before"
  if grep -i 'configuration file\|conffile' "$work/out"; then return 1; fi
  same "$(vm ls /etc/agentd)" agentd.toml
  # And every setting of the reference is one.
  vm sh -c 'sed "s/^#\([a-z]\)/\1/; /=\$/d" /usr/share/doc/agentd/agentd.toml.reference >/run/all.toml'
  vm agentd check --config /run/all.toml
}

check_remove() {
  bare
  install "$this" >/dev/null
  setup
  make_job
  apt remove agentd >/dev/null
  same "$(property ActiveState)" inactive
  if vm pgrep agentd; then return 1; fi
  if vm sh -c 'command -v agentd'; then return 1; fi
  vm test -e /var/lib/agentd/agentd.db
  install "$this" >/dev/null
  runs
  same "$(jobs)" 1
}

check_purge() {
  bare
  install "$this" >/dev/null
  vm systemctl enable agentd.socket agentd-http.socket
  make_tenant
  apt purge agentd >/dev/null
  same "$(vm find /etc /var/lib /run /usr -xdev -name 'agentd*' ! -path '/var/lib/systemd/*' ! -path '/run/systemd/*')" ""
  fails 1 vm dpkg-query --show agentd
  install "$this" >/dev/null
  is_ready
  in_setup
}
make_tenant() { vm agentd tenant create probe >/dev/null; }

# As images are made.
check_chroot() {
  mkdir -p "$work/tmpfs/bare" "$work/tmpfs/upper2" "$work/tmpfs/work2"
  mount -t overlay overlay -o "lowerdir=$tree,upperdir=$work/tmpfs/upper2,workdir=$work/tmpfs/work2" "$work/tmpfs/bare"
  local in=$work/tmpfs/bare
  cp "$m/root/agentd_${this}_amd64.deb" "$in/root/"
  inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root chroot "$in" "$@"; }
  inside apt-get -q -y install "/root/agentd_${this}_amd64.deb" </dev/null
  same "$(inside dpkg-query --show --showformat='${Status}' agentd)" "install ok installed"
  same "$(inside systemctl is-enabled agentd.service)" enabled
  same "$(inside stat --format '%U %G %a' /etc/agentd)" "root agentd 750"
  inside agentd check --config /etc/agentd/agentd.toml
  inside apt-get -q -y install --reinstall "/root/agentd_${this}_amd64.deb" </dev/null
  inside apt-get -q -y purge agentd </dev/null
  same "$(inside find /etc /var/lib -xdev -name 'agentd*')" ""
  umount "$in"
}

check_upgrade() {
  bare
  install "$older" >/dev/null
  setup
  make_job
  local before
  before=$(property MainPID)
  install "$this" >/dev/null
  is_installed "$this"
  runs
  [ "$(property MainPID)" != "$before" ]
  same "$(jobs)" 1
  # Also where only the package is new.
  apt install --reinstall "/root/agentd_${this}_amd64.deb" >/dev/null
  same "$(jobs)" 1
  # Backwards, where the schema is the same.
  install "$older" >/dev/null
  is_installed "$older"
  same "$(jobs)" 1
}

open_to_all() {
  cat >"$m/etc/agentd/agentd.toml" <<TOML
[server]
listen = "[::]:443"
http_listen = "[::]:80"
[tls]
mode = "self_signed"
TOML
}

# Callers wait while systemd listens, and none is refused.
check_no_refused() {
  bare
  install "$older" >/dev/null
  open_to_all
  vm systemctl enable agentd.socket agentd-http.socket
  vm systemctl stop agentd.service
  vm systemctl start agentd.socket agentd-http.socket
  base=https://127.0.0.1
  is_ready
  make_tenant
  make_job
  migration_is 'CREATE TABLE more (x INTEGER) STRICT;'
  vm rm -f /run/enough
  vm sh -c 'while [ ! -e /run/enough ]; do
    curl --silent --output /dev/null --max-time 30 --write-out "%{exitcode} %{http_code}\n" https://127.0.0.1/health
  done >/run/answers' &
  local asking=$!
  install "$this" >/dev/null
  install "$newer" >/dev/null
  vm touch /run/enough
  wait "$asking"
  vm sort /run/answers | uniq -c | sed 's/^/figure: answers while upgraded twice, with sockets:/'
  [ "$(vm grep -c . /run/answers)" -gt 20 ]
  if vm grep -v '^0 200$' /run/answers; then return 1; fi
  same "$(jobs)" 1
  vm systemctl stop agentd.socket agentd-http.socket
}

# What the administrator has switched off stays off.
check_disabled() {
  bare
  install "$older" >/dev/null
  vm systemctl disable --now agentd.service
  install "$this" >/dev/null
  is_installed "$this"
  same "$(property ActiveState)" inactive
  fails 1 vm systemctl is-enabled agentd.service
}

check_failed_migration() {
  bare
  install "$this" >/dev/null
  setup
  make_job
  migration_is 'CREATE TABLE more (x INTEGER) STRICT; SELECT nonsense;'
  install "$newer" >"$work/out"
  is_installed "$newer"
  said 'the service is down'
  said 'nonsense'
  said '/var/lib/agentd/snapshots/agentd-schema'
  vm systemctl status --no-pager agentd.service >"$work/out" || true
  said 'nonsense'
  eventually 10 journal_says 'nonsense'
  # It does not try for ever.
  same "$(property ActiveState) $(property ExecMainStatus)" "failed 78"
  # The version before it goes on where it was.
  install "$this" >/dev/null
  is_installed "$this"
  runs
  same "$(jobs)" 1
}

upgraded() {
  bare
  install "$this" >/dev/null
  setup
  make_job
  migration_is 'CREATE TABLE more (x INTEGER) STRICT;'
  install "$newer" >/dev/null
  is_installed "$newer"
  runs
  same "$(jobs)" 1
  snapshot=$(vm sh -c 'ls /var/lib/agentd/snapshots/agentd-schema*.db')
}

check_downgrade() {
  upgraded
  local before
  before=$(property MainPID)
  fails 100 install "$this" >"$work/out"
  said "cannot take over the data of agentd $newer"
  said "$snapshot"
  # As if nothing had been asked for.
  is_installed "$newer"
  same "$(property MainPID)" "$before"
  is_ready_after_setup
  # The snapshot in its place; the job was made before it.
  make_job
  same "$(jobs)" 2
  vm systemctl stop agentd.service
  vm sh -c 'mkdir /var/lib/agentd/newer; mv /var/lib/agentd/agentd.db* /var/lib/agentd/newer/'
  vm install -o agentd -g agentd -m 600 "$snapshot" /var/lib/agentd/agentd.db
  install "$this" >/dev/null
  is_installed "$this"
  runs
  same "$(jobs)" 1
}
is_ready_after_setup() { vm curl --silent --fail https://agents.example.com/ready >/dev/null; }

# Nobody can read the data before the older version is there.
check_older_after_removal() {
  upgraded
  apt remove agentd >/dev/null
  install "$this" >"$work/out"
  is_installed "$this"
  said "$snapshot"
  said 'has not been started'
  same "$(property ActiveState)" inactive
  install "$newer" >/dev/null
  is_installed "$newer"
  runs
  same "$(jobs)" 1
}

# Figures, none of them asserted: for how long nobody is answered while about
# 1 GB of data is upgraded, on a disk.
check_times() {
  bare
  install "$this" >/dev/null
  vm systemctl stop agentd.service
  vm mkdir -p /mnt/agentd
  vm mount --bind /mnt/agentd /var/lib/agentd
  vm chown agentd:agentd /var/lib/agentd
  vm systemctl start agentd.service
  local key
  make_tenant
  key=$(vm agentd key create --tenant probe --name probe)
  awk 'BEGIN { text = "a job of some length "; while (length(text) < 10000) text = text text
    text = substr(text, 1, 10000); printf "{\"jobs\":["
    for (i = 0; i < 1000; i++) printf "%s{\"tool\":\"echo\",\"input\":{\"n\":%d,\"text\":\"%s\"}}", i ? "," : "", i, text
    printf "]}" }' >"$m/root/batch.json"
  for _ in $(seq 50); do
    get /v1/jobs/batch --output /dev/null --max-time 60 --header "X-API-Key: $key" \
      --header 'Content-Type: application/json' --data @/root/batch.json
  done
  is_idle() { property StatusText | grep 'jobs: 0 running, 0 waiting'; }
  eventually 120 is_idle
  migration_is 'ALTER TABLE jobs ADD COLUMN more TEXT; CREATE TABLE more (x INTEGER) STRICT;'
  measure_gap "without a migration, $(vm du --human-readable /var/lib/agentd/agentd.db | cut -f1) of data" \
    apt install --reinstall "/root/agentd_${this}_amd64.deb"
  measure_gap "with a migration" install "$newer"
  vm systemctl stop agentd.service
  vm umount /var/lib/agentd
  vm rm -rf /mnt/agentd
}
measure_gap() { # what it is, a command
  vm rm -f /run/enough
  vm sh -c 'while [ ! -e /run/enough ]; do
    curl --silent --output /dev/null --max-time 30 "$1/health"; echo "$? $(date +%s.%N)"
  done >/run/answers' sh "$base" &
  local asking=$!
  sleep 0.5
  "${@:2}" >/dev/null
  sleep 0.5
  vm touch /run/enough
  wait "$asking"
  vm awk -v what="$1" '$1 == 0 { if (last && $2 - last > gap) gap = $2 - last; last = $2 }
    END { printf "figure: upgrade %s: %.2f s without an answer\n", what, gap }' /run/answers
}
