"""Draws dashboards as Grafana lays them out, from what Prometheus answers: to be looked at, there being no Grafana here."""

import math
import re
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

import checks
import queries

CELL_WIDTH, CELL_HEIGHT = 0.62, 0.42
COLOURS = {"green": "#56a64b", "orange": "#ff9830", "red": "#e02f44", "blue": "#3274d9", "text": "#333333"}
LINES = ["#56a64b", "#f2cc0c", "#3274d9", "#ff780a", "#e02f44", "#8f3bb8", "#1f9e89", "#b877d9", "#7b6b43", "#888888", "#c4162a", "#0a437c"]
# Grafana's steps of each unit: what a value is divided by, and what is written after it.
SHORT = [(1e9, " Bil"), (1e6, " Mil"), (1e3, " K"), (1, "")]
BYTES = [(2**40, " TiB"), (2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")]
SECONDS = [(86400, " days"), (3600, " hours"), (60, " min"), (1, " s"), (1e-3, " ms"), (1e-6, " µs")]
AFTER = {"eps": " evt/s", "reqps": " req/s", "rowsps": " rows/s", "ops": " ops/s"}


def shown(value, unit, decimals=None):
    """A value as Grafana writes it."""
    if value is None or math.isnan(value):
        return "NaN"
    if unit == "percentunit":
        return f"{value * 100:.{2 if decimals is None else decimals}f}".rstrip("0").rstrip(".") + "%" if value else "0%"
    if unit == "ms":
        value, unit = value / 1e3, "s"
    steps, after = [(1, "")], ""
    if unit == "s":
        steps = SECONDS
    elif unit in ("bytes", "Bps"):
        steps, after = BYTES, "/s" if unit == "Bps" else ""
    elif unit != "none":
        steps, after = SHORT, AFTER.get(unit, "")
    scale, word = next(((scale, word) for scale, word in steps if abs(value) >= scale), steps[-1])
    if value == 0:
        word = {"s": " s", "bytes": " B", "Bps": " B"}.get(unit, "")
        scale = 1
    number = value / scale
    text = f"{number:.{decimals}f}" if decimals is not None else f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"
    return f"{text}{word}{after}"


def legend(target, metric):
    return re.sub(r"{{\s*(\w+)\s*}}", lambda name: metric.get(name[1], ""), target["legendFormat"])


def colour_of(panel, value):
    chosen = "text"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            chosen = step["color"]
    return COLOURS[chosen]


def fixed_colour(panel, text):
    """The colour that a series has by its legend."""
    for each in panel["fieldConfig"]["overrides"]:
        if each["matcher"]["id"] == "byRegexp" and re.fullmatch(each["matcher"]["options"].strip("/"), text):
            return COLOURS[each["properties"][0]["value"]["fixedColor"]]
    return None


def mapped(defaults, value):
    """The word and the colour of a value that has some."""
    for mapping in defaults.get("mappings", []):
        option = mapping["options"].get(f"{value:g}" if isinstance(value, float) else value)
        if option:
            return option["text"], COLOURS[option["color"]]
    return None


class Sheet:
    """One dashboard."""

    def __init__(self, prometheus, board, span, at):
        self.prometheus, self.board, self.instant = prometheus, board, at
        self.begun, self.end = span
        self.height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
        self.figure = plt.figure(figsize=(24 * CELL_WIDTH, self.height * CELL_HEIGHT + 0.6), facecolor="#f4f5f5", dpi=80)
        self.marks = [(mark["name"], mark["iconColor"], self.over(mark["expr"])) for mark in board["annotations"]["list"]]

    def over(self, expr):
        step = max(1, (self.end - self.begun) / 300)
        return self.prometheus.over(queries.filled(expr), self.begun, self.end, step)

    def at(self, expr):
        return self.prometheus.at(queries.filled(expr), self.instant)

    def draw(self, path):
        self.figure.text(0.01, 1 - 0.3 / (self.height * CELL_HEIGHT + 0.6), self.board["title"], fontsize=15, weight="bold", va="center")
        for panel in self.board["panels"]:
            self.panel(panel)
        self.figure.savefig(path)
        plt.close(self.figure)

    def area(self, place, within=(0.0, 0.0, 1.0, 1.0)):
        """The place of a panel on the sheet, or of a part of it, from the bottom left."""
        tall = self.height * CELL_HEIGHT + 0.6
        left, width = place["x"] / 24, place["w"] / 24
        bottom = (self.height - place["y"] - place["h"]) * CELL_HEIGHT / tall
        height = place["h"] * CELL_HEIGHT / tall
        gap_x, gap_y = 0.003, 0.06 / tall
        left, bottom, width, height = left + gap_x, bottom + gap_y, width - 2 * gap_x, height - 2 * gap_y
        x, y, w, h = within
        return [left + x * width, bottom + y * height, w * width, h * height]

    def panel(self, panel):
        place = panel["gridPos"]
        if panel["type"] == "row":
            axes = self.figure.add_axes(self.area(place))
            axes.axis("off")
            axes.text(0, 0.5, f"▾ {panel['title']}", fontsize=11, weight="bold", va="center")
            return
        back = self.figure.add_axes(self.area(place))
        back.set_facecolor("white")
        back.set_xticks([])
        back.set_yticks([])
        for spine in back.spines.values():
            spine.set_color("#dddddd")
        title = panel["title"]
        back.text(0.5, 1 - 0.14 / (place["h"] * CELL_HEIGHT), title, ha="center", va="center", fontsize=9.5, weight="bold", transform=back.transAxes)
        {"timeseries": self.lines, "stat": self.number, "state-timeline": self.states, "bargauge": self.bars, "table": self.table}[
            panel["type"]](panel, back)

    def inner(self, panel, left=0.0, bottom=0.0, top=0.16):
        place = panel["gridPos"]
        tall, wide = place["h"] * CELL_HEIGHT, place["w"] * CELL_WIDTH
        return self.figure.add_axes(self.area(place, (left / wide, bottom / tall, 1 - left / wide - 0.12 / wide, 1 - (bottom + top + 0.14) / tall)))

    def nothing(self, panel, back):
        back.text(0.5, 0.45, panel["fieldConfig"]["defaults"]["noValue"], ha="center", va="center", color="#888888", fontsize=10)

    def series(self, panel):
        return [(legend(target, each["metric"]), each) for target in panel["targets"] for each in self.over(target["expr"])]

    def lines(self, panel, back):
        found = self.series(panel)
        if not found:
            return self.nothing(panel, back)
        defaults = panel["fieldConfig"]["defaults"]
        custom, unit = defaults["custom"], defaults["unit"]
        texts = [text for text, _ in found]
        per_line = max(1, int(panel["gridPos"]["w"] * CELL_WIDTH / (0.3 + 0.075 * max(map(len, texts)))))
        rows = math.ceil(len(texts) / per_line)
        axes = self.inner(panel, left=0.75, bottom=0.32 + 0.19 * min(rows, 6))
        stack = {}
        for index, (text, each) in enumerate(found):
            points = [(float(at), float(value)) for at, value in each["values"]]
            if custom["stacking"]["mode"] == "normal":
                below = [stack.get(at, 0.0) for at, _ in points]
                points = [(at, value + under) for (at, value), under in zip(points, below, strict=True)]
                stack |= dict(points)
                axes.fill_between([at for at, _ in points], below, [value for _, value in points], lw=0, alpha=0.3,
                                  color=fixed_colour(panel, text) or LINES[index % 12])
            # A gap where there is no data, as Grafana leaves one.
            step = max(1, (self.end - self.begun) / 300) * 1.5
            xs, ys, last = [], [], None
            for at, value in points:
                if last is not None and at - last > step:
                    xs.append(at)
                    ys.append(math.nan)
                xs.append(at)
                ys.append(value)
                last = at
            axes.plot(xs, ys, color=fixed_colour(panel, text) or LINES[index % 12], lw=1.1, label=text)
        for step in defaults["thresholds"]["steps"]:
            if custom["thresholdsStyle"]["mode"] == "dashed" and step["value"] is not None:
                axes.axhline(step["value"], color=COLOURS[step["color"]], ls="--", lw=0.9)
        if custom["scaleDistribution"]["type"] == "log":
            axes.set_yscale("log")
        else:
            most = max((float(value) for _, each in found for _, value in each["values"]), default=0)
            axes.set_ylim(0, defaults.get("max", axes.get_ylim()[1] if most > 0 else 1))
            # A line at zero is seen.
            axes.set_ylim(-0.015 * axes.get_ylim()[1], axes.get_ylim()[1])
            if unit in ("bytes", "Bps"):
                step = 2.0 ** math.ceil(math.log2(max(axes.get_ylim()[1] / 6, 1)))
                axes.yaxis.set_major_locator(plt.MultipleLocator(step))
        self.time_axis(axes)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, unit, defaults.get("decimals"))))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        for _, colour, marked in self.marks:
            for each in marked:
                axes.axvline(float(each["values"][0][0]), color=COLOURS.get(colour, colour), ls=":", lw=1)
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.26 / (axes.get_position().height * self.figure.get_figheight())), fontsize=7,
                    ncol=per_line, frameon=False, borderaxespad=0, handlelength=1, columnspacing=1.2)

    def time_axis(self, axes):
        axes.set_xlim(self.begun, self.end)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: time.strftime("%H:%M:%S", time.gmtime(at))))
        axes.xaxis.set_major_locator(plt.MaxNLocator(5))
        axes.tick_params(labelsize=7, length=2, color="#aaaaaa")
        axes.grid(color="#eeeeee")
        axes.set_axisbelow(True)
        for side in ("top", "right", "left", "bottom"):
            axes.spines[side].set_visible(False)

    def number(self, panel, back):
        found = [each for target in panel["targets"] for each in self.at(target["expr"])]
        if not found:
            return self.nothing(panel, back)
        defaults = panel["fieldConfig"]["defaults"]
        value = float(found[0]["value"][1])
        back.text(0.5, 0.42, shown(value, defaults["unit"], defaults.get("decimals")), ha="center", va="center", fontsize=21, weight="bold",
                  color=colour_of(panel, value), transform=back.transAxes)

    def states(self, panel, back):
        found = self.series(panel)
        if not found:
            return self.nothing(panel, back)
        defaults = panel["fieldConfig"]["defaults"]
        axes = self.inner(panel, left=0.3 + 0.075 * max(len(text) for text, _ in found), bottom=0.28)
        values = sorted({float(value) for _, each in found for _, value in each["values"]})
        step = max(1, (self.end - self.begun) / 300)
        for row, (_, each) in enumerate(reversed(found)):
            spans = []
            for at, value in each["values"]:
                if spans and spans[-1][2] == float(value) and float(at) - spans[-1][1] < 1.5 * step:
                    spans[-1][1] = float(at) + step
                else:
                    spans.append([float(at), float(at) + step, float(value)])
            for first, last, value in spans:
                severe = len(defaults["thresholds"]["steps"]) > 1
                text, colour = mapped(defaults, value) or (f"{value:g}", colour_of(panel, value) if severe else LINES[values.index(value) % 12])
                axes.barh(row, last - first, left=first, height=0.8, color=colour, alpha=0.7)
                if last - first > (self.end - self.begun) / 25:
                    axes.text(first + step, row, text, va="center", fontsize=7)
        self.time_axis(axes)
        axes.grid(False)
        axes.set_yticks(range(len(found)), [text for text, _ in reversed(found)])

    def bars(self, panel, back):
        found = [(legend(target, each["metric"]), float(each["value"][1])) for target in panel["targets"] for each in self.at(target["expr"])]
        if not found:
            return self.nothing(panel, back)
        defaults = panel["fieldConfig"]["defaults"]
        axes = self.inner(panel, left=0.3 + 0.075 * max(len(text) for text, _ in found), bottom=0.05)
        most = defaults.get("max") or max(value for _, value in found) or 1
        for row, (_, value) in enumerate(reversed(found)):
            axes.barh(row, most, color="#eeeeee", height=0.6)
            colour = defaults["color"].get("fixedColor")
            axes.barh(row, value, color=COLOURS[colour] if colour else colour_of(panel, value), height=0.6)
            axes.text(most * 1.02, row, shown(value, defaults["unit"], defaults.get("decimals")), va="center", fontsize=8)
        axes.set_xlim(0, most * 1.25)
        axes.set_xticks([])
        axes.set_yticks(range(len(found)), [text for text, _ in reversed(found)], fontsize=8)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)

    def table(self, panel, back):
        rename = panel["transformations"][1]["options"]["renameByName"]
        alone = len(panel["targets"]) == 1
        rows = {}
        for target in panel["targets"]:
            for each in self.at(target["expr"]):
                labels = tuple(sorted((name, value) for name, value in each["metric"].items() if name != "__name__"))
                row = rows.setdefault(labels, dict(labels))
                row["Value" if alone else f"Value #{target['refId']}"] = float(each["value"][1])
        if not rows:
            return self.nothing(panel, back)
        overrides = {each["matcher"]["options"]: {part["id"]: part["value"] for part in each["properties"]}
                     for each in panel["fieldConfig"]["overrides"]}
        axes = self.inner(panel)
        axes.axis("off")
        fields = [field for field in rename if any(field in row for row in rows.values())]
        for column, field in enumerate(fields):
            name = rename[field]
            axes.text((column + 0.05) / len(fields), 0.95, name, fontsize=8, weight="bold", va="top")
            for line, row in enumerate(sorted(rows.values(), key=lambda row: row.get(fields[0], ""))):
                value, extra = row.get(field, ""), overrides.get(name, {})
                unit = extra.get("unit", panel["fieldConfig"]["defaults"]["unit"])
                text, colour = mapped({"mappings": extra.get("mappings", [])}, value) or (
                    shown(value, unit) if isinstance(value, float) else value, "#333333")
                axes.text((column + 0.05) / len(fields), 0.84 - 0.09 * line, text, fontsize=8, va="top", color=colour)


def all_boards(prometheus, span, at, folder):
    """Draws each dashboard into a file of its own: lines over a span of time, single values and tables as of one time in it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for board in checks.boards():
        Sheet(prometheus, board, span, at).draw(Path(folder) / f"{board['uid']}.png")
