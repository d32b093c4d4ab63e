"""The files in deploy/ are valid for Kubernetes, Ray, Docker and our own command line, and refer to existing things."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from tests.shared import DATA
from tlpo_ray import __version__
from tlpo_ray.cli import app
from tlpo_ray.config.load import load_config, presets
from tlpo_ray.config.run import RunConfig
from tlpo_ray.flow.metrics import METRICS

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
README = (DEPLOY / "README.md").read_text(encoding="utf-8")
TEXTS = [file for file in sorted(DEPLOY.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
DOCKERFILES = [file for file in TEXTS if file.name in ("Dockerfile", "Dockerfile.cpu")]
LABELS_OF_KUBERAY = {"ray.io/is-ray-node": {"yes"}, "ray.io/node-type": {"head", "worker"}}


class NoDuplicates(yaml.SafeLoader):
    """YAML loader that rejects duplicate keys, as the API server does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"duplicate key: {keys} {node.start_mark}"
        return super().construct_mapping(node, deep)


def documents(file: Path) -> list[Any]:
    """Return the YAML documents of a file."""
    with file.open(encoding="utf-8") as text:
        return [document for document in yaml.load_all(text, NoDuplicates) if document is not None]


def of_kind(*kinds: str) -> list[Any]:
    """Return the Kubernetes manifests of some kinds."""
    manifests = [manifest for file in sorted(DEPLOY.glob("kuberay/*.yaml")) for manifest in documents(file)]
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


(JOB,), (CLUSTER,) = of_kind("RayJob"), of_kind("RayCluster")
CLUSTER_SPEC = CLUSTER["spec"]
WORKLOADS = of_kind("RayJob", "RayCluster", "Pod")
LAUNCHER = documents(DEPLOY / "ray-cluster.yaml")[0]
ALERTS = DEPLOY / "monitoring" / "alerts.yml"
RULES = documents(ALERTS)[0]["groups"][0]["rules"]
START_COMMANDS = LAUNCHER["head_start_ray_commands"] + LAUNCHER["worker_start_ray_commands"]


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every nested value with its dotted path."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from walk(inner, f"{path}[{n}]")


PODS = {
    workload["kind"] + path: inner
    for workload in WORKLOADS
    for path, inner in walk(workload)
    if path.endswith("emplate")
}
PODS |= {pod["kind"]: pod for pod in of_kind("Pod")}
"""Path in its manifest → pod template."""


def test_every_file_parses() -> None:
    for file in TEXTS:
        if file.suffix in (".yaml", ".yml"):
            assert documents(file), file
        elif file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
    assert len(PODS) == 8  # 2 x (head, rollout, learner), the job's submitter, the shell
    assert JOB["spec"]["rayClusterSpec"] == CLUSTER_SPEC


@cache
def strict(kind: str) -> Any:
    """Return the v1 schema of a kind with unknown fields made an error; the API server would silently drop them."""
    file = DATA / "kuberay_crds" / f"ray.io_{kind.lower()}s.yaml.gz"
    if not file.exists():
        pytest.skip(f"no {file}")
    loaded = yaml.load(gzip.decompress(file.read_bytes()), yaml.CSafeLoader)
    (version,) = (one for one in loaded["spec"]["versions"] if one["name"] == "v1")
    schema = version["schema"]["openAPIV3Schema"]
    for path, inner in walk(schema):
        closed = isinstance(inner, dict) and inner.get("type") == "object" and "additionalProperties" not in inner
        if closed and not inner.get("x-kubernetes-preserve-unknown-fields") and path != ".properties.metadata":
            inner["additionalProperties"] = False
    return schema


def problems(manifest: Any) -> list[str]:
    """Return what KubeRay's schema says against a manifest."""
    validator = jsonschema.Draft7Validator(strict(manifest["kind"]))
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(manifest)]


(CLUSTER_PATCH,), (JOB_PATCH,) = (
    documents(DEPLOY / "kuberay" / "history" / f"{kind}-patch.yaml") for kind in ("raycluster", "rayjob")
)


def with_history(workload: Any) -> Any:
    """Return a run's or a cluster's manifest with the history server's patch."""
    changed = json.loads(json.dumps(workload))
    if workload["kind"] == "RayJob":
        changed["spec"]["rayClusterSpec"] |= JOB_PATCH["spec"]["rayClusterSpec"]
    else:
        changed["spec"] |= CLUSTER_PATCH["spec"]
    return changed


