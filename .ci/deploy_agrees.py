"""What no validator knows: that the files in deploy/ agree with the program, with its source, and with one another.

Called by .ci/deploy with the program and what `kubectl kustomize deploy/kubernetes` gave.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import yaml

DEPLOY = Path("deploy")
problems = []


def expect(condition, problem):
    if not condition:
        problems.append(problem)


def documents(path):
    return [document for document in yaml.safe_load_all(Path(path).read_text()) if document]


def document(path):
    return documents(path)[0]


class Program:
    """The built `seawall`."""

    def __init__(self, path):
        self.path = path
        self.helps = {}

    def run(self, *arguments, environment=None):
        return subprocess.run(
            [self.path, *arguments], env=environment or {}, capture_output=True, text=True, timeout=60, check=False
        )

    def checks(self, kind, text, environment, where):
        """`seawall node|agent --check` of a configuration."""
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, f"{kind}.yml")
            file.write_text(text)
            ended = self.run(kind, "--config", str(file), "--check", environment=environment)
            expect(ended.returncode == 0, f"{where}: {ended.stderr.strip()}")

    def understands(self, arguments, where):
        """Whether the program has this subcommand with these options."""
        command, *rest = arguments
        if command not in self.helps:
            ended = self.run(command, "--help")
            self.helps[command] = ended.stdout if ended.returncode == 0 else ""
        for option in [None, *(argument for argument in rest if argument.startswith("-"))]:
            known = self.helps[command] if option is None else re.search(rf"(?<!\S){option}\b", self.helps[command])
            expect(known, f"{where}: `seawall {command}` knows no {option or 'such command'}")


def addresses(node_yml):
    return {int(node["id"]): node["address"] for node in yaml.safe_load(node_yml)["cluster"]["nodes"]}


def compose(program):
    file = document(DEPLOY / "compose.yml")
    services = file["services"]
    node_yml = (DEPLOY / "compose/node.yml").read_text()
    agent_yml = (DEPLOY / "compose/agent.yml").read_text()
    named = addresses(node_yml)
    nodes = {}
    for name, service in services.items():
        environment = service.get("environment", {})
        if "SEAWALL_NODE_ID" in environment:
            nodes[int(environment["SEAWALL_NODE_ID"])] = f"{name}:7400"
            program.checks("node", node_yml, environment, f"compose/node.yml for {name}")
        for port in service.get("ports", []):
            here = str(port).startswith("127.0.0.1:")
            expect(here, f"compose.yml: {name} publishes {port}: nothing is encrypted yet")
        if name not in ("prometheus", "grafana"):
            private = service.get("network_mode") == "none" or service.get("networks") == ["cluster"]
            expect(private, f"compose.yml: {name} is on other networks than `cluster`")
        test = service.get("healthcheck", {}).get("test", [])
        if test[:2] == ["CMD", "seawall"]:
            program.understands(test[2:], f"compose.yml: health check of {name}")
        if service.get("image") == "seawall" and "command" in service:
            program.understands(service["command"], f"compose.yml: command of {name}")
    expect(file["networks"]["cluster"]["internal"], "compose.yml: the network `cluster` is not internal")
    expect(named == nodes, f"compose/node.yml names {named}, compose.yml has {nodes}")
    program.checks("agent", agent_yml, {}, "compose/agent.yml")
    ships_to = yaml.safe_load(agent_yml)["cluster"]
    expect(ships_to == list(nodes.values()), f"compose/agent.yml names {ships_to}")
    scraped = document(DEPLOY / "monitoring/prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]
    expect(
        scraped == [address.replace(":7400", ":7480") for address in nodes.values()],
        f"prometheus.yml scrapes {scraped}, which are not the nodes of compose.yml",
    )


def systemd(program):
    etc = DEPLOY / "systemd/etc"
    lines = (etc / "node.env").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    program.checks("node", (etc / "node.yml").read_text(), environment, "systemd/etc/node.yml")
    for file in sorted((etc / "agent").glob("*.yml")):
        program.checks("agent", file.read_text(), {}, str(file))
        socket = yaml.safe_load(file.read_text())["socket"]
        own = socket.startswith(f"/run/seawall-agent/{file.stem}/")
        expect(own, f"{file}: {socket} is not in its RuntimeDirectory")
    listens = yaml.safe_load((etc / "node.yml").read_text())["node"]
    for key in ("listen", "http"):
        expect(re.match(r"(10|127|192\.168)\.", listens[key]), f"systemd/etc/node.yml: {key} is no private address")
    for unit in DEPLOY.glob("systemd/*.service"):
        command = re.search(r"^ExecStart=/usr/bin/seawall (.*)$", unit.read_text(), re.MULTILINE)
        program.understands(command[1].split(), str(unit))


def kubernetes(program, rendered):
    kinds = {resource["kind"]: resource for resource in rendered}
    stateful, service = kinds["StatefulSet"]["spec"], kinds["Service"]["spec"]
    pod = stateful["template"]
    labels = pod["metadata"]["labels"]
    (apart,) = pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    drains = kinds["PodDisruptionBudget"]["spec"]
    selectors = {
        "StatefulSet": stateful["selector"]["matchLabels"],
        "Service": service["selector"],
        "PodDisruptionBudget": drains["selector"]["matchLabels"],
        "NetworkPolicy": kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        "anti-affinity": apart["labelSelector"]["matchLabels"],
    }
    for kind, selector in selectors.items():
        expect(selector.items() <= labels.items(), f"kubernetes: {kind} selects {selector}, the nodes are {labels}")
    expect(drains.get("maxUnavailable") == 1, "kubernetes: more than one node may be drained")
    parallel = stateful.get("podManagementPolicy") == "Parallel"
    expect(parallel, "kubernetes: pods that wait for one another form no cluster")
    expect(service.get("publishNotReadyAddresses"), "kubernetes: nodes that are not ready cannot find one another")
    for resource in rendered:
        kind = resource["kind"]
        opened = resource.get("spec", {}).get("type", "ClusterIP") != "ClusterIP"
        public = kind == "Ingress" or (kind == "Service" and opened)
        expect(not public, f"kubernetes: {kind} opens the cluster to the outside: nothing is encrypted yet")

    namespace, start = kinds["StatefulSet"]["metadata"]["namespace"], stateful["ordinals"]["start"]
    name = kinds["StatefulSet"]["metadata"]["name"]
    pods = {
        number: f"{name}-{number}.{stateful['serviceName']}.{namespace}.svc:7400"
        for number in range(start, start + stateful["replicas"])
    }
    node_yml = kinds["ConfigMap"]["data"]["node.yml"]
    expect(addresses(node_yml) == pods, f"kubernetes: node.yml names {addresses(node_yml)}, the pods are {pods}")
    (secret,) = documents(DEPLOY / "kubernetes/secret.example.yaml")
    (node,) = pod["spec"]["containers"]
    refers = [source["secretRef"]["name"] for source in node["envFrom"]]
    expect(refers == [secret["metadata"]["name"]], f"kubernetes: the nodes read the secret {refers}")
    for number in pods:
        environment = {"SEAWALL_NODE_ID": str(number), **secret["stringData"]}
        program.checks("node", node_yml, environment, f"kubernetes/config.yaml for node {number}")
    program.understands(node["args"], "kubernetes/statefulset.yaml")
    section = yaml.safe_load(node_yml)["node"]
    listens = {"grpc": section["listen"], "http": section["http"]}
    listens = {name: int(address.rsplit(":", 1)[1]) for name, address in listens.items()}
    opens = {port["name"]: port["containerPort"] for port in node["ports"]}
    serves = {port["targetPort"]: port["port"] for port in service["ports"]}
    expect(opens == listens, f"kubernetes: a pod opens {opens}, node.yml says {listens}")
    expect(serves == listens, f"kubernetes: the Service has {serves}, node.yml says {listens}")
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        asked = node.get(probe, {}).get("httpGet", {})
        expect((asked.get("path"), asked.get("port")) == (path, "http"), f"kubernetes: {probe} asks {asked}")
        source = Path("node/src/http/mod.rs").read_text()
        expect(f'"{path}"' in source, f"kubernetes: nodes serve no {path}")

    agent, application = documents(DEPLOY / "kubernetes/agent.example.yaml")
    agent_yml = agent["data"]["agent.yml"]
    program.checks("agent", agent_yml, {}, "kubernetes/agent.example.yaml")
    ships_to = yaml.safe_load(agent_yml)["cluster"]
    expect(ships_to == list(pods.values()), f"agent.example.yaml names {ships_to}")
    template = application["spec"]["template"]
    lets_in = kinds["NetworkPolicy"]["spec"]["ingress"][0]["from"][1]["podSelector"]["matchLabels"]
    let_in = lets_in.items() <= template["metadata"]["labels"].items()
    expect(let_in, "kubernetes: the network policy keeps the agent out")
    expect(application["spec"]["replicas"] == 1, "agent.example.yaml: a database has one writer")
    for container in template["spec"]["initContainers"]:
        program.understands(container["args"], f"agent.example.yaml: {container['name']}")
        urls = [argument for argument in container["args"] if argument.startswith("seawall://")]
        expect(all(url == f"seawall://{','.join(pods.values())}/app" for url in urls), f"agent.example.yaml: {urls}")
    version = tomllib.loads(Path("Cargo.toml").read_text())["workspace"]["package"]["version"]
    for container in [node, *template["spec"]["initContainers"]]:
        expect(container["image"] == f"seawall:{version}", f"kubernetes: {container['name']} runs {container['image']}")


def image(program):
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    manifest = tomllib.loads(Path("Cargo.toml").read_text())["workspace"]
    rust = manifest["package"]["rust-version"]
    expect(f"ARG RUST={rust}\n" in dockerfile, f"Dockerfile: Cargo.toml says Rust {rust}")
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for needed in [*manifest["members"], ".cargo", "Cargo.toml", "Cargo.lock"]:
        expect(f"!{needed}" in sent, f"Dockerfile.dockerignore: {needed} is left out, and the build needs it")
    for command in re.findall(r"^\s*CMD (\[.*\])$", dockerfile, re.MULTILINE):
        arguments = json.loads(command)
        program.understands(arguments[1:] if arguments[0] == "seawall" else arguments, "Dockerfile")


def served_metrics():
    """The metrics that a node serves, and what each is. (An agent serves none, so what it counts is not among them.)"""
    found = {}
    for file in [*Path("node/src").rglob("*.rs"), *Path("host/src").rglob("*.rs")]:
        for kind, name in re.findall(r'\b(counter|gauge|histogram)!\(\s*"(seawall_\w+)"', file.read_text()):
            found[name] = kind
    expect(len(found) > 20, f"only {len(found)} metrics were found in the source: is it written in another way now?")
    return found


def used_metrics(where, expression, served):
    used = set(re.findall(r"\bseawall_\w+", expression))
    for name in used:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        parts = served.get(base) == "histogram" and name != base
        expect(parts or served.get(name) in ("counter", "gauge"), f"{where}: {name} is no metric that a node serves")
    return used


def alerts(served):
    rules = [rule for group in document(DEPLOY / "monitoring/alerts.yml")["groups"] for rule in group["rules"]]
    operations = Path("docs/operations.md").read_text()
    tests = document(DEPLOY / "monitoring/alerts_test.yml")["tests"]
    samples = [
        sample["labels"] for test in tests for query in test["promql_expr_test"] for sample in query["exp_samples"]
    ]
    for rule in rules:
        name = rule["alert"]
        used_metrics(name, rule["expr"], served)
        tested = any(f'"{name}"' in labels for labels in samples)
        expect(tested, f"{name}: alerts_test.yml has no state that it fires in")
        expect(rule["labels"].get("severity") in ("warning", "critical"), f"{name}: severity is {rule['labels']}")
        expect({"summary", "description"} <= rule["annotations"].keys(), f"{name}: it does not say what is wrong")
        for heading in re.findall(r"See: ([^.]+)\.", rule["annotations"]["description"]):
            expect(f"\n## {heading}\n" in operations, f"{name}: docs/operations.md has no section `{heading}`")
        for page in re.findall(r"\bdocs/[\w.-]+\.md\b", rule["annotations"]["description"]):
            expect(Path(page).exists(), f"{name}: there is no {page}")


def dashboard(served):
    for file in sorted(DEPLOY.glob("monitoring/grafana/dashboards/*.json")):
        board = json.loads(file.read_text())
        variables = {variable["name"] for variable in board["templating"]["list"]}
        panels = board["panels"]
        expect(len({panel["id"] for panel in panels}) == len(panels), f"{file}: two panels have the same id")
        cells = {}
        rules = []
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                used_metrics(f"{file}: variable {variable['name']}", variable["query"]["query"], served)
        for panel in panels:
            where = f"{file}: {panel['title']}"
            at = panel["gridPos"]
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    expect(x < 24 and (x, y) not in cells, f"{where} lies on {cells.get((x, y), 'the edge')}")
                    cells[x, y] = panel["title"]
            for target in panel.get("targets", []):
                expression = target["expr"]
                expect(used_metrics(where, expression, served) or "up{" in expression, f"{where} shows no metric")
                unknown = set(re.findall(r"\$(\w+)", expression)) - variables - {"__rate_interval"}
                expect(not unknown, f"{where}: the variables {unknown} are not defined")
                plain = re.sub(r"\$\w+", "x", expression.replace("$__rate_interval", "5m"))
                rules.append({"record": f"panel:{panel['id']}:{target['refId']}", "expr": plain})
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as written:
            yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}, written)
            written.flush()
            command = ["promtool", "check", "rules", written.name]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            expect(ended.returncode == 0, f"{file}: {ended.stderr}")
        provisioned = document(DEPLOY / "monitoring/grafana/provisioning/dashboards/seawall.yml")["providers"][0]
        mounts = document(DEPLOY / "compose.yml")["services"]["grafana"]["volumes"]
        shown = f"./monitoring/grafana/dashboards:{provisioned['options']['path']}:ro"
        expect(shown in mounts, f"compose.yml: Grafana does not see {file.parent}")


def main():
    program, rendered = Program(os.path.abspath(sys.argv[1])), documents(sys.argv[2])
    compose(program)
    systemd(program)
    kubernetes(program, rendered)
    image(program)
    served = served_metrics()
    alerts(served)
    dashboard(served)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
