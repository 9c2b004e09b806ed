# Sourced by run: what is looked at. Each check leaves the service running on
# the configuration of `configure`.

ALL="exposure start rights command_line work reload reload_refused reload_deadline kill hang drain full_disk
     port_taken faulty_configuration credentials long_migration sockets"

base=https://127.0.0.1

configure() { # more of the file
  cat >"$m/etc/agentd/agentd.toml" <<TOML
[server]
listen = "[::]:443"
http_listen = "[::]:80"
[tls]
mode = "self_signed"
$*
TOML
}
drop_in() { # name, lines of [Service]
  mkdir -p "$m/etc/systemd/system/agentd.service.d"
  printf '[Service]\n%s\n' "$2" >"$m/etc/systemd/system/agentd.service.d/$1.conf"
  vm systemctl daemon-reload
}
no_drop_ins() {
  rm -rf "$m/etc/systemd/system/agentd.service.d"
  vm systemctl daemon-reload
}
as_usual() {
  no_drop_ins
  configure
  vm systemctl reset-failed agentd.service || true
  vm systemctl restart agentd.service
}
restarted_since() { # the main process before
  # Both from one answer: between two the process may be killed.
  local now
  now=$(vm systemctl show --property ActiveState --property MainPID agentd.service | sort | tr '\n' ' ')
  [[ $now == "ActiveState=active MainPID="* && $now != *"MainPID=$1 " && $now != *"MainPID=0 " ]]
}
# A program that holds a port until it is killed; its name is its pid file.
hold_port() {
  vm sh -c 'perl -MIO::Socket::INET -e "
    my \$s = IO::Socket::INET->new(Listen => 5, LocalAddr => q(0.0.0.0), LocalPort => $1, ReuseAddr => 1) or die \$!;
    open my \$f, q(>), q(/run/holder); print \$f \$\$; close \$f;
    while (my \$c = \$s->accept) { my \$l = <\$c>; print \$c qq(HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nfrom inside\n); close \$c }
  " >/dev/null 2>&1 &' sh "$1"
  eventually 10 vm test -s /run/holder
}
let_port_go() { vm sh -c 'kill "$(cat /run/holder)"; rm /run/holder'; }

check_exposure() {
  vm systemd-analyze security --no-pager --threshold=15 agentd.service | tail -1
}

# The first start. What systemctl has waited for is that clients are answered.
check_start() {
  configure
  vm systemctl start agentd.service
  is_ready
  # Plain HTTP on port 80 is sent on.
  same "$(vm curl --silent --output /dev/null --write-out '%{http_code} %{redirect_url}' http://127.0.0.1/x)" \
    '308 https://127.0.0.1/x'
  property StatusText | grep 'serving on .*jobs: 0 running, 0 waiting'
  same "$(property NRestarts)" 0
}

check_rights() {
  local pid
  vm systemctl restart agentd.service
  pid=$(property MainPID)
  same "$(vm stat --format %U "/proc/$pid")" agentd
  # CAP_NET_BIND_SERVICE and nothing else, and no way to more.
  vm grep -E '^Cap(Eff|Bnd|Prm):' "/proc/$pid/status" | while read -r _ set; do same "$set" 0000000000000400; done
  same "$(vm awk '/^NoNewPrivs/ { print $2 }' "/proc/$pid/status")" 1
  same "$(vm stat --format '%U %G %a' /run/agentd/control.sock)" "agentd agentd 660"
  same "$(vm stat --format '%U %G %a' /var/lib/agentd)" "agentd agentd 700"
  same "$(vm stat --format '%U %G %a' /etc/agentd)" "root agentd 750"
  # What it may not do is shown by the log of what it tried: all of a start.
  eventually 10 journal_says '"ready"'
  if journal | grep -i -E 'operation not permitted|permission denied'; then return 1; fi
}

# Root, members of the group, and nobody else; found without being told where.
check_command_line() {
  vm agentd tenant create probe
  vm setpriv --reuid=nobody --regid=agentd --clear-groups agentd tenant list | grep probe
  fails 69 vm setpriv --reuid=nobody --regid=nogroup --clear-groups agentd tenant list
}

# Names, connections out, the list of interfaces, files: what the sandbox must leave.
check_work() {
  configure '[outbound]
allow = ["localhost:8081"]'
  vm systemctl restart agentd.service
  hold_port 8081
  vm agentd job submit --tool web.fetch --input '{"url":"http://localhost:8081/"}' --wait | grep 'from inside'
  let_port_go
  as_usual
}

check_reload() {
  configure '[log]
level = "debug"
[jobs]
queue = 1000'
  vm systemctl reload agentd.service
  eventually 10 journal_says '"changed":"log.level","needs_restart":"jobs.queue"'
  get /health
  eventually 5 journal_says '"level":"DEBUG"'
  configure
  vm agentd reload | grep 'log.level'
}

check_reload_refused() {
  local pid
  pid=$(property MainPID)
  configure 'lissten = "nowhere"'
  fails 1 vm systemctl reload agentd.service
  eventually 10 journal_says 'did you mean'
  is_ready
  same "$(property MainPID) $(property ActiveState)" "$pid active"
  configure
  vm systemctl reload agentd.service
}

# A file that never answers.
check_reload_deadline() {
  rm "$m/etc/agentd/agentd.toml"
  mkfifo "$m/etc/agentd/agentd.toml"
  vm agentd reload --socket /run/agentd/control.sock >"$work/late" 2>&1 &
  local reload=$! code=0
  is_ready
  wait "$reload" || code=$?
  rm "$m/etc/agentd/agentd.toml"
  configure
  same "$code" 75
  grep 'could not be read within' "$work/late"
  is_ready
  vm systemctl reload agentd.service
}

