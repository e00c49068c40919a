// Series: their steps, sums, gaps and open ends. Pure.

import { DAY, HOUR, MINUTE, SECOND, rfc3339 } from './format';
import type { Point } from './ranking';
import type { ViewDocument } from './types';

/** How values of several windows become the value of a coarser one. */
export type Combine = 'sum' | 'min' | 'max' | 'mean';

/**
 * Read from the definition: counts and sums add up, minima and maxima stay what they are; of anything else only a mean can be shown. Windows
 * that overlap hold the same events several times, so nothing of them adds up.
 */
export function combineOf(view: ViewDocument, column: string): Combine {
  const sql = (view.definition ?? view.sql ?? '').replace(/--[^\n]*/g, ' ');
  const named = column.replace(/[^\w]/g, '');
  const found = new RegExp(`\\b(\\w+)\\s*\\((?:[^()]|\\([^()]*\\))*\\)\\s+(?:as\\s+)?"?${named}\\b`, 'i').exec(sql);
  const aggregate = found?.[1]?.toLowerCase();
  const overlaps = view.window != null && view.window.slide_ms < view.window.size_ms;
  if (aggregate === 'min' || aggregate === 'max') return aggregate;
  if ((aggregate === 'count' || aggregate === 'sum') && !overlaps) return 'sum';
  return 'mean';
}

export function combineWord(combine: Combine): string {
  return { sum: 'sums', min: 'minima', max: 'maxima', mean: 'means' }[combine];
}

const STEPS = [
  SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 15 * SECOND, 30 * SECOND,
  MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY,
];

/** Pixels that a point should have for itself. */
const PIXELS = 3;

/** The finest step of at least `slide` that leaves each point its pixels; a whole number of the view's own windows. */
export function stepFor(rangeMs: number, widthPx: number, slide: number): number {
  const least = (rangeMs * PIXELS) / Math.max(1, widthPx);
  if (least <= slide) return slide;
  for (const step of STEPS) {
    if (step >= least && step % slide === 0) return step;
  }
  return Math.ceil(least / slide) * slide;
}

/** The start of the step that a time is in. Steps longer than an hour begin with the viewer's day, which `zoneMs` (local less UTC) tells. */
export function stepStart(at: number, step: number, zoneMs: number): number {
  const shift = step > HOUR ? zoneMs : 0;
  return Math.floor((at + shift) / step) * step - shift;
}

export interface Stretch {
  /** The first step that is drawn, and the one after the last. */
  from: number;
  to: number;
  step: number;
  combine: Combine;
  /** Windows that end at or before it are closed. */
  watermark: number;
  /** The length of the view's own windows. */
  windowMs: number;
  /** From here on a window without a row had no event; earlier, nobody knows. */
  knownFrom: number;
  zoneMs: number;
}

export interface Line {
  /** The value of each step that is closed; `null`: nothing is known. */
  closed: (number | null)[];
  /** Of those that are open, and of the last closed one, from which the dashed line begins. */
  open: (number | null)[];
}

/** The starts of all steps of a stretch. */
export function axis(stretch: Stretch): number[] {
  const { from, to, step, zoneMs } = stretch;
  const starts: number[] = [];
  for (let at = stepStart(from, step, zoneMs); at < to; at += step) starts.push(at);
  return starts;
}

/** A series on the axis of its stretch. */
export function line(found: readonly Point[], stretch: Stretch, starts: readonly number[]): Line {
  const { step, combine, watermark, windowMs, knownFrom } = stretch;
  const first = starts[0] ?? 0;
  const sums = new Array<number>(starts.length).fill(0);
  const seen = new Array<number>(starts.length).fill(0);
  for (const point of found) {
    const index = Math.floor((point.at - first) / step);
    if (point.at < first || index >= starts.length) continue;
    const known = seen[index] ?? 0;
    const before = sums[index] ?? 0;
    if (combine === 'min') sums[index] = known === 0 ? point.value : Math.min(before, point.value);
    else if (combine === 'max') sums[index] = known === 0 ? point.value : Math.max(before, point.value);
    else sums[index] = before + point.value;
    seen[index] = known + 1;
  }
  const closed: (number | null)[] = [];
  const open: (number | null)[] = [];
  let lastClosed = -1;
  starts.forEach((start, index) => {
    const isClosed = start + Math.max(step, windowMs) <= watermark;
    const has = (seen[index] ?? 0) > 0;
    // A count without a row is a count of zero, as far back as there is history and as far on as the log was read.
    const isZero = !has && combine === 'sum' && start + step > knownFrom && start < watermark;
    const raw = sums[index] ?? 0;
    const value = has ? (combine === 'mean' ? raw / (seen[index] ?? 1) : raw) : isZero ? 0 : null;
    closed.push(isClosed ? value : null);
    open.push(isClosed ? null : value);
    if (isClosed) lastClosed = index;
  });
  if (lastClosed >= 0 && open.some(value => value !== null)) open[lastClosed] = closed[lastClosed] ?? null;
  return { closed, open };
}

export type Range = { is: 'last'; ms: number } | { is: 'all' } | { is: 'between'; from: number; to: number };

export const PRESETS: { name: string; label: string; range: Range }[] = [
  { name: '1h', label: '1 h', range: { is: 'last', ms: HOUR } },
  { name: '24h', label: '24 h', range: { is: 'last', ms: DAY } },
  { name: '7d', label: '7 d', range: { is: 'last', ms: 7 * DAY } },
  { name: 'all', label: 'All', range: { is: 'all' } },
];

/** What the History page shows, all of which is in the address. */
export interface HistoryState {
  view: string | null;
  keys: string[];
  range: Range;
  table: boolean;
}

export const KEYS_MOST = 6;

export function parseHistory(query: URLSearchParams): HistoryState {
  const from = Date.parse(query.get('from') ?? '');
  const to = Date.parse(query.get('to') ?? '');
  const preset = PRESETS.find(known => known.name === query.get('range'));
  const fallback: Range = { is: 'last', ms: DAY };
  const range: Range = from < to ? { is: 'between', from, to } : (preset?.range ?? fallback);
  const keys = [...new Set(query.getAll('key'))].slice(0, KEYS_MOST);
  return { view: query.get('view'), keys, range, table: query.get('as') === 'table' };
}

export function historyQuery(state: HistoryState): URLSearchParams {
  const query = new URLSearchParams();
  if (state.view !== null) query.set('view', state.view);
  for (const key of state.keys) query.append('key', key);
  if (state.range.is === 'between') {
    query.set('from', rfc3339(state.range.from));
    query.set('to', rfc3339(state.range.to));
  } else {
    const { range } = state;
    const preset = PRESETS.find(known => JSON.stringify(known.range) === JSON.stringify(range));
    if (preset !== undefined && preset.name !== '24h') query.set('range', preset.name);
  }
  if (state.table) query.set('as', 'table');
  return query;
}

/** A table as CSV (RFC 4180). Text that a spreadsheet would take for a formula gets an apostrophe before it. */
export function csv(head: readonly string[], rows: readonly (readonly (string | number | null)[])[]): string {
  const cell = (value: string | number | null): string => {
    if (value === null) return '';
    if (typeof value === 'number') return String(value);
    const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [head, ...rows].map(row => row.map(cell).join(',')).join('\r\n') + '\r\n';
}
