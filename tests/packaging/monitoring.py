"""Prometheus itself with the example configuration, reading the running
service: every metric and label that the rules and the dashboard name is there,
and every query of theirs can be answered.

Called with the service's address, its data folder and a folder to work in."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import ssl

import yaml

base, data, work = sys.argv[1:]
admin, token = os.environ["ADMIN_KEY"], os.environ["AGENTD_AUTH_METRICS_TOKEN"]
authority = os.path.join(data, "tls/self-signed.crt")
trusting = ssl.create_default_context(cafile=authority)

# Shown by a service that has a certificate by ACME; tests/acme looks for it.
ELSEWHERE = {"agentd_certificate_not_after_seconds"}
# Prometheus' own, and those of parts of a metric.
LABELS_OF_SCRAPES = {"job", "instance", "le", "alertname", "severity"}


def ask(url, headers=None, body=None, context=None):
    request = urllib.request.Request(url, headers=headers or {}, data=body and json.dumps(body).encode())
    if body is not None:
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30, context=context) as answer:
        return json.load(answer) if "json" in answer.headers.get_content_type() else answer.read().decode()


def until(what, look):
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    sys.exit(f"{what}: not within a minute")


def traffic():
    """What the metrics with labels need to appear."""
    key = {"X-Admin-Key": admin}
    tenant = ask(base + "/admin/tenants", key, {"name": "monitored"}, trusting)["tenant_id"]
    secret = ask(f"{base}/admin/tenants/{tenant}/keys", key, {"name": "first"}, trusting)["api_key"]
    request = urllib.request.Request(base + "/admin/models/providers/local", headers=key, method="PUT",
                                     data=b'{"base_url": "http://127.0.0.1:9/v1"}')
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request, timeout=30, context=trusting).close()
    for job in {"tool": "echo", "input": {}}, {"tool": "web.fetch", "input": {"url": "http://127.0.0.1/"}, "max_attempts": 1}:
        ask(base + "/v1/jobs?wait=20", {"X-API-Key": secret}, job, trusting)
    until("a renewal fails", lambda: "agentd_certificate_renewal_failures_total" in metrics())


def metrics(headers=None):
    return ask(base + "/metrics", headers or {"X-Admin-Key": admin}, context=trusting)


def tokens_count():
    """Prometheus comes from another machine, as far as the service can tell."""
    elsewhere = {"X-Forwarded-For": "192.0.2.1"}
    try:
        metrics(elsewhere)
        sys.exit("/metrics is shown to everybody")
    except urllib.error.HTTPError as error:
        assert error.code == 401, error
    metrics(elsewhere | {"Authorization": f"Bearer {token}"})


def prometheus():
    """Prometheus with the example, pointed at the service."""
    with open("packaging/prometheus/prometheus.yml", encoding="utf-8") as file:
        config = yaml.safe_load(file)
    (scrape,) = config["scrape_configs"]
    assert scrape["job_name"] == "agentd", "the rules go by this name"
    scrape["static_configs"] = [{"targets": [base.removeprefix("https://")]}]
    scrape["tls_config"] = {"ca_file": authority}
    with open(os.path.join(work, "token"), "w", encoding="utf-8") as file:
        file.write(token)
    scrape["authorization"]["credentials_file"] = os.path.join(work, "token")
    config["rule_files"] = [os.path.abspath("packaging/prometheus/" + name) for name in config["rule_files"]]
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    with open(os.path.join(work, "prometheus.yml"), "w", encoding="utf-8") as file:
        yaml.safe_dump(config, file)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = os.path.join(work, "prometheus")
    subprocess.run(["rm", "-rf", store], check=True)
    log = open(os.path.join(work, "prometheus.log"), "w", encoding="utf-8")
    process = subprocess.Popen(
        ["prometheus", f"--config.file={work}/prometheus.yml", f"--storage.tsdb.path={store}",
         f"--web.listen-address=127.0.0.1:{port}"],
        stdout=log, stderr=log,
    )
    return process, f"http://127.0.0.1:{port}/api/v1"


def queries():
    """Every query, and where it stands."""
    with open("packaging/prometheus/agentd.rules.yml", encoding="utf-8") as file:
        for group in yaml.safe_load(file)["groups"]:
            for rule in group["rules"]:
                yield f"alert {rule['alert']}", rule["expr"]
    with open("packaging/grafana/agentd.json", encoding="utf-8") as file:
        board = json.load(file)
    sources = {"type": "prometheus", "uid": "${datasource}"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)), "two panels have one id"
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            assert target["datasource"] == panel["datasource"] == sources, f"{panel['title']}: another data source"
            yield f"panel {panel['title']}", target["expr"]
    variables = {it["name"]: it for it in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    yield "variable instance", re.fullmatch(r"label_values\((.*), instance\)", variables["instance"]["definition"])[1]
    yield "annotation", board["annotations"]["list"][0]["expr"]


def every_alert_is_tested_and_described():
    texts = {}
    for path in "packaging/prometheus/agentd.test.yml", "packaging/prometheus/agentd.days.test.yml", "docs/monitoring.md":
        with open(path, encoding="utf-8") as file:
            texts[path] = file.read()
    for place, _ in queries():
        if place.startswith("alert "):
            name = place.removeprefix("alert ")
            assert any(f'alertname="{name}"' in text for text in texts.values()), f"no test has {name} fire"
            assert f"| `{name}` |" in texts["docs/monitoring.md"], f"docs/monitoring.md does not say what {name} is"


def names_and_labels(query):
    """The metrics that a query names, and the labels that it expects of them."""
    names = set(re.findall(r"\b(?:agentd|http|process)_\w+", re.sub(r'"[^"]*"', "", query)))
    matched = [re.findall(r"(\w+)\s*[=!]~?\s*\"", inside) for inside in re.findall(r"\{([^{}]*)\}", re.sub(r"\{id\}", "", query))]
    grouped = [re.split(r"[,\s]+", inside.strip()) for inside in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query)]
    return names, {label for labels in matched + grouped for label in labels} - LABELS_OF_SCRAPES


def main():
    every_alert_is_tested_and_described()
    tokens_count()
    traffic()
    process, api = prometheus()

    def answer(path, **arguments):
        try:
            return ask(f"{api}/{path}?{urllib.parse.urlencode(arguments)}")["data"]
        except urllib.error.HTTPError as error:
            return sys.exit(f"{path} {arguments}: {error.read().decode()}")
        except (urllib.error.URLError, ConnectionError):
            return None

    try:
        is_up = lambda: answer("query", query='up{job="agentd"}')
        until("Prometheus can read the service", lambda: [it for it in (is_up() or {"result": []})["result"] if it["value"][1] == "1"])
        faults = []
        for place, query in queries():
            names, labels = names_and_labels(query)
            # How a series is called without what happens to be its values.
            known = {name: answer("series", **{"match[]": name}) for name in names - {"up"}}
            missing = {name for name, series in known.items() if not series} - ELSEWHERE
            faults += [f"{place}: there is no {name}" for name in missing]
            has = {label for series in known.values() for one in series for label in one}
            if not names & ELSEWHERE and not missing:
                faults += [f"{place}: no metric has {label!r}" for label in labels - has]
            answer("query", query=query.replace("$instance", ".*").replace("$__rate_interval", "1m"))
        rules = until("every rule is evaluated", lambda: all_evaluated(answer("rules")))
        faults += [f"alert {rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]
        # Nothing is wrong with a service that has just been started but its certificate.
        alerts = {it["labels"]["alertname"] for it in answer("alerts")["alerts"] if it["state"] == "firing"}
        faults += [f"{name} fires" for name in alerts - {"AgentdRenewalFails"}]
        if faults:
            sys.exit("\n".join(faults))
        print(f"{len(rules)} alerts and {len(list(queries())) - len(rules)} other queries fit the service's metrics")
    finally:
        process.terminate()
        process.wait()


def all_evaluated(found):
    rules = [rule for group in found["groups"] for rule in group["rules"]]
    return rules if all(rule["health"] != "unknown" for rule in rules) else None


main()
