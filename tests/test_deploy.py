"""What deploy/ holds is what Kubernetes, Ray, Docker and our own command line take, and names only what is there."""

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
SET_BY_KUBERAY = {"ray.io/is-ray-node": {"yes"}, "ray.io/node-type": {"head", "worker"}}


class NoDuplicates(yaml.SafeLoader):
    """YAML as the API server wants it: a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key stands twice: {keys} {node.start_mark}"
        return super().construct_mapping(node, deep)


def documents(file: Path) -> list[Any]:
    with file.open(encoding="utf-8") as text:
        return [one for one in yaml.load_all(text, NoDuplicates) if one is not None]


def of_kind(*kinds: str) -> list[Any]:
    found = [one for file in sorted(DEPLOY.glob("kuberay/*.yaml")) for one in documents(file)]
    return [one for one in found if one["kind"] in kinds]


(JOB,), (CLUSTER,) = of_kind("RayJob"), of_kind("RayCluster")
SHAPE = CLUSTER["spec"]
USERS = of_kind("RayJob", "RayCluster", "Pod")
LAUNCHER = documents(DEPLOY / "ray-cluster.yaml")[0]
ALERTS = DEPLOY / "monitoring" / "alerts.yml"
RULES = documents(ALERTS)[0]["groups"][0]["rules"]
STARTS = LAUNCHER["head_start_ray_commands"] + LAUNCHER["worker_start_ray_commands"]


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything inside, with its dotted path."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from walk(inner, f"{path}[{n}]")


PODS = {one["kind"] + path: inner for one in USERS for path, inner in walk(one) if path.endswith("emplate")}
PODS |= {one["kind"]: one for one in of_kind("Pod")}
"""Every pod template of the manifests, by where it stands."""


def test_all_of_it_parses() -> None:
    for file in TEXTS:
        if file.suffix in (".yaml", ".yml"):
            assert documents(file), file
        elif file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
    assert len(PODS) == 8  # 2 x (head, rollout, learner), the job's submitter, the shell
    assert JOB["spec"]["rayClusterSpec"] == SHAPE


@cache
def strict(kind: str) -> Any:
    """The schema of a kind's v1, in which a field that it does not know is an error: the API server would drop it."""
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
    validator = jsonschema.Draft7Validator(strict(manifest["kind"]))
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(manifest)]


@pytest.mark.parametrize("manifest", [JOB, CLUSTER], ids=lambda one: one["kind"])
def test_kuberay_knows_every_field(manifest: Any) -> None:
    assert problems(manifest) == []


def test_kubernetes_knows_every_field() -> None:
    """By the schemas of its kinds inside KubeRay's."""
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
def test_the_check_sees_a_wrong_field(old: str, new: str) -> None:
    text = json.dumps(JOB)
    assert old in text
    assert problems(json.loads(text.replace(old, new))) != []


def test_kustomize_takes_it_and_replaces_every_image(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl")
    shutil.copytree(DEPLOY / "kuberay", tmp_path / "it")
    file = tmp_path / "it" / "kustomization.yaml"
    file.write_text(re.sub("newName: .*", "newName: other.example/it", file.read_text()))
    run = subprocess.run([kubectl, "kustomize", str(tmp_path / "it")], capture_output=True, text=True, check=True)
    images = [inner for path, inner in walk(list(yaml.safe_load_all(run.stdout))) if path.endswith(".image")]
    assert images == [f"other.example/it:{__version__}"] * 5


def test_pods_are_confined_and_their_sizes_fit() -> None:
    for where, pod in PODS.items():
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] and security["runAsUser"] == 1000, where
        for container in pod["spec"]["containers"]:
            own = container["securityContext"]
            assert own == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}, where
            assert container["resources"]["requests"] == container["resources"]["limits"], where
            for volume in pod["spec"].get("volumes", ()):
                if "emptyDir" in volume:  # in memory: it counts as the container's
                    sizes = volume["emptyDir"]["sizeLimit"], container["resources"]["limits"]["memory"]
                    inside, memory = (int(size.removesuffix("Gi")) for size in sizes)
                    assert inside < memory / 2, where


def test_only_rollout_actors_are_on_spot_nodes() -> None:
    groups = {group["groupName"]: group["template"]["spec"] for group in SHAPE["workerGroupSpecs"]}
    spot = {"cloud.google.com/gke-spot", "karpenter.sh/capacity-type", "kubernetes.azure.com/scalesetpriority"}
    assert spot <= {one["key"] for one in groups["rollout"]["tolerations"]}
    for spec in (groups["learner"], SHAPE["headGroupSpec"]["template"]["spec"]):
        assert not spot & {one["key"] for one in spec.get("tolerations", ())}
        refused = {inner["key"] for _, inner in walk(spec["affinity"]) if isinstance(inner, dict) and "key" in inner}
        assert spot <= refused
    assert groups["rollout"]["terminationGracePeriodSeconds"] <= 30


