#!/usr/bin/env python3
"""Draws what `eventkit bench --curve --json` has measured: answers' p50 and p99 over the load.

    eventkit bench --curve --json | python3 benches/curve.py > benches/curve.svg

Reads standard input, or the file that is named; writes an SVG to standard output.
"""

import json
import math
import sys
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 70, 56, 60
LINES = [("p50_ms", "p50", "#1f6feb"), ("p99_ms", "p99", "#c2410c")]


def steps(maximum):
    """Round numbers from 0 to at least that, about six of them."""
    rough = maximum / 6
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * of for of in (1, 2, 5, 10) if power * of >= rough)
    return [step * n for n in range(math.ceil(maximum / step) + 1)]


def scales(points):
    """Functions from a rate and from milliseconds to pixels, and the ticks of both axes."""
    rates = steps(max(point["asked_per_second"] for point in points))
    times = [point["latency"][name] for point in points for name, _, _ in LINES]
    low = math.floor(math.log10(max(min(times), 0.001)))
    high = max(math.ceil(math.log10(max(times))), low + 1)

    def x(rate):
        return LEFT + rate / rates[-1] * (WIDTH - LEFT - RIGHT)

    def y(ms):
        part = (math.log10(max(ms, 10 ** low)) - low) / (high - low)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    return x, y, rates, range(low, high + 1)


def text(x, y, words, anchor="middle", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>'


def axes(x, y, rates, powers):
    """The grid with its numbers, and what they are."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for power in powers:
        at = y(10 ** power)
        yield f'<path d="M{LEFT} {at:.1f}H{right}" stroke="#d0d7de"/>'
        yield text(LEFT - 8, at + 4, f"{10.0 ** power:g}", "end")
        for digit in range(2, 10 if power != powers[-1] else 0):
            yield f'<path d="M{LEFT} {y(digit * 10 ** power):.1f}H{right}" stroke="#f0f2f4"/>'
    for rate in rates:
        yield f'<path d="M{x(rate):.1f} {bottom}v5" stroke="#57606a"/>'
        yield text(x(rate), bottom + 20, f"{rate:,.0f}")
    yield f'<path d="M{LEFT} {bottom}H{right}" stroke="#57606a"/>'
    yield text((LEFT + right) / 2, HEIGHT - 14, "single events asked for, requests/s")
    middle = (TOP + bottom) / 2
    yield text(18, middle, "time to the answer, ms (log)",
               more=f'transform="rotate(-90 18 {middle:.1f})"')


def line(x, y, points, name, label, colour):
    places = [(x(point["asked_per_second"]), y(point["latency"][name])) for point in points]
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for across, down in places:
        yield f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>'
    across, down = places[-1]
    yield text(across + 8, down + 4, label, "start", f'fill="{colour}" font-weight="bold"')


def possible(x, rate):
    """What the closed loop reached."""
    yield (f'<path d="M{x(rate):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#57606a" '
           f'stroke-dasharray="4 4"/>')
    yield text(x(rate), TOP - 8, f"closed loop: {rate:,.0f}/s", "middle", 'fill="#57606a"')


def draw(curve):
    points, machine = curve["points"], curve["machine"]
    x, y, rates, powers = scales(points)
    title = (f"eventkit {curve['version']}: every answer after its sync; "
             f"{machine['cores']} cores, load generator included, {machine['filesystem']}")
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12" '
           f'fill="#1f2328" role="img">')
    yield f"<title>{escape(title)}</title>"
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    yield text(LEFT, 28, title, "start", 'font-size="14"')
    yield from axes(x, y, rates, powers)
    yield from possible(x, curve["closed"]["answered_per_second"])
    for name, label, colour in LINES:
        yield from line(x, y, points, name, label, colour)
    yield "</svg>"


def main():
    with open(sys.argv[1]) if len(sys.argv) > 1 else sys.stdin as file:
        print("\n".join(draw(json.load(file))))


if __name__ == "__main__":
    main()
