from xml.etree import ElementTree

import pytest

from app.bench.chart import Axis, line_chart
from app.bench.plots import cumulative

NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_a_chart_is_valid_svg_with_a_curve_per_series() -> None:
    series = {"ours & theirs": [(0.0, 0.0), (10.0, 1.0)], "<other>": [(5.0, 0.5)]}
    root = ElementTree.fromstring(line_chart("t", "x", "y", series, marked=True))
    assert len(root.findall(f"{NAMESPACE}polyline")) == 2
    assert len(root.findall(f"{NAMESPACE}circle")) == 3
    labels = {element.text for element in root.findall(f"{NAMESPACE}text")}
    assert {"ours & theirs", "<other>"} <= labels


def test_the_largest_values_are_at_the_far_corner() -> None:
    root = ElementTree.fromstring(line_chart("t", "x", "y", {"a": [(0.0, 0.0), (8.0, 2.0)]}))
    curve = root.find(f"{NAMESPACE}polyline")
    assert curve is not None
    (x0, y0), (x1, y1) = (point.split(",") for point in curve.attrib["points"].split())
    assert float(x0) == 70
    assert float(x1) == 700
    assert float(y1) == 40 < float(y0)


@pytest.mark.parametrize("high", [0.003, 1.0, 7.3, 48000.0])
def test_ticks_are_few_round_and_within(high: float) -> None:
    ticks = Axis("x", 0.0, high).ticks()
    assert 3 <= len(ticks) <= 7
    assert all(0 <= tick <= high * 1.0001 for tick in ticks)


def test_a_distribution_ends_at_its_largest_value_with_all_requests() -> None:
    points = cumulative([value / 1000 for value in range(1000, 0, -1)])
    assert points[-1] == (1000.0, 1.0)
    assert len(points) <= 202
    assert points == sorted(points)
