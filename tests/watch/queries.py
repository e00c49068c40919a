"""Asks a real Prometheus what the panels of the dashboards ask."""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

# What Grafana writes in place of its own variables.
BUILT_IN = {"__rate_interval": "12s", "__interval": "3s", "__range": "2m"}
# What Prometheus itself has while an alert is pending or fires: while all is well there is no such series.
ALERTS = {"ALERTS": {"namespace", "alertname", "alertstate", "severity"}}
LABEL = r"[a-zA-Z_]\w*"
# Words of PromQL that stand where a metric could.
WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset", "inf", "nan"}


class Prometheus:
    """The HTTP API of one Prometheus."""

    def __init__(self, url):
        self.url = url

    def _get(self, path, **query):
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query, doseq=True)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            answer = json.load(error)
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        return answer["data"]

    def at(self, query, time=None):
        """Series with their last value."""
        when = {} if time is None else {"time": time}
        return self._get("query", query=query, **when)["result"]

    def over(self, query, start, end, step=2):
        """Series with their values over time."""
        return self._get("query_range", query=query, start=start, end=end, step=step)["result"]

    def labels_of(self, metric, start, end):
        """The labels that series of a metric have; none: there is no such metric."""
        found = self._get("series", **{"match[]": metric, "start": start, "end": end})
        return {label for series in found for label in series}

    def values_of(self, label, metric, start, end):
        return self._get(f"label/{label}/values", **{"match[]": metric, "start": start, "end": end})

    def get(self, path):
        return self._get(path)


@dataclass
class Query:
    """A query of a dashboard: of a panel, a variable or an annotation."""

    board: str
    title: str
    expr: str
    legend: str = ""

    def __str__(self):
        return f"{self.board}: {self.title}"


def panels(board):
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board):
    """All queries that a dashboard asks, variables filled in."""
    name = board["uid"]
    for panel in panels(board):
        for target in panel["targets"]:
            yield Query(name, panel["title"], filled(target["expr"]), target["legendFormat"])
    for each in board["annotations"]["list"]:
        # Each point of such a query is a mark.
        yield Query(name, f"annotation {each['name']}", filled(each["expr"]), each["titleFormat"])


def filled(expr):
    """A query with all values of each variable selected."""
    return re.sub(r"\$\{?(\w+)\}?", lambda name: BUILT_IN.get(name[1], ".*"), expr)


def used(expr):
    """The metrics that a query reads, with the labels that each is selected by; and the labels by which it groups or matches."""
    made = set(re.findall(rf'count_values[^"]*\(\s*"({LABEL})"', expr)) | set(re.findall(rf'label_replace\([^"]*"({LABEL})"', expr))
    strings = re.compile(r'"(?:[^"\\]|\\.)*"')
    bare = strings.sub('""', expr)
    grouped = set()
    for names in re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", bare):
        grouped |= set(re.findall(LABEL, names))
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\[[^]]*\]|\boffset\s+\w+", " ", bare)
    metrics = {}
    for name, follows in re.findall(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\s*(\(|\{[^}]*\})?", bare):
        if follows == "(" or name.lower() in WORDS:
            continue
        selected = re.findall(rf"({LABEL})\s*(?:=~|!~|!=|=)", follows)
        metrics.setdefault(name, set()).update(selected)
    return metrics, grouped - made


def has_data(series):
    """Whether there is one number in it."""
    values = (value for each in series for _, value in each.get("values", [each.get("value")]))
    return any(math.isfinite(float(value)) for value in values)


def faults(prometheus, query, start, end, may_be_absent=()):
    """What is wrong with a query over what was scraped: an error, no data, a metric or a label that is not there."""
    try:
        series = prometheus.over(query.expr, start, end)
    except ValueError as error:
        return [str(error)]
    found = []
    metrics, grouped = used(query.expr)
    absent = [metric for metric in metrics if metric in may_be_absent]
    if not metrics:
        found.append(f"reads no metric: {query.expr}")
    if not has_data(series) and not absent:
        found.append(f"no data: {query.expr}")
    there = set()
    for metric, selected in metrics.items():
        if metric in absent:
            continue
        labels = ALERTS.get(metric) or prometheus.labels_of(metric, start, end)
        if not labels:
            found.append(f"there is no metric {metric}")
        found += [f"{metric} has no label {label}" for label in sorted(selected - labels) if labels]
        there |= labels
    if not absent:
        found += [f"no metric of it has the label {label}" for label in sorted(grouped - there) if there]
        for label in re.findall(r"{{\s*(\w+)\s*}}", query.legend):
            if any(label not in each["metric"] for each in series):
                found.append(f"the legend names a label that is not there: {label}")
    return found
