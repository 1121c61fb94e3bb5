"""The comparison as bars, in SVG."""

from collections.abc import Sequence
from html import escape
from typing import Final

import attrs

from bench.performance.figures import Figure
from bench.performance.page import LOADS, STORMS, Row
from bench.performance.results import Results

WIDTH: Final = 330
LABELS: Final = 250
VALUES: Final = 150
BAR: Final = 16
STEP: Final = 26
COLUMNS: Final = 2
COLOURS: Final = {"ceiling": "#8a8f98", "get": "#b9bdc4", "mget": "#b9bdc4", "pickguard": "#1b6ca8"}
OTHER_COLOUR: Final = "#c9a227"
SHORT: Final = {"ceiling": "bare aiohttp (the ceiling)", "get": "with a GET for each", "mget": "with one MGET a tick"}


@attrs.frozen
class Bar:
    """One of several values to compare."""

    label: str
    colour: str
    figure: Figure


def draw(compared: Sequence[Row], results: Results) -> str:
    """Return what the table compares as a picture, and how this service's reads fare under each load."""
    panels = [
        panel("Processor time of a read, ms", _bars(compared, "read", "cpu_ms"), 3),
        panel("99th percentile of a read in a log-in storm, ms", _storm(compared), 0),
        panel("Log-ins a second on one core", _bars(compared, "log-in", "log_in_rate"), 1),
        panel("Memory of one idle worker, MiB", _bars(compared, "start", "rss"), 0),
        panel("Seconds from a cold start to the first answer", _bars(compared, "start", "seconds"), 2),
        panel("99th percentile of Pickguard's reads, ms", _loads(results), 0),
    ]
    shown = [(drawn, height) for drawn, height in panels if drawn]
    across, y, parts = LABELS + WIDTH + VALUES, 40, []
    for at in range(0, len(shown), COLUMNS):
        pair = shown[at : at + COLUMNS]
        parts += [f'<g transform="translate({20 + across * place} {y})">{drawn}</g>' for place, (drawn, _) in enumerate(pair)]
        y += max(height for _, height in pair) + 50
    style = "text{font:12px sans-serif;fill:#333}.t{font-size:14px;font-weight:600}.w{stroke:#333;stroke-width:1.5}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {COLUMNS * across + 20} {y}" '
        f'width="{COLUMNS * across + 20}" height="{y}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def panel(title: str, bars: Sequence[Bar], digits: int) -> tuple[str, int]:
    """Return bars with their title, and how high they are together. The whisker goes from the least to the greatest."""
    if not bars:
        return "", 0
    scale = WIDTH / max(bar.figure.high for bar in bars)
    parts = [f'<text class="t" x="0" y="-14">{escape(title)}</text>']
    for place, bar in enumerate(bars):
        y, middle = STEP * place, STEP * place + BAR / 2
        low, length, high = (scale * value for value in (bar.figure.low, bar.figure.median, bar.figure.high))
        parts += [
            f'<text x="{LABELS - 8}" y="{middle}" text-anchor="end" dy="0.35em">{escape(bar.label)}</text>',
            f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{bar.colour}"/>',
            f'<line class="w" x1="{LABELS + low:.1f}" x2="{LABELS + high:.1f}" y1="{middle}" y2="{middle}"/>',
            f'<text x="{LABELS + high + 8:.1f}" y="{middle}" dy="0.35em">{bar.figure.median:,.{digits}f}</text>',
        ]
    return "".join(parts), STEP * len(bars)


def _bars(compared: Sequence[Row], step: str, name: str) -> list[Bar]:
    return [bar for row in compared if (bar := _bar(row, row.figure(step, name)))]


def _storm(compared: Sequence[Row]) -> list[Bar]:
    return [bar for row in compared if (bar := _bar(row, row.p99_in_storm))]


def _loads(results: Results) -> list[Bar]:
    figures = {
        f"{cores}, {title}": results.figure(step, variant, "p99")
        for step, cores in STORMS.items()
        for variant, title in LOADS.items()
    }
    return [Bar(label, COLOURS["pickguard"], figure) for label, figure in figures.items() if figure]


def _bar(row: Row, figure: Figure | None) -> Bar | None:
    if figure is None:
        return None
    label = SHORT.get(row.name, row.title.replace("*", "").replace("`", ""))
    return Bar(label, COLOURS.get(row.name, OTHER_COLOUR), figure)
