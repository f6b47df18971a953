"""A Kubernetes API that knows which kinds exist, says yes to everything, and remembers it.

Enough for `helm install` to run to its end: discovery, lookups that find nothing, creations that
succeed. It checks nothing itself; the schemas do that with what it recorded.
"""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import yaml

CORE = "v1"
POLL_S = 0.02  # how soon it sees that it is to end
# API group and version, and the kinds in it that a chart of ours may create.
KINDS: dict[str, tuple[str, ...]] = {
    CORE: (
        "ConfigMap",
        "PersistentVolumeClaim",
        "Pod",
        "Secret",
        "Service",
        "ServiceAccount",
    ),
    "apps/v1": ("Deployment",),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "batch/v1": ("Job",),
    "gateway.networking.k8s.io/v1": ("HTTPRoute",),
    "inference.networking.k8s.io/v1": ("InferencePool",),
    "keda.sh/v1alpha1": ("ScaledObject",),
    "leaderworkerset.x-k8s.io/v1": ("LeaderWorkerSet",),
    "monitoring.coreos.com/v1": ("PodMonitor", "PrometheusRule", "ServiceMonitor"),
    "networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
    "policy/v1": ("PodDisruptionBudget",),
}


def plural(kind: str) -> str:
    name = kind.lower()
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


class RecordingApi(http.server.ThreadingHTTPServer):
    """`created` has every object that was posted, in order; `release` Helm's record of it all."""

    daemon_threads = True
    request_queue_size = 128  # Helm asks for all groups at once; a full queue costs it a second

    def __init__(self, version: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.version = version
        self.forget()

    def forget(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.release = b""

    @property
    def kubeconfig(self) -> str:
        """As block YAML: the Helm library takes anything else for the name of a file."""
        cluster = {"server": f"http://127.0.0.1:{self.server_port}"}
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )

    def discover(self, path: str) -> dict[str, Any] | None:
        """The answer to a discovery path; None where it is not one."""
        if path == "/version":
            major, minor = self.version.split(".")[:2]
            return {"major": major, "minor": minor, "gitVersion": f"v{self.version}"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": [CORE]}
        if path == "/apis":
            groups = [describe_group(api) for api in KINDS if api != CORE]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        api = path.removeprefix("/apis/").removeprefix("/api/")
        return describe_kinds(api) if api in KINDS else None


def describe_group(api: str) -> dict[str, Any]:
    version = {"groupVersion": api, "version": api.split("/")[1]}
    return {"name": api.split("/")[0], "versions": [version], "preferredVersion": version}


def describe_kinds(api: str) -> dict[str, Any]:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    resources = [
        {
            "name": plural(kind),
            "singularName": kind.lower(),
            "namespaced": True,
            "kind": kind,
            "verbs": verbs,
        }
        for kind in KINDS[api]
    ]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api,
        "resources": resources,
    }


class Handler(http.server.BaseHTTPRequestHandler):
    server: RecordingApi

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.rstrip("/")
        answer = self.server.discover(path)
        if answer is not None:
            self.answer(200, answer)
        elif path.endswith("/secrets"):  # Helm asks for earlier releases
            self.answer(200, {"kind": "SecretList", "apiVersion": "v1", "items": []})
        else:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
            self.answer(404, {**status, "reason": "NotFound"})

    def do_POST(self) -> None:
        """JSON is an object of the chart; the release's own secret comes as protobuf."""
        body, kind = self.read_body(), self.headers["Content-Type"]
        if kind.startswith("application/json"):
            self.server.created.append(json.loads(body))
        else:
            self.server.release = body
        self.send(201, body, kind)

    def do_PUT(self) -> None:
        self.send(200, self.read_body(), self.headers["Content-Type"])

    def read_body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, status: int, document: dict[str, Any]) -> None:
        self.send(status, json.dumps(document).encode(), "application/json")

    def send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve_recording_api(version: str) -> Iterator[RecordingApi]:
    with RecordingApi(version) as api:
        threading.Thread(target=api.serve_forever, args=(POLL_S,), daemon=True).start()
        yield api
        api.shutdown()