@pytest.mark.parametrize(
    "manifest", [JOB, CLUSTER, with_history(JOB), with_history(CLUSTER)], ids=["job", "cluster", "job+", "cluster+"]
)
def test_kuberay_knows_every_field(manifest: Any) -> None:
    assert problems(manifest) == []


def test_collectors_and_the_history_server_use_the_same_storage() -> None:
    assert JOB_PATCH["spec"]["rayClusterSpec"] == CLUSTER_PATCH["spec"]
    collector = CLUSTER_PATCH["spec"]["historyServerOptions"]["collectorOptions"]
    service, deployment = documents(DEPLOY / "kuberay" / "history" / "server.yaml")
    pod = deployment["spec"]["template"]
    (server,) = pod["spec"]["containers"]
    fixed = [one for one in collector["env"] if "value" in one]
    secret = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in collector["env"] if "valueFrom" in one}
    assert server["env"] == fixed and server["envFrom"] == [{"secretRef": {"name": "tlpo-history"}}]
    assert all(reference == {"name": "tlpo-history", "key": name} for name, reference in secret.items())
    assert all(f"--from-literal={name}=" in README for name in secret)
    assert collector["image"].rpartition(":")[2] == server["image"].rpartition(":")[2] == "v1.7.0"
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert CLUSTER_SPEC["authOptions"]["mode"] == "token"


def test_kubernetes_knows_every_field() -> None:
    """KubeRay's schemas contain those of Kubernetes' own kinds."""
    spec = strict("RayCluster")["properties"]["spec"]["properties"]
    pod = spec["headGroupSpec"]["properties"]["template"]["properties"]["spec"]
    volume = pod["properties"]["volumes"]["items"]["properties"]["ephemeral"]["properties"]["volumeClaimTemplate"]
    rules = spec["networkPolicy"]["properties"]["head"]["properties"]
    checks = [(one["spec"], pod) for one in of_kind("Pod")]
    checks += [(one["spec"], volume["properties"]["spec"]) for one in of_kind("PersistentVolumeClaim")]
    checks += [
        (one["spec"][way], rules[f"{way}Rules"]) for one in of_kind("NetworkPolicy") for way in ("ingress", "egress")
    ]
    assert len(checks) == 6
    for value, schema in checks:
        jsonschema.validate(value, schema, jsonschema.Draft7Validator)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("shutdownAfterJobFinishes", "shutdownAfterJobFinish"),
        ("minReplicas", "minReplica"),
        ("terminationGracePeriodSeconds", "terminationGracePeriod"),
        ("allowPrivilegeEscalation", "allowPrivilegeEscalations"),
        ('"port": 52365', '"port": [52365]'),
        ('"memory": "80Gi"', '"memory": "80 GB"'),
        ('"mode": "token"', '"mode": "tokens"'),
        ('"backoffLimit": 5', '"backoffLimit": "5"'),
    ],
)
def test_the_schema_check_finds_a_wrong_field(old: str, new: str) -> None:
    text = json.dumps(JOB)
    assert old in text
    assert problems(json.loads(text.replace(old, new))) != []


@pytest.mark.parametrize("history", [False, True])
def test_kustomize_accepts_the_manifests_and_replaces_every_image(tmp_path: Path, history: bool) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl")
    shutil.copytree(DEPLOY / "kuberay", tmp_path / "kuberay")
    file = tmp_path / "kuberay" / "kustomization.yaml"
    text = re.sub("newName: .*", "newName: other.example/tlpo", file.read_text())
    if history:
        text = text.replace("# components:", "components:").replace("#   - history", "  - history")
    file.write_text(text)
    run = subprocess.run([kubectl, "kustomize", str(tmp_path / "kuberay")], capture_output=True, text=True, check=True)
    made = list(yaml.safe_load_all(run.stdout))
    images = [inner for path, inner in walk(made) if path.endswith(".image")]
    assert [one for one in images if "kuberay" not in one] == [f"other.example/tlpo:{__version__}"] * 5
    (job,) = (one for one in made if one["kind"] == "RayJob")
    expected = with_history(JOB)["spec"]["rayClusterSpec"]["historyServerOptions"] if history else None
    assert job["spec"]["rayClusterSpec"].get("historyServerOptions") == expected


