// Series of some keys: their history by reading, and what is new by the live connection, in one.

import { type Signal, signal } from '@preact/signals';

import { ApiError, allRows, isAbort, keyColumns, keyOfText } from './api';
import { parseTime, rfc3339 } from './format';
import type { Row, Update } from './live';
import { type Point, points } from './ranking';
import { live } from './state';
import type { ViewDocument } from './types';

/** Rows of a live snapshot: enough for what is still open, and for a short interruption. */
const LIVE_ROWS = 100;

interface Held {
  values: Map<number, number>;
  /** From when on everything is known; `-Infinity`: from the beginning. */
  from: number | null;
  complete: boolean;
  error: string | null;
  isReading: boolean;
  controller: AbortController;
  unsubscribe: () => void;
}

export interface KeySeries {
  key: string;
  points: Point[];
  isReading: boolean;
  complete: boolean;
  error: string | null;
}

export class SeriesStore {
  /** Grows with every change of what is held. */
  readonly news: Signal<number> = signal(0);
  readonly watermark: Signal<number | null> = signal(null);
  readonly version: Signal<number | null> = signal(null);
  private readonly held = new Map<string, Held>();
  private frame = 0;

  constructor(readonly view: ViewDocument) {}

  /** Holds these keys from a time on (`null`: from the beginning), and lets go of others. */
  want(keys: readonly string[], from: number | null): void {
    for (const [key, held] of this.held) {
      if (!keys.includes(key)) this.drop(key, held);
    }
    const start = from ?? -Infinity;
    for (const key of keys) {
      const held = this.held.get(key);
      if (held === undefined) this.begin(key, start);
      else if (held.from === null || start < held.from) void this.read(key, held, start);
    }
    this.tell();
  }

  stop(): void {
    for (const [key, held] of this.held) this.drop(key, held);
    cancelAnimationFrame(this.frame);
  }

  /** What is held of a key. */
  series(key: string): KeySeries {
    const held = this.held.get(key);
    if (held === undefined) return { key, points: [], isReading: true, complete: true, error: null };
    const found = [...held.values].map(([at, value]) => ({ at, value }));
    return { key, points: found.sort((a, b) => a.at - b.at), isReading: held.isReading, complete: held.complete, error: held.error };
  }

  private begin(key: string, start: number): void {
    const held: Held = {
      values: new Map(),
      from: null,
      complete: true,
      error: null,
      isReading: false,
      controller: new AbortController(),
      unsubscribe: () => {},
    };
    this.held.set(key, held);
    void this.read(key, held, start);
    let isFirst = true;
    held.unsubscribe = live.subscribe(
      { view: this.view.view, key: keyOfText(this.view, key), keyColumns: keyColumns(this.view), limit: LIVE_ROWS },
      update => {
        this.take(key, held, update, isFirst);
        if (update.reason === 'snapshot') isFirst = false;
      },
    );
  }

  private drop(key: string, held: Held): void {
    held.controller.abort();
    held.unsubscribe();
    this.held.delete(key);
  }

  private async read(key: string, held: Held, start: number): Promise<void> {
    held.controller.abort();
    held.controller = new AbortController();
    const { signal: aborted } = held.controller;
    held.isReading = true;
    held.error = null;
    this.tell();
    try {
      const range = start === -Infinity ? {} : { from: rfc3339(start) };
      const whole = await allRows(this.view, keyOfText(this.view, key), range, aborted);
      const fresh = new Map<number, number>();
      for (const point of this.pointsOf(whole.rows)) fresh.set(point.at, point.value);
      // What came by the live connection while this was read is at least as new.
      held.values = fresh;
      held.from = start;
      held.complete = whole.complete;
      this.note(whole.version, parseTime(whole.watermark));
      held.isReading = false;
    } catch (error) {
      if (isAbort(error)) return;
      held.isReading = false;
      held.error = error instanceof ApiError ? error.message : String(error);
    }
    this.tell();
  }

  private take(key: string, held: Held, update: Update, isFirst: boolean): void {
    if (this.held.get(key) !== held || update.reason === 'unavailable') return;
    if (update.reason === 'refused') {
      held.error = update.detail;
      this.tell();
      return;
    }
    for (const point of this.pointsOf(update.changed)) held.values.set(point.at, point.value);
    const column = keyColumns(this.view).indexOf(this.view.dashboard?.time ?? '');
    for (const deleted of update.deleted) {
      const at = parseTime((JSON.parse(deleted) as unknown[])[column]);
      if (at !== null) held.values.delete(at);
    }
    this.note(update.version, parseTime(update.watermark));
    // More than the snapshot holds may have been missed, or be other in another version.
    const isAnew = (update.reason === 'snapshot' && !isFirst) || update.reason === 'skipped' || update.reason === 'switched';
    if (isAnew && held.from !== null) void this.read(key, held, held.from);
    this.tell();
  }

  private pointsOf(rows: Iterable<Row>): Point[] {
    return this.view.dashboard === undefined ? [] : points(rows, this.view.dashboard);
  }

  private note(version: number | null, watermark: number | null): void {
    this.version.value = version;
    if (watermark !== null && watermark > (this.watermark.peek() ?? -Infinity)) this.watermark.value = watermark;
  }

  /** At most once a frame, and not at all in the background. */
  private tell(): void {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      this.news.value += 1;
    });
  }
}