def run_of(words: list[str]) -> RunConfig:
    """The configuration of a `tlpo train` or `tlpo submit`."""
    assert words[2] in presets()
    return load_config(words[2], [word for word in words[3:] if "=" in word and not word.startswith("-")])


def check_room(run: RunConfig, nodes: dict[str, Any], head: str) -> None:
    """The nodes that are there from the beginning hold what the run asks for; on the head nothing is put."""
    from tlpo_ray.cluster.connect import demands

    assert nodes[head]["resources"]["CPU"] == 0
    assert (run.cluster.rollout_resource, run.cluster.learner_resource) == ("rollout", "learner")
    for what, demand in demands(run).items():
        for role, asked in (("rollout", demand.rollout), ("learner", demand.learner)):
            there = [node for node in nodes.values() if role in node["resources"]]
            assert sum(node["min_workers"] * node["resources"][what] for node in there) >= asked > 0, (role, what)
            assert all(node["max_workers"] >= node["min_workers"] for node in there)


def test_the_job_fits_what_rays_autoscaler_makes_of_the_cluster(tmp_path: Path) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr as derive

    seen = derive({"metadata": {"name": "it", "namespace": "there"}, "spec": SHAPE})
    check_room(run_of(entrypoint(tmp_path)[-1]), seen["available_node_types"], seen["head_node_type"])


def entrypoint(shared: Path) -> list[list[str]]:
    """The commands that the job's entrypoint calls, with `shared` as /shared, through the shells it passes."""
    tools = shared / "bin"
    tools.mkdir(exist_ok=True)
    for name in ("tlpo", "hf"):
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tools / name).chmod(0o755)
    sent = shlex.split(JOB["spec"]["entrypoint"].replace("/shared", str(shared)))  # by the submitter's shell
    job = ["sh", "-c", shlex.join(sent)]  # how Ray puts it together again
    run = subprocess.run(job, env={"PATH": f"{tools}:/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    return [line.split() for line in run.stdout.splitlines()]


def test_the_job_begins_goes_on_and_ends(tmp_path: Path) -> None:
    from tlpo_ray.jobs.ray_shell import FOLDER, RUN  # by which `tlpo status` finds a job's run

    download, train = entrypoint(tmp_path)
    run = run_of(train)
    folder = tmp_path / "runs" / "qwen3-8b-ko"
    assert download == ["hf", "download", run.model.path]
    assert run.folder == folder
    assert JOB["spec"]["metadata"] == {FOLDER: "/shared/runs/qwen3-8b-ko", RUN: run.name}
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    assert entrypoint(tmp_path) == [["tlpo", "train", "--resume", str(folder)]]
    (folder / "result.json").touch()
    assert "complete" in entrypoint(tmp_path)[0]


def test_ray_takes_the_launchers_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(LAUNCHER))
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config({**LAUNCHER, "max_worker": 9}))
    (block,) = (block for block in blocks() if any(line.startswith("ray up") for line in block))
    (words,) = (words for line in block for words in commands(line, "tlpo") if words[1] == "submit")
    check_room(run_of(words), LAUNCHER["available_node_types"], LAUNCHER["head_node_type"])
    spot = {name for name, one in LAUNCHER["available_node_types"].items() if "InstanceMarketOptions" in str(one)}
    assert spot == {"rollout"}


def test_ray_takes_the_runtime_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.runtime_env import RuntimeEnv

    (tmp_path / "my-run").mkdir()
    monkeypatch.chdir(tmp_path)
    RuntimeEnv(**documents(DEPLOY / "runtime-env.yaml")[0])


def test_one_image_that_the_readme_builds() -> None:
    image = f"registry.example/tlpo-ray:{__version__}"
    used = [inner for pod in PODS.values() for path, inner in walk(pod) if path.endswith(".image")]
    assert {*used, LAUNCHER["docker"]["image"]} == {image}
    (kept,) = documents(DEPLOY / "kuberay" / "kustomization.yaml")[0]["images"]
    assert f"{kept['name']}:{kept['newTag']}" == image
    assert f"IMAGE={kept['name']} " in README
    assert f"docker build -f deploy/docker/Dockerfile -t $IMAGE:{__version__} ." in README