def test_pods_are_confined_and_their_sizes_fit() -> None:
    for where, pod in PODS.items():
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] and security["runAsUser"] == 1000, where
        for container in pod["spec"]["containers"]:
            own = container["securityContext"]
            assert own == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}, where
            assert container["resources"]["requests"] == container["resources"]["limits"], where
            for volume in pod["spec"].get("volumes", ()):
                if "emptyDir" in volume:  # in memory, so it counts against the container's limit
                    sizes = volume["emptyDir"]["sizeLimit"], container["resources"]["limits"]["memory"]
                    volume_gib, memory_gib = (int(size.removesuffix("Gi")) for size in sizes)
                    assert volume_gib < memory_gib / 2, where


def test_only_rollout_actors_are_on_spot_nodes() -> None:
    groups = {group["groupName"]: group["template"]["spec"] for group in CLUSTER_SPEC["workerGroupSpecs"]}
    spot = {"cloud.google.com/gke-spot", "karpenter.sh/capacity-type", "kubernetes.azure.com/scalesetpriority"}
    assert spot <= {toleration["key"] for toleration in groups["rollout"]["tolerations"]}
    for spec in (groups["learner"], CLUSTER_SPEC["headGroupSpec"]["template"]["spec"]):
        assert not spot & {toleration["key"] for toleration in spec.get("tolerations", ())}
        refused = {inner["key"] for _, inner in walk(spec["affinity"]) if isinstance(inner, dict) and "key" in inner}
        assert spot <= refused
    assert groups["rollout"]["terminationGracePeriodSeconds"] <= 30


def config_of(words: list[str]) -> RunConfig:
    """Return the configuration that a `tlpo train` or `tlpo submit` command line gives."""
    assert words[2] in presets()
    return load_config(words[2], [word for word in words[3:] if "=" in word and not word.startswith("-")])


def check_capacity(run: RunConfig, nodes: dict[str, Any], head: str) -> None:
    """Check that the initial nodes have what the run requests, and that nothing is placed on the head."""
    from tlpo_ray.cluster.connect import resource_demands

    assert nodes[head]["resources"]["CPU"] == 0
    assert (run.cluster.rollout_resource, run.cluster.learner_resource) == ("rollout", "learner")
    for what, demand in resource_demands(run).items():
        for role, requested in (("rollout", demand.rollout), ("learner", demand.learner)):
            group = [node for node in nodes.values() if role in node["resources"]]
            assert sum(node["min_workers"] * node["resources"][what] for node in group) >= requested > 0, (role, what)
            assert all(node["max_workers"] >= node["min_workers"] for node in group)


def test_the_job_fits_the_cluster_as_rays_autoscaler_reads_it(tmp_path: Path) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr as derive

    derived = derive({"metadata": {"name": "tlpo", "namespace": "tlpo"}, "spec": CLUSTER_SPEC})
    check_capacity(config_of(entrypoint(tmp_path)[-1]), derived["available_node_types"], derived["head_node_type"])


def entrypoint(shared: Path) -> list[list[str]]:
    """Run the job's entrypoint through the same shells, with `shared` as /shared; return the commands that it calls."""
    tools = shared / "bin"
    tools.mkdir(exist_ok=True)
    for name in ("tlpo", "hf"):
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tools / name).chmod(0o755)
    sent = shlex.split(
        JOB["spec"]["entrypoint"].replace("/shared", str(shared))
    )  # what the submitter's shell makes of it
    job = ["sh", "-c", shlex.join(sent)]  # how Ray joins it again
    run = subprocess.run(job, env={"PATH": f"{tools}:/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    return [line.split() for line in run.stdout.splitlines()]


def test_the_job_starts_resumes_and_ends(tmp_path: Path) -> None:
    from tlpo_ray.jobs.ray_shell import FOLDER, RUN  # metadata by which `tlpo status` finds a job's run

    download, train = entrypoint(tmp_path)
    run = config_of(train)
    folder = tmp_path / "runs" / "qwen3-8b-ko"
    assert download == ["hf", "download", run.model.path]
    assert run.folder == folder
    assert JOB["spec"]["metadata"] == {FOLDER: "/shared/runs/qwen3-8b-ko", RUN: run.name}
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    assert entrypoint(tmp_path) == [["tlpo", "train", "--resume", str(folder)]]
    (folder / "result.json").touch()
    assert "complete" in entrypoint(tmp_path)[0]


def test_ray_accepts_the_launcher_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(LAUNCHER))
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config({**LAUNCHER, "max_worker": 9}))
    (block,) = (block for block in blocks() if any(line.startswith("ray up") for line in block))
    (words,) = (words for line in block for words in commands(line, "tlpo") if words[1] == "submit")
    check_capacity(config_of(words), LAUNCHER["available_node_types"], LAUNCHER["head_node_type"])
    spot = {name for name, node in LAUNCHER["available_node_types"].items() if "InstanceMarketOptions" in str(node)}
    assert spot == {"rollout"}


