// The chart of one key or several: reads, follows, and chooses the step by the width there is.

import { useComputed } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useMemo, useRef } from 'preact/hooks';

import { DAY, count, rfc3339, span } from '../format';
import { type Range, type Stretch, axis, combineOf, combineWord, line, stepFor, stepStart } from '../series';
import { SeriesStore } from '../series-store';
import { connection, isVisible, now } from '../state';
import type { ViewDocument } from '../types';
import { Chart, type Drawn } from './Chart';
import { Name, Time, Wide, useWidth } from './ui';

export interface Seen {
  starts: number[];
  lines: Drawn[];
  step: number;
}

interface Props {
  view: ViewDocument;
  keys: readonly string[];
  colors?: readonly number[];
  range: Range;
  height: number;
  withLabels?: boolean;
  asTable?: boolean;
  onBrush?: (from: number, to: number) => void;
  onSeen?: (seen: Seen) => void;
}

/** The right end of a chart that follows the present moves in steps, not with every second. */
const MOVES_EVERY = 5_000;

export function KeySeries({ view, keys, colors, range, height, withLabels, asTable, onBrush, onSeen }: Props): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const identity = `${view.view}|${view.partition_key?.join()}|${view.dashboard?.time}|${view.dashboard?.value}`;
  const store = useMemo(() => new SeriesStore(view), [identity]);
  useEffect(() => () => store.stop(), [store]);
  const present = useComputed(() => Math.ceil(now.value / MOVES_EVERY) * MOVES_EVERY).value;
  const slide = view.window?.slide_ms ?? 60_000;

  // What is read begins a whole number of hours back, so that time passing does not read anew.
  const readFrom = range.is === 'all' ? null : range.is === 'between' ? range.from : present - range.ms;
  const aligned = readFrom === null ? null : Math.floor(readFrom / (DAY / 24)) * (DAY / 24);
  const keyList = JSON.stringify(keys);
  useEffect(() => {
    if (isVisible.value) store.want(keys, aligned);
  }, [store, keyList, aligned]);

  const news = store.news.value;
  const watermark = store.watermark.value;
  const seen = useMemo(() => {
    const all = keys.map(key => store.series(key));
    const firsts = all.flatMap(series => (series.points[0] === undefined ? [] : [series.points[0].at]));
    const knownFrom = firsts.length === 0 ? Infinity : Math.min(...firsts);
    const to = range.is === 'between' ? range.to : present;
    const from = range.is === 'between' ? range.from : range.is === 'last' ? present - range.ms : Math.min(knownFrom, to - 10 * slide);
    const zoneMs = -new Date(to).getTimezoneOffset() * 60_000;
    const combine = combineOf(view, view.dashboard?.value ?? '');
    const step = stepFor(to - from, width === 0 ? 600 : width, slide);
    const stretch: Stretch = {
      from: stepStart(from, step, zoneMs) < from ? stepStart(from, step, zoneMs) + step : from,
      to,
      step,
      combine,
      watermark: watermark ?? 0,
      windowMs: view.window?.size_ms ?? slide,
      knownFrom,
      zoneMs,
    };
    const starts = axis(stretch);
    const lines: Drawn[] = all.map((series, index) => ({ label: series.key, color: colors?.[index] ?? index + 1, line: line(series.points, stretch, starts) }));
    return { all, from, to, step, combine, starts, lines };
  }, [news, watermark, keyList, width, present, JSON.stringify(range), identity]);
  useEffect(() => onSeen?.({ starts: seen.starts, lines: seen.lines, step: seen.step }), [seen]);

  const isReading = seen.all.some(series => series.isReading && series.points.length === 0);
  const failed = seen.all.filter(series => series.error !== null);
  const empty = seen.all.filter(series => !series.isReading && series.error === null && series.points.length === 0);
  const cut = seen.all.filter(series => !series.complete);
  const summary = summaryOf(seen.lines, seen.step);
  return (
    <div ref={box}>
      {asTable === true ? (
        <Table starts={seen.starts} lines={seen.lines} step={seen.step} />
      ) : (
        <div class={isReading || connection.value.is === 'waiting' ? 'stale' : ''}>
          <Chart
            starts={seen.starts}
            lines={seen.lines}
            from={seen.from}
            to={seen.to}
            step={seen.step}
            height={height}
            withLabels={withLabels ?? false}
            summary={summary}
            onBrush={onBrush}
          />
        </div>
      )}
      <div class="chart-note">
        <span>
          {seen.step === slide ? `${span(slide)} a point` : `${capital(combineWord(seen.combine))} of ${span(seen.step)}`}
          {watermark !== null && seen.to > watermark && (
            <>
              {' · closed up to '}
              <Time at={watermark} seconds />
              {', dashed after'}
            </>
          )}
        </span>
        {isReading && <span role="status">Reading…</span>}
        {empty.length > 0 && (
          <span role="status">
            No rows in this range:{' '}
            {empty.map((series, index) => (
              <>
                {index > 0 && ', '}
                <Name>{series.key}</Name>
              </>
            ))}
          </span>
        )}
        {cut.length > 0 && <span role="status">Only the newest 200,000 rows of each are shown.</span>}
        {failed.map(series => (
          <span key={series.key} role="alert">
            <Name>{series.key}</Name> cannot be read: {series.error}
          </span>
        ))}
      </div>
    </div>
  );
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function summaryOf(lines: readonly Drawn[], step: number): string {
  if (lines.length === 0) return 'An empty chart';
  const parts = lines.map(drawn => {
    const values = drawn.line.closed.flatMap(value => (value === null ? [] : [value]));
    if (values.length === 0) return `${drawn.label}: no closed values`;
    return `${drawn.label}: last ${count(values.at(-1) ?? 0)}, most ${count(Math.max(...values))}`;
  });
  return `Chart in steps of ${span(step)}. ${parts.join('. ')}. Arrow keys move through the values.`;
}

/** The most rows of a table on a page; the CSV has all. */
const TABLE_ROWS = 500;

function Table({ starts, lines, step }: { starts: readonly number[]; lines: readonly Drawn[]; step: number }): JSX.Element {
  const indexes = starts.map((_, index) => index).filter(index => lines.some(drawn => valueAt(drawn, index) !== null)).reverse();
  return (
    <Wide label="Values">
      <table class="table values">
        <thead>
          <tr>
            <th scope="col">From</th>
            {lines.map(drawn => (
              <th key={drawn.label} scope="col" class="right">
                <Name>{drawn.label}</Name>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {indexes.slice(0, TABLE_ROWS).map(index => (
            <tr key={starts[index]}>
              <td>
                <Time at={starts[index] ?? 0} seconds={step < 60_000} />
              </td>
              {lines.map(drawn => {
                const value = valueAt(drawn, index);
                return (
                  <td key={drawn.label} class="right">
                    {value === null ? <span class="quiet">–</span> : count(value)}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
      {indexes.length > TABLE_ROWS && (
        <p class="quiet small">
          The newest {TABLE_ROWS} of {count(indexes.length)} steps; the CSV has all.
        </p>
      )}
    </Wide>
  );
}

export function valueAt(drawn: Drawn, index: number): number | null {
  return drawn.line.closed[index] ?? drawn.line.open[index] ?? null;
}

/** What is seen as the rows of a CSV file. */
export function seenRows(seen: Seen): (string | number | null)[][] {
  return seen.starts.map((start, index) => [rfc3339(start), ...seen.lines.map(drawn => valueAt(drawn, index))]);
}
