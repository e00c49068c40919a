// Series over time, drawn by uPlot: canvas, 40 kB, and ten thousand points in a few milliseconds; larger libraries bring what is not needed here.

import type { JSX } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';

import { DAY, HOUR, MINUTE, SECOND, count, day, short, span, time, utc } from '../format';
import type { Line } from '../series';
import { isDark } from '../state';
import { useWidth } from './ui';

export interface Drawn {
  label: string;
  /** From 1: which of the colours. */
  color: number;
  line: Line;
}

interface Props {
  starts: readonly number[];
  lines: readonly Drawn[];
  from: number;
  to: number;
  step: number;
  height: number;
  /** Room for names at the ends of lines, where it is wide enough. */
  withLabels?: boolean;
  /** What is seen, for those who do not see it. */
  summary: string;
  onBrush?: ((from: number, to: number) => void) | undefined;
}

interface Tip {
  index: number;
  left: number;
  width: number;
}

interface Label {
  label: string;
  color: number;
  top: number;
}

const LABELS_FROM = 760;
const LABEL_ROOM = 140;
const LABEL_HEIGHT = 18;

export function Chart(props: Props): JSX.Element {
  const { starts, lines, from, to, step, height, summary } = props;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const width = useWidth(box);
  const [tip, setTip] = useState<Tip | null>(null);
  const [labels, setLabels] = useState<Label[]>([]);
  const dark = isDark.value;
  const hasLabels = props.withLabels === true && width >= LABELS_FROM && lines.length > 0;

  const shape = `${lines.map(drawn => drawn.color).join()}|${dark}|${hasLabels}|${width > 0}`;
  useLayoutEffect(() => {
    const element = box.current;
    if (element === null || width === 0) return;
    const style = getComputedStyle(document.documentElement);
    const color = (name: string): string => style.getPropertyValue(name).trim();
    const font = `12px ${style.getPropertyValue('--sans')}`;
    const quiet = color('--quiet');
    const series: uPlot.Series[] = [{}];
    for (const drawn of lines) {
      const stroke = color(`--line-${drawn.color}`);
      const common = { stroke, width: 1.75, spanGaps: false };
      // A value between two gaps would be no line at all.
      const alone = (u: uPlot, index: number): number[] => {
        const values = Array.from(u.data[index] ?? []) as (number | null | undefined)[];
        return values.flatMap((value, at) => (value != null && values[at - 1] == null && values[at + 1] == null ? [at] : []));
      };
      const points = { show: true, size: 4, width: 0, fill: stroke, filter: alone } as uPlot.Series.Points;
      const fill = lines.length === 1 ? `${stroke}1f` : undefined;
      series.push({ ...common, points, ...(fill === undefined ? {} : { fill }) });
      series.push({ ...common, dash: [4, 4], points });
    }
    const options: uPlot.Options = {
      width,
      height,
      padding: [12, hasLabels ? LABEL_ROOM : 20, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 7, width: 2, fill: color('--paper') }, drag: { x: true, y: false, setScale: false }, focus: { prox: -1 } },
      scales: {
        x: { time: true, range: () => [latest.current.from / SECOND, latest.current.to / SECOND] },
        y: { range: (_u, least, most) => yRange(least, most) },
      },
      axes: [
        { stroke: quiet, font, grid: { show: false }, ticks: { show: false }, gap: 8, size: 32, space: 80, values: (_u, splits, _axis, _space, increment) => xLabels(splits, increment * SECOND) },
        { stroke: quiet, font, grid: { stroke: color('--hairline'), width: 1 }, ticks: { show: false }, gap: 8, size: axisSize, space: 48, values: (_u, splits) => splits.map(value => short(value)) },
      ],
      series,
      hooks: {
        setCursor: [
          u => {
            const { idx, left } = u.cursor;
            setTip(idx == null || left == null || left < 0 ? null : { index: idx, left: left + u.bbox.left / devicePixelRatio, width: u.width });
          },
        ],
        setSelect: [
          u => {
            if (u.select.width < 4) return;
            const begin = u.posToVal(u.select.left, 'x') * SECOND;
            const end = u.posToVal(u.select.left + u.select.width, 'x') * SECOND;
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            latest.current.onBrush?.(begin, end);
          },
        ],
        draw: [
          u => {
            if (hasLabels) setLabels(before => keepSame(before, place(u, latest.current.lines)));
            else setLabels(before => (before.length === 0 ? before : []));
          },
        ],
      },
    };
    const made = new uPlot(options, table(starts, lines), element);
    plot.current = made;
    const onTouch = (event: PointerEvent): void => {
      if (event.pointerType === 'mouse') return;
      const area = made.over.getBoundingClientRect();
      made.setCursor({ left: event.clientX - area.left, top: 0 });
    };
    made.over.style.touchAction = 'pan-y';
    made.over.addEventListener('pointermove', onTouch);
    return () => {
      made.destroy();
      plot.current = null;
    };
  }, [shape]);

  useLayoutEffect(() => {
    plot.current?.setSize({ width, height });
  }, [width, height]);
  useEffect(() => {
    plot.current?.setData(table(starts, lines));
  }, [starts, lines, from, to]);

  const move = (event: KeyboardEvent): void => {
    const u = plot.current;
    if (u === null || starts.length === 0) return;
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === 'Escape') setTip(null);
    if (by === undefined && event.key !== 'Home' && event.key !== 'End') return;
    event.preventDefault();
    const last = starts.length - 1;
    const at = event.key === 'Home' ? 0 : event.key === 'End' ? last : Math.max(0, Math.min(last, (u.cursor.idx ?? last) + (by ?? 0)));
    u.setCursor({ left: u.valToPos((starts[at] ?? 0) / SECOND, 'x'), top: 0 });
  };

  return (
    <div class="chart">
      <div ref={box} role="img" aria-label={summary} tabIndex={0} onKeyDown={move} onBlur={() => setTip(null)} />
      {hasLabels &&
        labels.map(label => (
          <span key={label.label} class="chart-label" style={{ top: `${label.top}px`, marginLeft: `-${LABEL_ROOM}px`, color: `var(--line-${label.color})` }}>
            <bdi>{label.label}</bdi>
          </span>
        ))}
      {tip !== null && <Values tip={tip} starts={starts} lines={lines} step={step} />}
    </div>
  );
}

