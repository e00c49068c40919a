// What a ranking shows beside its rows: movement, and the surge of each entry against its own usual level. Pure.

import { DAY, HOUR, parseTime } from './format';
import type { Row, Value } from './live';
import type { Drawing } from './types';

export interface Entry {
  label: string;
  place: number;
  value: number;
}

export type Movement = { is: 'new' } | { is: 'moved'; by: number } | { is: 'unknown' };

/** Rows in the order of their rank, or of their value where there is no rank. Equal values keep the order of their labels, always the same. */
export function entries(rows: Iterable<Row>, drawing: Drawing): Entry[] {
  const { label, value, rank } = drawing;
  const found: Entry[] = [];
  for (const row of rows) {
    const name = label === null ? null : row[label];
    found.push({
      label: text(name ?? null),
      place: rank === null ? 0 : Number(row[rank] ?? 0),
      value: value === null ? 0 : Number(row[value] ?? 0),
    });
  }
  if (rank !== null) return found.sort((a, b) => a.place - b.place || compare(a.label, b.label));
  found.sort((a, b) => b.value - a.value || compare(a.label, b.label));
  return found.map((entry, index) => ({ ...entry, place: index + 1 }));
}

/** A value of a key as text. */
export function text(value: Value): string {
  return value === null ? '(none)' : String(value);
}

// By code units, as a computer orders: the viewer's language must not decide who is first.
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** How an entry has moved since an earlier window, of which `before` has the places; `null`: that window is not known. */
export function movement(entry: Entry, before: ReadonlyMap<string, number> | null): Movement {
  if (before === null) return { is: 'unknown' };
  const place = before.get(entry.label);
  return place === undefined ? { is: 'new' } : { is: 'moved', by: place - entry.place };
}

/**
 * The start of the window that a ranking is compared with: the last one that shares no event with it. The window before a sliding one would
 * be nearly the same window.
 */
export function windowBefore(start: number, window: { size_ms: number; slide_ms: number }): number {
  return start - Math.ceil(window.size_ms / window.slide_ms) * window.slide_ms;
}

export interface Point {
  at: number;
  value: number;
}

/** The points of a series, oldest first. */
export function points(rows: Iterable<Row>, drawing: Drawing): Point[] {
  const { time, value } = drawing;
  const found: Point[] = [];
  if (time === null || value === null) return found;
  for (const row of rows) {
    const at = parseTime(row[time]);
    const number = row[value];
    if (at !== null && typeof number === 'number') found.push({ at, value: number });
  }
  return found.sort((a, b) => a.at - b.at);
}

/** How many days back the usual level is looked for, and how far around the same time of day. */
export const USUAL_DAYS = 7;
export const USUAL_AROUND = HOUR / 2;

/** The stretches of earlier days, around the same time of day, that tell what is usual now. */
export function usualSpans(now: number, slot: number): { from: number; to: number }[] {
  const align = (ms: number) => Math.floor(ms / slot) * slot;
  return Array.from({ length: USUAL_DAYS }, (_, index) => {
    const then = now - (index + 1) * DAY;
    return { from: align(then - USUAL_AROUND), to: align(then + USUAL_AROUND) };
  });
}

/** The level for each slot on average over a stretch; slots without a row count as zero. */
export function level(found: readonly Point[], span: { from: number; to: number }, slot: number): number {
  const slots = Math.max(1, Math.round((span.to - span.from) / slot));
  const within = found.filter(point => point.at >= span.from && point.at < span.to);
  return within.reduce((sum, point) => sum + point.value, 0) / slots;
}

export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

export interface Usual {
  /** The usual level for each slot of the series. */
  perSlot: number;
  /** What it was taken from, for people: `the median of 3 days at this time`. */
  from: string;
}

/**
 * The usual level: the median of the days before at this time; while there is no day before, the average of the hours before the window.
 * `null`: there is too little to say what is usual.
 */
export function usual(days: readonly number[], recent: readonly Point[], before: number, slot: number, firstKnown: number | null): Usual | null {
  const middle = median(days);
  if (middle !== null) {
    return { perSlot: middle, from: days.length === 1 ? 'this time yesterday' : `the median of ${days.length} days at this time` };
  }
  const from = Math.max(firstKnown ?? before, before - DAY);
  const hours = (before - from) / HOUR;
  if (hours < 1) return null;
  return { perSlot: level(recent, { from, to: before }, slot), from: `the ${Math.round(hours)} h before` };
}

export type Surge = { is: 'times'; ratio: number } | { is: 'from-nothing' } | { is: 'unknown' };

/** The value of a window against what is usual for its length. */
export function surge(value: number, windowMs: number, slot: number, level: Usual | null): Surge {
  if (level === null) return { is: 'unknown' };
  const expected = (level.perSlot * windowMs) / slot;
  return expected <= 0 ? { is: 'from-nothing' } : { is: 'times', ratio: value / expected };
}

/** What a screen reader is told about a new ranking: who leads, and who is new. */
export function announcement(now: readonly Entry[], before: readonly Entry[]): string | null {
  const first = now[0];
  if (first === undefined) return null;
  const known = new Set(before.map(entry => entry.label));
  const arrived = now.filter(entry => !known.has(entry.label));
  const parts: string[] = [];
  if (before[0]?.label !== first.label) parts.push(`First is now ${first.label}, with ${first.value}`);
  if (before.length > 0 && arrived.length > 0) {
    const names = arrived.slice(0, 3).map(entry => `${entry.label} at ${entry.place}`);
    parts.push(`New: ${names.join(', ')}${arrived.length > 3 ? ` and ${arrived.length - 3} more` : ''}`);
  }
  return parts.length === 0 ? null : `${parts.join('. ')}.`;
}
