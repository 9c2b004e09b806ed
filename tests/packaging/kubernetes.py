"""What no schema says of the rendered manifests: that the parts fit each other
and that the pod is allowed where pods are restricted."""

import sys
import tomllib

import yaml

rendered, settings = sys.argv[1:]
with open(rendered, encoding="utf-8") as file:
    all_of_them = [it for it in yaml.safe_load_all(file) if it]
with open(settings, "rb") as file:
    settings = tomllib.load(file)
by_kind = {it["kind"]: it for it in all_of_them}
pod = by_kind["StatefulSet"]["spec"]["template"]["spec"]
(container,) = pod["containers"]
faults = []


def must(holds, what):
    if not holds:
        faults.append(what)



def must_be_restricted(pod):
    """Pod Security Standards, restricted."""
    (only,) = pod["containers"]
    inside, around = only["securityContext"], pod["securityContext"]
    must(around["runAsNonRoot"] and around["runAsUser"] > 0, "the pod runs as root")
    must(around["seccompProfile"]["type"] == "RuntimeDefault", "no seccomp profile")
    must(inside["allowPrivilegeEscalation"] is False, "privileges can be gained")
    must(inside["capabilities"] == {"drop": ["ALL"]}, "capabilities are kept")
    must(inside["readOnlyRootFilesystem"], "the root file system can be written")
    must("hostPath" not in str(pod) and "hostNetwork" not in pod, "something of the host is used")


must_be_restricted(pod)
must(pod["enableServiceLinks"] is False, "Kubernetes adds variables that begin with AGENTD_")

# One pod, with time to stop: drain, then 5 s for answers, then the database.
must(by_kind["StatefulSet"]["spec"]["replicas"] == 1, "the database can have one process only")
drain = int(settings["server"].get("drain_time", "20s").removesuffix("s"))
must(pod["terminationGracePeriodSeconds"] >= drain + 15, "the pod is killed while it drains")

# Ports, labels, names that must be the same in two places.
port = int(settings["server"]["listen"].rsplit(":", 1)[1])
must(container["ports"] == [{"containerPort": port, "name": "https"}], "the port is not that of server.listen")
scheme = "HTTP" if settings["tls"]["mode"] == "off" else "HTTPS"
for name, path in ("startupProbe", "/health"), ("livenessProbe", "/health"), ("readinessProbe", "/ready"):
    probe = container[name]["httpGet"]
    must((probe["path"], probe["port"], probe["scheme"]) == (path, "https", scheme), f"{name} asks elsewhere")
labels = by_kind["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
must(by_kind["Service"]["spec"]["selector"].items() <= labels.items(), "the Service selects nothing")
must(by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items(), "the policy selects nothing")
must(by_kind["Service"]["spec"]["ports"][0]["targetPort"] == "https", "the Service leads elsewhere")
(rule,) = by_kind["Ingress"]["spec"]["rules"]
service = rule["http"]["paths"][0]["backend"]["service"]
must(service["name"] == by_kind["Service"]["metadata"]["name"], "the Ingress leads elsewhere")
must(rule["host"] in by_kind["Ingress"]["spec"]["tls"][0]["hosts"], "the Ingress has no certificate for its host")


def claim_of(stateful):
    """The name of its only claim."""
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    return claim["metadata"]["name"]


# What the settings name is mounted, and what is mounted is there.
mounts = {it["name"]: it["mountPath"] for it in container["volumeMounts"]}
must(mounts["data"] == settings["data"]["dir"], "the volume is not where the data is kept")
volumes = {it["name"]: it for it in pod["volumes"]}
must(volumes["config"]["configMap"]["name"] == by_kind["ConfigMap"]["metadata"]["name"], "another ConfigMap is mounted")
must(volumes["secrets"]["secret"]["secretName"] == by_kind["Secret"]["metadata"]["name"], "another Secret is mounted")
must(volumes["secrets"]["secret"]["defaultMode"] == 0o440, "secrets can be read by others than the group")
must("agentd.toml" in by_kind["ConfigMap"]["data"], "the settings are not in the ConfigMap")
for key, path in settings["auth"].items():
    folder, name = path.rsplit("/", 1)
    must(folder == mounts["secrets"] and name in by_kind["Secret"]["data"], f"auth.{key} is not in the Secret")

# The pod that restores is like the one that serves, on its volume.
with open("packaging/kubernetes/restore.yaml", encoding="utf-8") as file:
    restore = yaml.safe_load(file)["spec"]
must_be_restricted(restore)
must(restore["securityContext"] == pod["securityContext"], "restored files belong to somebody else")
must(restore["containers"][0]["image"] == container["image"], "another image restores")
claim = f"{claim_of(by_kind['StatefulSet'])}-{by_kind['StatefulSet']['metadata']['name']}-0"
must(restore["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim, "another volume is restored")

for it in all_of_them:
    is_here = it["kind"] == "Namespace" or it["metadata"].get("namespace") == "agentd"
    must(is_here, f"{it['kind']} is in another namespace")
if faults:
    sys.exit("\n".join(f"packaging/kubernetes: {fault}" for fault in faults))