def test_claims_and_secrets_are_made() -> None:
    found = [inner for one in USERS for _, inner in walk(one) if isinstance(inner, dict)]
    made = {one["metadata"]["name"]: one["spec"]["accessModes"] for one in of_kind("PersistentVolumeClaim")}
    assert {inner["claimName"]: ["ReadWriteMany"] for inner in found if "claimName" in inner} == made
    asked = [inner["secretKeyRef"] for inner in found if "secretKeyRef" in inner]
    secrets = {(one["name"], one["key"]) for one in asked}
    secrets |= {(inner["authOptions"]["secretName"], "auth_token") for inner in found if "authOptions" in inner}
    for name, key in secrets:
        assert f"kubectl create secret generic {name} --from-literal={key}=" in README
    assert len(secrets) == 2
    taken = [one for inner in found for one in inner.get("envFrom", ())]
    assert taken == [{"secretRef": {"name": "tlpo-driver-env", "optional": True}}] * 2, "of both heads"
    assert "kubectl create secret generic tlpo-driver-env --from-literal=" in README


def test_selectors_find_the_pods() -> None:
    labelled = [pod["metadata"]["labels"] for pod in PODS.values()]
    policies, (monitor,) = of_kind("NetworkPolicy"), of_kind("PodMonitor")
    selectors = [one["spec"]["podSelector"] for one in policies] + [monitor["spec"]["selector"]]
    for name, value in {pair for one in selectors for pair in one["matchLabels"].items()}:
        assert value in SET_BY_KUBERAY.get(name, ()) or all(labels.get(name) == value for labels in labelled), name
    assert all(one["spec"]["policyTypes"] == ["Ingress", "Egress"] for one in policies)
    ray = [pod["spec"]["containers"][0] for where, pod in PODS.items() if "Group" in where]
    (port,) = {one["port"] for one in monitor["spec"]["podMetricsEndpoints"]}
    assert [{one["name"]: one["containerPort"] for one in container["ports"]}[port] for container in ray] == [8080] * 6


def test_what_is_written_from_something_else_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_dashboard", DEPLOY / "monitoring" / "make_dashboard.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    for file, text in module.written().items():
        assert file.read_text(encoding="utf-8") == text, f"call deploy/monitoring/make_dashboard.py: {file.name}"
    (rules,) = of_kind("PrometheusRule")
    assert rules["spec"] == documents(ALERTS)[0]


def test_alerts_name_metrics_that_there_are() -> None:
    named = {name for rule in RULES for name in re.findall(r"ray_tlpo_(\w+)", rule["expr"])}
    assert len(RULES) > 10 and named <= METRICS.keys()


AT_WORK = {'progress{run="a"}': "0.1x90", 'prompts_done{run="a"}': "0+1x90", 'actors{run="a",state="healthy"}': "2x90"}


@pytest.mark.parametrize(
    ("changes", "minute", "fires"),
    [
        ({}, 60, set()),
        ({'progress{run="a"}': "0.1x20 stale", 'prompts_done{run="a"}': "0+1x20 stale"}, 30, {"TlpoDriverIsGone"}),
        ({'progress{run="a"}': "0.1x20 stale", 'prompts_done{run="a"}': "0+1x20 stale"}, 22, set()),
        ({'progress{run="a"}': "0.1x9 1x9 stale", 'prompts_done{run="a"}': "0+1x20 stale"}, 40, set()),
        ({'actors{run="a",state="healthy"}': "2x20 0x70"}, 40, {"TlpoNoRolloutActor"}),
        (
            {'actors{run="a",state="healthy"}': None, 'actors{run="a",state="pending"}': "2x90"},
            40,
            {"TlpoNoRolloutActor"},
        ),
        ({'prompts_done{run="a"}': "7x90"}, 40, {"TlpoStandsStill"}),
        ({'exchange_restarts{run="a"}': "0x30 1x60"}, 35, {"TlpoExchangeRestarted"}),
        ({'learner_restarts{run="a"}': "0x30 1x60"}, 35, {"TlpoLearnerRestarted"}),
    ],
)
def test_alerts_fire_when_they_should(
    changes: dict[str, str | None], minute: int, fires: set[str], tmp_path: Path
) -> None:
    """By Prometheus' own tool for it: figures a minute apart, and what fires then."""
    if shutil.which("promtool") is None:
        pytest.skip("no promtool")
    series = [
        {"series": f"ray_tlpo_{name}", "values": values} for name, values in (AT_WORK | changes).items() if values
    ]
    seen = 'count by (alertname) (ALERTS{alertstate="firing"})'
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in fires]
    promql = {"expr": seen, "eval_time": f"{minute}m", "exp_samples": expected}
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [promql]}
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def blocks() -> list[list[str]]:
    """Lines of each bash block, those that end in a backslash joined."""
    found = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [block.replace("\\\n", " ").splitlines() for block in found]


def commands(line: str, program: str) -> list[list[str]]:
    """Calls of a program in a line: at its beginning, or behind `--`."""
    words = shlex.split(line, comments=True)
    starts = [n for n, word in enumerate(words) if word == program and (n == 0 or words[n - 1] == "--")]
    return [words[n:][: [*words[n:], "&"].index("&")] for n in starts]


