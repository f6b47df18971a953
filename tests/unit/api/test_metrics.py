from prometheus_client import CollectorRegistry

from app.api.metrics import Metrics
from app.core.quality import Recovery


def test_the_queues_depth_is_that_of_all_tenants_together() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for tenant, change in (("a", 1), ("b", 1), ("b", 1), ("a", -1)):
        metrics.tenants.waiting(tenant, change)
    assert registry.get_sample_value("gateway_queue_depth") == 2
    assert registry.get_sample_value("gateway_queue_waiting", {"tenant": "b"}) == 2


def test_recovery_has_no_series_until_something_is_proved() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    assert registry.get_sample_value("gateway_recovery_ratio", {"bound": "low"}) is None
    metrics.model.show_recovery(Recovery(99.5, 98.75, 100.25))
    found = {
        bound: registry.get_sample_value("gateway_recovery_ratio", {"bound": bound})
        for bound in ("low", "estimate", "high")
    }
    assert found == {"low": 0.9875, "estimate": 0.995, "high": 1.0025}
