"""What holds of the dashboards, the rules and their runbooks as they are written, without running anything."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "grafana"
RULES = GRAFANA / "alerts/refold.yaml"
RULE_TESTS = sorted((ROOT / "tests/watch").glob("*_test.yaml"))
RUNBOOKS = ROOT / "docs/runbooks"


def boards():
    return [json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))]


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_link(url):
    """Why a link into the documentation leads nowhere; nothing if it does not."""
    base, _, inner = url.partition("/docs/")
    path, _, anchor = inner.partition("#")
    page = ROOT / "docs" / path
    if not base or not page.is_file():
        return f"{url} is no page of docs/"
    if anchor and anchor not in anchors(page.read_text()):
        return f"{url}: the page has no such heading"
    return None


def of_board(board):
    """What is wrong with a dashboard."""
    name, found, taken = board["uid"], [], {}
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        found.append(f"{name}: two panels have the same id")
    for panel in board["panels"]:
        where, place = f"{name}: {panel['title']}", panel["gridPos"]
        if place["x"] + place["w"] > 24:
            found.append(f"{where} is wider than the dashboard")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if (x, y) in taken:
                    found.append(f"{where} lies over {taken[x, y]}")
                taken[x, y] = panel["title"]
        if panel["type"] == "row":
            continue
        if not panel["fieldConfig"]["defaults"]["unit"] or len(panel["description"]) < 20:
            found.append(f"{where} has no unit or no description")
        if not all(target["legendFormat"] for target in panel["targets"]):
            found.append(f"{where} has a query without a legend")
        links = [link["url"] for link in panel["links"]]
        if not links:
            found.append(f"{where} has no link")
        found += [f"{where}: {why}" for why in map(broken_link, links) if why]
    return sorted(set(found))


def alerts():
    """The text of each alert, by name."""
    parts = re.split(r"^ +- (?=alert: |record: )|^  - name: .*$", RULES.read_text(), flags=re.MULTILINE)
    return {part.split()[1]: part for part in parts if part.startswith("alert: ")}


def of_alerts():
    """What is wrong with the alerts, their runbooks and their tests."""
    found, linked = [], set()
    tested = tests_of_alerts()
    for name, text in alerts().items():
        if not re.search(r"severity: (critical|warning)$", text, re.MULTILINE):
            found.append(f"{name} has no severity")
        found += [f"{name} has no {key}" for key in ("summary", "description", "runbook_url") if f"{key}:" not in text]
        for url in re.findall(r"runbook_url: (\S+)", text):
            why = broken_link(url)
            linked.add(url.rpartition("/")[2])
            found += [f"{name}: {why}"] if why else []
            page = RUNBOOKS / url.rpartition("/")[2]
            if page.is_file() and name not in page.read_text():
                found.append(f"{page.name} does not name {name}")
        if not any(fires for _, fires in tested.get(name, [])):
            found.append(f"no test shows {name} firing")
        if all(fires for _, fires in tested.get(name, [])):
            found.append(f"no test shows {name} not firing")
    found += [f"{page.name} is the runbook of no alert" for page in RUNBOOKS.glob("*.md") if page.name not in linked | {"README.md"}]
    return found


def tests_of_alerts():
    """For each alert, its tests: when, and whether it fires then."""
    tested = {}
    for path in RULE_TESTS:
        text = path.read_text()
        for name in re.findall(r"- alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n +- exp_labels", text):
            tested.setdefault(name, []).append((path.name, True))
        for part in re.split(r"^      - expr: |^  - name: ", text, flags=re.MULTILINE):
            asked = re.match(r'ALERTS\{alertname=(~?)"([^"]+)"', part)
            if not asked:
                continue
            pattern = asked[2] if asked[1] else re.escape(asked[2])
            firing = set(re.findall(r"'ALERTS\{alertname=\"(\w+)\"", part))
            for name in alerts():
                if re.fullmatch(pattern, name):
                    tested.setdefault(name, []).append((path.name, name in firing))
    return tested


def commands(page):
    """What a page tells people to type: its blocks marked `sh run`."""
    return re.findall(r"^```sh run\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