def test_ray_accepts_the_runtime_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.runtime_env import RuntimeEnv

    (tmp_path / "my-run").mkdir()
    monkeypatch.chdir(tmp_path)
    RuntimeEnv(**documents(DEPLOY / "runtime-env.yaml")[0])


def test_all_files_use_the_image_that_the_readme_builds() -> None:
    image = f"registry.example/tlpo-ray:{__version__}"
    used = [inner for pod in PODS.values() for path, inner in walk(pod) if path.endswith(".image")]
    assert {*used, LAUNCHER["docker"]["image"]} == {image}
    (entry,) = documents(DEPLOY / "kuberay" / "kustomization.yaml")[0]["images"]
    assert f"{entry['name']}:{entry['newTag']}" == image
    assert f"IMAGE={entry['name']} " in README
    assert f"docker build -f deploy/docker/Dockerfile -t $IMAGE:{__version__} ." in README


def test_every_claim_and_secret_in_use_is_created() -> None:
    nested = [inner for workload in WORKLOADS for _, inner in walk(workload) if isinstance(inner, dict)]
    claims = {claim["metadata"]["name"]: claim["spec"]["accessModes"] for claim in of_kind("PersistentVolumeClaim")}
    assert {inner["claimName"]: ["ReadWriteMany"] for inner in nested if "claimName" in inner} == claims
    references = [inner["secretKeyRef"] for inner in nested if "secretKeyRef" in inner]
    secrets = {(reference["name"], reference["key"]) for reference in references}
    secrets |= {(inner["authOptions"]["secretName"], "auth_token") for inner in nested if "authOptions" in inner}
    for name, key in secrets:
        assert f"kubectl create secret generic {name} --from-literal={key}=" in README
    assert len(secrets) == 2
    sources = [source for inner in nested for source in inner.get("envFrom", ())]
    assert sources == [{"secretRef": {"name": "tlpo-driver-env", "optional": True}}] * 2, "both heads"
    assert "kubectl create secret generic tlpo-driver-env --from-literal=" in README


def test_selectors_match_the_pods() -> None:
    labelled = [pod["metadata"]["labels"] for pod in PODS.values()]
    policies, (monitor,) = of_kind("NetworkPolicy"), of_kind("PodMonitor")
    selectors = [policy["spec"]["podSelector"] for policy in policies] + [monitor["spec"]["selector"]]
    for name, value in {pair for selector in selectors for pair in selector["matchLabels"].items()}:
        assert value in LABELS_OF_KUBERAY.get(name, ()) or all(labels.get(name) == value for labels in labelled), name
    assert all(policy["spec"]["policyTypes"] == ["Ingress", "Egress"] for policy in policies)
    ray = [pod["spec"]["containers"][0] for where, pod in PODS.items() if "Group" in where]
    (endpoint,) = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    ports = [{port["name"]: port["containerPort"] for port in container["ports"]} for container in ray]
    assert [named[endpoint] for named in ports] == [8080] * 6


def test_generated_files_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_dashboard", DEPLOY / "monitoring" / "make_dashboard.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    for file, text in module.generated_files().items():
        assert file.read_text(encoding="utf-8") == text, f"run deploy/monitoring/make_dashboard.py: {file.name}"
    (rules,) = of_kind("PrometheusRule")
    assert rules["spec"] == documents(ALERTS)[0]


def test_alerts_use_existing_metrics() -> None:
    named = {name for rule in RULES for name in re.findall(r"ray_tlpo_(\w+)", rule["expr"])}
    assert len(RULES) > 10 and named <= METRICS.keys()