check_kill() {
  local pid jobs
  pid=$(property MainPID)
  for _ in 1 2 3 4 5; do vm agentd job submit --tool echo --input '{"a":1}' --delay 4s >>"$work/jobs"; done
  vm kill -KILL "$pid"
  eventually 20 restarted_since "$pid"
  is_ready
  for job in $(cat "$work/jobs"); do vm agentd job follow "$job" >/dev/null; done
}

check_hang() {
  drop_in watchdog 'WatchdogSec=2s'
  vm systemctl restart agentd.service
  local pid
  pid=$(property MainPID)
  vm kill -STOP "$pid"
  eventually 30 restarted_since "$pid"
  is_ready
  eventually 10 journal_says 'Watchdog timeout'
  as_usual
}

check_drain() {
  vm systemctl stop agentd.service
  same "$(property Result) $(property ExecMainStatus)" "success 0"
  eventually 10 journal_says '"stopped"'
  vm systemctl start agentd.service
}

check_full_disk() {
  vm systemctl stop agentd.service
  vm mount -t tmpfs -o size=48m tmpfs /var/lib/agentd
  vm chown agentd:agentd /var/lib/agentd
  configure '[data]
min_free = "8MiB"'
  vm systemctl start agentd.service
  vm agentd tenant create full
  vm agentd job submit --tool echo --input 1 --wait
  local pid
  pid=$(property MainPID)
  fails 1 vm dd if=/dev/zero of=/var/lib/agentd/filler bs=1M
  is_refused() { fails 75 vm agentd job submit --tool echo --input 1; }
  eventually 10 is_refused
  get /health
  fails 22 get /ready
  # Longer than it takes the watchdog to be missed.
  same "$(property MainPID) $(property ActiveState)" "$pid active"
  vm rm /var/lib/agentd/filler
  eventually 10 vm agentd job submit --tool echo --input 1 --wait
  vm systemctl stop agentd.service
  vm umount /var/lib/agentd
  as_usual
}

check_port_taken() {
  vm systemctl stop agentd.service
  hold_port 443
  fails 1 vm systemctl start agentd.service
  same "$(property Result) $(property ExecMainStatus)" "exit-code 69"
  eventually 10 journal_says 'another program has it'
  # Once the port is free it comes by itself.
  let_port_go
  eventually 20 is_ready
}

check_faulty_configuration() {
  vm systemctl stop agentd.service
  configure 'lissten = "nowhere"'
  fails 1 vm systemctl start agentd.service
  same "$(property Result) $(property ActiveState) $(property NRestarts)" "exit-code failed 0"
  same "$(property ExecMainStatus)" 78
  eventually 10 journal_says 'did you mean'
  # Longer than RestartSec=.
  sleep 4
  same "$(property ActiveState) $(property NRestarts)" "failed 0"
  as_usual
}

check_credentials() {
  local token=a-token-from-a-credential-0123456789
  echo "$token" >"$m/root/token"
  chmod 600 "$m/root/token"
  drop_in credential 'LoadCredential=auth.metrics_token:/root/token'
  vm systemctl restart agentd.service
  # Through a proxy, so that coming from this machine does not count.
  fails 22 get /metrics --header 'X-Forwarded-For: 192.0.2.1' --output /dev/null
  get /metrics --header 'X-Forwarded-For: 192.0.2.1' --header "Authorization: Bearer $token" | grep -c agentd_build_info
  if vm journalctl --no-pager | grep -F "$token"; then return 1; fi
  as_usual
}

# The start timeout is shorter than the migration, which asks for more time.
check_long_migration() {
  local unit=$m/etc/systemd/system/agentd-slow.service begun=$SECONDS
  sed -e 's|/usr/bin/agentd |/usr/bin/agentd-testbed |' -e 's|Directory=agentd|&-slow|' -e 's|%S/agentd|&-slow|' \
    -e 's|^TimeoutStartSec=.*|TimeoutStartSec=5s|' -e 's|agentd.toml|slow.toml|' \
    -e '/^ExecStart=/i Environment=TESTBED_MIGRATION_FILE=/etc/agentd/slow.sql' \
    "$m/usr/lib/systemd/system/agentd.service" >"$unit"
  printf '[server]\nlisten = "127.0.0.1:8082"\n' >"$m/etc/agentd/slow.toml"
  cat >"$m/etc/agentd/slow.sql" <<'SQL'
CREATE TABLE slow AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 120000000)
  SELECT max(x) AS x FROM n;
SQL
  vm systemctl daemon-reload
  vm systemctl start agentd-slow.service
  # Else nothing has been shown.
  [ $((SECONDS - begun)) -gt 6 ]
  vm curl --silent --fail http://127.0.0.1:8082/ready
  vm systemctl stop agentd-slow.service
}

# systemd keeps the connections that come while the service starts again.
check_sockets() {
  vm systemctl stop agentd.service
  vm systemctl start agentd.socket agentd-http.socket
  is_ready
  same "$(property ActiveState)" active
  vm sh -c 'while [ ! -e /run/enough ]; do
    curl --silent --insecure --output /dev/null --max-time 30 --write-out "%{exitcode} %{http_code}\n" "$1/health"
  done >/run/answers' sh "$base" &
  local asking=$!
  for _ in 1 2 3 4 5 6 7 8; do
    vm systemctl restart agentd.service
    sleep 0.3
  done
  vm touch /run/enough
  wait "$asking"
  same "$(vm curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1/x)" 308
  vm sort /run/answers | uniq -c
  [ "$(vm grep -c . /run/answers)" -gt 20 ]
  if vm grep -v '^0 200$' /run/answers; then return 1; fi
  vm systemctl stop agentd.socket agentd-http.socket agentd.service
  as_usual
}