def parse(command: Any, words: list[str]) -> None:
    """Fails on a sub-command or an option that does not exist."""
    while hasattr(command, "commands"):
        name, *rest = words[1:]
        assert name in command.commands, f"{' '.join(words)}: no such command"
        command, words = command.commands[name], [name, *rest]
    command.make_context(words[0], words[1:])


TLPO = [words for block in blocks() for line in block for words in commands(line, "tlpo")]


@pytest.mark.parametrize("words", TLPO, ids=" ".join)
def test_tlpo_knows_the_command(words: list[str]) -> None:
    parse(typer.main.get_command(app), list(words))
    if words[1] in ("train", "submit") and words[2] in presets():
        run_of(words)


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")  # in what Ray's commands import
def test_ray_knows_its_commands() -> None:
    from ray.scripts.scripts import cli

    stops = [pod["spec"]["containers"][0].get("lifecycle") for pod in PODS.values()]
    found = [one["preStop"]["exec"]["command"] for one in stops if one]
    found += [words for block in blocks() for line in block for words in commands(line, "ray") if words[1] != "job"]
    for line in STARTS:
        found += commands(line.rpartition("; ")[2], "ray")
    for words in found:
        parse(cli, [words[0], *(word.replace("HEAD", "127.0.0.1") for word in words[1:])])
    assert sum(words[1] == "start" for words in found) == 5


def test_every_cluster_asks_for_a_token() -> None:
    locks = {(ROOT / "requirements" / f"{device}.lock").read_text(encoding="utf-8") for device in ("cpu", "gpu")}
    assert SHAPE["authOptions"] == {"mode": "token", "secretName": "tlpo-ray-token"}
    assert all(f"\nray=={SHAPE['rayVersion']}\n" in lock for lock in locks)  # KubeRay goes by it
    (mounted,) = LAUNCHER["file_mounts"]
    for line in STARTS:
        assert "ray start" not in line or f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={mounted};" in line
        assert "--head" not in line or "--dashboard-host=127.0.0.1" in line
    for text in ("\n".join(block) for block in blocks()):
        assert "ray start" not in text or text.index("RAY_AUTH_MODE=token RAY_AUTH_TOKEN") < text.index("ray start")


def test_no_secret_is_written_down() -> None:
    literal = re.compile(r"hf_\w{16,}|\b[0-9a-f]{32,}\b|(?i:token|password|secret)\w*[\"']?\s*[:=]\s*[\"']?[\w+]{20,}")
    assert literal.search("auth_token: 0123456789abcdef0123") and literal.search("PASSWORD=" + "x" * 20)
    for file in TEXTS:
        assert literal.search(file.read_text(encoding="utf-8")) is None, file
    assert of_kind("Secret") == []
    for pod in PODS.values():
        for env in pod["spec"]["containers"][0].get("env", ()):
            assert "value" not in env or not re.search("TOKEN|PASSWORD|SECRET|KEY", env["name"])


def instructions(file: Path) -> list[tuple[str, str]]:
    lines = file.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line and not line.startswith("#")]


def sent(path: str, rules: list[str]) -> bool:
    """Whether Docker sees a path of the build's context: the last rule that fits it or a folder above decides."""
    parts, seen = path.split("/"), True
    for rule in rules:
        wanted = rule.removeprefix("!").split("/")
        fits = parts[-1] == wanted[-1] if wanted[0] == "**" else len(wanted) <= len(parts)
        if fits and (wanted[0] == "**" or all(fnmatch(part, one) for part, one in zip(parts, wanted, strict=False))):
            seen = rule.startswith("!")
    return seen


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_the_image_can_be_built(file: Path) -> None:
    found = instructions(file)
    ignore = file.with_name(f"{file.name}.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert all(re.search(r":\d+\.\d+\.\d+", rest) for word, rest in found if word == "FROM")
    copied = [source for word, rest in found if word == "COPY" for source in rest.split()[:-1]]
    for source in copied:
        assert (ROOT / source).exists() and sent(source, rules), source
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages | {project["project"]["readme"], *project["project"]["license-files"]} <= set(copied)
    assert not sent(".git", rules) and not sent("runs/it/model", rules) and not sent("tlpo_ray/__pycache__", rules)
    assert [rest for word, rest in found if word == "USER"] == ["1000:1000"]
    (start,) = (json.loads(rest)[0] for word, rest in found if word in ("CMD", "ENTRYPOINT"))
    assert start in project["project"]["scripts"]
    assert set(re.findall(r"/opt/tlpo-ray/(requirements/\w+.lock)", str(found))) <= set(copied)
    assert not any(re.search("TOKEN|PASSWORD|SECRET", rest) for word, rest in found if word in ("ARG", "ENV"))