function Values({ tip, starts, lines, step }: { tip: Tip; starts: readonly number[]; lines: readonly Drawn[]; step: number }): JSX.Element | null {
  const at = starts[tip.index];
  if (at === undefined) return null;
  const rows = lines
    .map(drawn => ({ drawn, value: drawn.line.closed[tip.index] ?? drawn.line.open[tip.index] ?? null, isOpen: drawn.line.closed[tip.index] == null }))
    .sort((a, b) => (b.value ?? -1) - (a.value ?? -1));
  const isLeft = tip.left > tip.width / 2;
  const side = isLeft ? { right: `${tip.width - tip.left + 12}px` } : { left: `${tip.left + 12}px` };
  const isOpen = rows.some(row => row.isOpen && row.value !== null);
  return (
    <div class="chart-tip" style={side} role="status">
      <div class="quiet number">
        {day(at)} {time(at, step < MINUTE)}
        {step < DAY && ` – ${time(at + step, step < MINUTE)}`}
        {isOpen && ' · still open'}
      </div>
      <div class="quiet number">{utc(at)}</div>
      {rows.map(({ drawn, value }) => (
        <div class="tip-row" key={drawn.label}>
          <i class="tip-swatch" style={{ background: `var(--line-${drawn.color})` }} />
          <bdi>{drawn.label}</bdi>
          <span class="number strong">{value === null ? 'no data' : count(value)}</span>
        </div>
      ))}
      {step >= HOUR && <div class="quiet">{span(step)}</div>}
    </div>
  );
}

function table(starts: readonly number[], lines: readonly Drawn[]): uPlot.AlignedData {
  return [starts.map(start => start / SECOND), ...lines.flatMap(drawn => [drawn.line.closed, drawn.line.open])] as uPlot.AlignedData;
}

/** From zero, unless values are negative; never flat. */
function yRange(least: number | null, most: number | null): [number, number] {
  const top = most ?? 1;
  const bottom = Math.min(0, least ?? 0);
  if (top <= bottom) return [bottom, bottom + 1];
  return [bottom, top + (top - bottom) * 0.06];
}

function axisSize(_u: uPlot, values: string[] | null): number {
  const longest = Math.max(0, ...(values ?? []).map(text => text.length));
  return 16 + longest * 7;
}

function xLabels(splits: number[], increment: number): string[] {
  let before = '';
  return splits.map(split => {
    const at = split * SECOND;
    const date = day(at);
    const isNewDay = date !== before;
    before = date;
    if (increment >= DAY) return date;
    const isMidnight = new Date(at).getHours() === 0 && new Date(at).getMinutes() === 0;
    return isNewDay && isMidnight ? date : time(at, increment < MINUTE);
  });
}

/** The names at the ends of their lines, pushed apart where lines end close to each other. */
function place(u: uPlot, lines: readonly Drawn[]): Label[] {
  const top = u.bbox.top / devicePixelRatio;
  const bottom = top + u.bbox.height / devicePixelRatio;
  const ends = lines.flatMap(drawn => {
    const value = drawn.line.open.findLast(known => known !== null) ?? drawn.line.closed.findLast(known => known !== null);
    return value == null ? [] : [{ label: drawn.label, color: drawn.color, top: top + u.valToPos(value, 'y') }];
  });
  ends.sort((a, b) => a.top - b.top);
  let floor = -Infinity;
  for (const end of ends) {
    end.top = Math.max(end.top, floor);
    floor = end.top + LABEL_HEIGHT;
  }
  let ceiling = bottom;
  for (const end of ends.reverse()) {
    end.top = Math.round(Math.min(end.top, ceiling));
    ceiling = end.top - LABEL_HEIGHT;
  }
  return ends;
}

function keepSame(before: Label[], after: Label[]): Label[] {
  return JSON.stringify(before) === JSON.stringify(after) ? before : after;
}