RUNNING = {'progress{run="a"}': "0.1x90", 'prompts_done{run="a"}': "0+1x90", 'actors{run="a",state="healthy"}': "2x90"}


@pytest.mark.parametrize(
    ("changes", "minute", "fires"),
    [
        ({}, 60, set()),
        ({'progress{run="a"}': "0.1x20 stale", 'prompts_done{run="a"}': "0+1x20 stale"}, 30, {"TlpoDriverDown"}),
        ({'progress{run="a"}': "0.1x20 stale", 'prompts_done{run="a"}': "0+1x20 stale"}, 22, set()),
        ({'progress{run="a"}': "0.1x9 1x9 stale", 'prompts_done{run="a"}': "0+1x20 stale"}, 40, set()),
        ({'actors{run="a",state="healthy"}': "2x20 0x70"}, 40, {"TlpoNoRolloutActor"}),
        (
            {'actors{run="a",state="healthy"}': None, 'actors{run="a",state="pending"}': "2x90"},
            40,
            {"TlpoNoRolloutActor"},
        ),
        ({'prompts_done{run="a"}': "7x90"}, 40, {"TlpoRunStalled"}),
        ({'exchange_restarts{run="a"}': "0x30 1x60"}, 35, {"TlpoExchangeRestarted"}),
        ({'learner_restarts{run="a"}': "0x30 1x60"}, 35, {"TlpoLearnerRestarted"}),
        ({'actor_restarts{run="a"}': "0x30 4x60"}, 35, {"TlpoActorCrashLooping"}),
        ({'kv_cache_usage{run="a"}': "0.99x90"}, 40, {"TlpoKVCacheFull"}),
    ],
)
def test_alerts_fire_when_they_should(
    changes: dict[str, str | None], minute: int, fires: set[str], tmp_path: Path
) -> None:
    """Feed Prometheus' own test tool with one value per minute and compare the alerts that fire."""
    if shutil.which("promtool") is None:
        pytest.skip("no promtool")
    series = [
        {"series": f"ray_tlpo_{name}", "values": values} for name, values in (RUNNING | changes).items() if values
    ]
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in fires]
    promql = {"expr": firing, "eval_time": f"{minute}m", "exp_samples": expected}
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [promql]}
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def blocks() -> list[list[str]]:
    """Return the lines of each bash block, with continued lines joined."""
    texts = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [text.replace("\\\n", " ").splitlines() for text in texts]


def commands(line: str, program: str) -> list[list[str]]:
    """Return the calls of a program in a line: at its beginning, or after `--`."""
    words = shlex.split(line, comments=True)
    starts = [n for n, word in enumerate(words) if word == program and (n == 0 or words[n - 1] == "--")]
    return [words[n:][: [*words[n:], "&"].index("&")] for n in starts]


def parse(command: Any, words: list[str]) -> None:
    """Fail if a sub-command or an option does not exist."""
    while hasattr(command, "commands"):
        name, *rest = words[1:]
        assert name in command.commands, f"{' '.join(words)}: no such command"
        command, words = command.commands[name], [name, *rest]
    command.make_context(words[0], words[1:])


TLPO = [words for block in blocks() for line in block for words in commands(line, "tlpo")]


@pytest.mark.parametrize("words", TLPO, ids=" ".join)
def test_tlpo_accepts_the_command(words: list[str]) -> None:
    parse(typer.main.get_command(app), list(words))
    if words[1] in ("train", "submit") and words[2] in presets():
        config_of(words)


HOOKS = {
    where: container["lifecycle"]["preStop"]["exec"]["command"][2].split("; ")
    for where, pod in PODS.items()
    if "lifecycle" in (container := pod["spec"]["containers"][0])
}
"""The commands that are run on a node before it ends."""


@pytest.mark.parametrize("where", HOOKS)
def test_runs_leave_a_node_within_the_time_that_it_has(where: str) -> None:
    drain, stop = HOOKS[where]
    assert drain.startswith("tlpo drain --seconds ") and stop.startswith("ray stop --grace-period ")
    parse(typer.main.get_command(app), shlex.split(drain))
    needed_s = sum(int(line.rpartition(" ")[2]) for line in HOOKS[where])
    assert needed_s < PODS[where]["spec"]["terminationGracePeriodSeconds"]
    assert len(HOOKS) == 4  # 2 x (rollout, learner)


@pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecatedSince20"
)  # raised by an import of Ray's commands
def test_ray_accepts_its_commands() -> None:
    from ray.scripts.scripts import cli

    calls = [words for hook in HOOKS.values() for line in hook for words in commands(line, "ray")]
    calls += [words for block in blocks() for line in block for words in commands(line, "ray") if words[1] != "job"]
    for line in START_COMMANDS:
        calls += commands(line.rpartition("; ")[2], "ray")
    for words in calls:
        parse(cli, [words[0], *(word.replace("HEAD", "127.0.0.1") for word in words[1:])])
    assert sum(words[1] == "start" for words in calls) == 5


def test_every_cluster_requires_a_token() -> None:
    locks = {(ROOT / "requirements" / f"{device}.lock").read_text(encoding="utf-8") for device in ("cpu", "gpu")}
    assert CLUSTER_SPEC["authOptions"] == {"mode": "token", "secretName": "tlpo-ray-token"}
    assert all(f"\nray=={CLUSTER_SPEC['rayVersion']}\n" in lock for lock in locks)  # KubeRay relies on it
    (mounted,) = LAUNCHER["file_mounts"]
    for line in START_COMMANDS:
        assert "ray start" not in line or f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={mounted};" in line
        assert "--head" not in line or "--dashboard-host=127.0.0.1" in line
    for text in ("\n".join(block) for block in blocks()):
        assert "ray start" not in text or text.index("RAY_AUTH_MODE=token RAY_AUTH_TOKEN") < text.index("ray start")


def test_no_file_contains_a_secret() -> None:
    literal = re.compile(r"hf_\w{16,}|\b[0-9a-f]{32,}\b|(?i:token|password|secret)\w*[\"']?\s*[:=]\s*[\"']?[\w+]{20,}")
    assert literal.search("auth_token: 0123456789abcdef0123") and literal.search("PASSWORD=" + "x" * 20)
    for file in TEXTS:
        assert literal.search(file.read_text(encoding="utf-8")) is None, file
    assert of_kind("Secret") == []
    for pod in PODS.values():
        for env in pod["spec"]["containers"][0].get("env", ()):
            assert "value" not in env or not re.search("TOKEN|PASSWORD|SECRET|KEY", env["name"])


def instructions(file: Path) -> list[tuple[str, str]]:
    """Return (instruction, arguments) of each line of a Dockerfile."""
    lines = file.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line and not line.startswith("#")]


def in_build_context(path: str, rules: list[str]) -> bool:
    """Return whether Docker sees a path: the last rule that matches it or a parent folder decides."""
    parts, included = path.split("/"), True
    for rule in rules:
        pattern = rule.removeprefix("!").split("/")
        matches = parts[-1] == pattern[-1] if pattern[0] == "**" else len(pattern) <= len(parts)
        if matches and (pattern[0] == "**" or all(map(fnmatch, parts, pattern))):
            included = rule.startswith("!")
    return included


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_the_image_can_be_built(file: Path) -> None:
    lines = instructions(file)
    ignore = file.with_name(f"{file.name}.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert all(re.search(r":\d+\.\d+\.\d+", rest) for word, rest in lines if word == "FROM")
    copied = [source for word, rest in lines if word == "COPY" for source in rest.split()[:-1]]
    for source in copied:
        assert (ROOT / source).exists() and in_build_context(source, rules), source
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages | {project["project"]["readme"], *project["project"]["license-files"]} <= set(copied)
    assert (
        not in_build_context(".git", rules)
        and not in_build_context("runs/it/model", rules)
        and not in_build_context("tlpo_ray/__pycache__", rules)
    )
    assert [rest for word, rest in lines if word == "USER"] == ["1000:1000"]
    (start,) = (json.loads(rest)[0] for word, rest in lines if word in ("CMD", "ENTRYPOINT"))
    assert start in project["project"]["scripts"]
    assert set(re.findall(r"/opt/tlpo-ray/(requirements/\w+.lock)", str(lines))) <= set(copied)
    assert not any(re.search("TOKEN|PASSWORD|SECRET", rest) for word, rest in lines if word in ("ARG", "ENV"))
