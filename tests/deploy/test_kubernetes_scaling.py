"""The autoscalers ask for what the service exports, and agree with its resources."""

import subprocess
from pathlib import Path

import yaml

from tests.deploy.manifests import DIRECTORY, Manifest, one
from tests.deploy.promql import known_names, names


def test_scaling_asks_for_the_time_texts_wait_and_an_idle_service_waits_none(
    tmp_path: Path,
) -> None:
    scaled = yaml.safe_load((DIRECTORY / "components" / "keda" / "scaled-object.yaml").read_text())
    [trigger] = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert names(query) == {"embed_queue_wait_seconds_bucket"} <= known_names()

    def case(growth: str, answer: float) -> Manifest:
        bucket = 'embed_queue_wait_seconds_bucket{namespace="embedding-api",le="%s"}'
        series = [{"series": bucket % le, "values": f"0+{growth}x10"} for le in ("1", "+Inf")]
        series.append({"series": bucket % "0.5", "values": "0+0x10"})
        sample = {"labels": "{}", "value": answer}
        test = {"expr": query, "eval_time": "10m", "exp_samples": [sample]}
        return {
            "interval": "1m",
            "input_series": series if growth else [],
            "promql_expr_test": [test],
        }

    cases = tmp_path / "cases.yml"
    tests = [
        case("", 0),
        case("0", 0),
        case("60", 0.95),
    ]  # no pod yet, an idle one, one where all wait 0.5 to 1 s
    cases.write_text(yaml.safe_dump({"tests": tests}))
    done = subprocess.run(
        ["promtool", "test", "rules", cases], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_node_of_two_cores_has_room_for_a_pod_and_the_autoscaler_knows_it() -> None:
    deployment = one("Deployment")["spec"]
    [container] = deployment["template"]["spec"]["containers"]
    request, limit = (float(container["resources"][kind]["cpu"]) for kind in ("requests", "limits"))
    assert request < 2 <= limit
    [metric] = one("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert (
        metric["resource"]["target"]["averageUtilization"] * request == 70 * limit
    )  # % of what a pod can use at most


def test_only_the_autoscaler_says_how_many_replicas_there_are() -> None:
    assert "replicas" not in one("Deployment")["spec"]
    assert one("HorizontalPodAutoscaler")["spec"]["minReplicas"] == 2
