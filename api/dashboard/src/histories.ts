// The recent past of a ranking's entries: for sparklines, and for what is usual. Read in few requests, kept while the page is open.

import { keyOfText, keyText, rows } from './api';
import { DAY, rfc3339 } from './format';
import { type Point, type Usual, level, points, usual, usualSpans } from './ranking';
import type { ViewDocument } from './types';

/** How far back a sparkline goes. */
export const SPARK_MS = DAY;
/** The most points of a sparkline: more are finer than its pixels. */
export const SPARK_POINTS = 288;
export const SPARK_POINTS_NARROW = 72;
/** What is usual changes slowly. */
const USUAL_FOR = 30 * 60_000;

interface History {
  values: Map<number, number>;
  from: number;
  to: number;
}

/** How many entries are kept: a ranking that changes all day must not fill the memory. */
const ENTRIES_MOST = 400;

export class Histories {
  private readonly known = new Map<string, History>();
  private readonly levels = new Map<string, { usual: Usual | null; at: number; slot: number }>();
  private isBusy = false;
  private next: { labels: readonly string[]; at: number } | null = null;
  private controller = new AbortController();

  constructor(private readonly view: ViewDocument, private readonly onNews: () => void) {}

  get slot(): number {
    return this.view.window?.slide_ms ?? 60_000;
  }

  /** Whether levels can be told: windows that do not overlap, of something that adds up. */
  readonly canTellUsual = (): boolean => this.view.window != null && this.view.window.slide_ms === this.view.window.size_ms;

  stop(): void {
    this.controller.abort();
    this.next = null;
  }

  /** Another version has other values. */
  forget(): void {
    this.controller.abort();
    this.controller = new AbortController();
    this.known.clear();
    this.levels.clear();
  }

  /** The values of the day before a moment, oldest first; a slot without a row is zero once it is known. */
  spark(label: string, at: number, most = SPARK_POINTS): (number | null)[] {
    const history = this.known.get(label);
    if (history === undefined) return [];
    const { slot } = this;
    const step = Math.max(slot, Math.ceil(SPARK_MS / most / slot) * slot);
    // The slot of now has only begun: its few events would look like a fall.
    const end = Math.floor(at / slot) * slot;
    const values: (number | null)[] = [];
    for (let from = end - SPARK_MS; from < end; from += step) {
      let sum = 0;
      for (let start = from; start < from + step; start += slot) sum += history.values.get(start) ?? 0;
      values.push(from + step <= history.from ? null : sum);
    }
    return values;
  }

  usual(label: string): Usual | null {
    return this.levels.get(label)?.usual ?? null;
  }

  /** Brings what is missing for these entries at a moment. One round at a time; of those that are asked for meanwhile, the last. */
  async want(labels: readonly string[], at: number): Promise<void> {
    this.next = { labels, at };
    if (this.isBusy) return;
    this.isBusy = true;
    try {
      while (this.next !== null) {
        const { labels: wanted, at: moment } = this.next;
        this.next = null;
        await this.bring(wanted, moment);
        this.trim(wanted);
      }
    } catch {
      // What is shown stays as it is; the next round tries again, and the page says by itself when the server is away.
    } finally {
      this.isBusy = false;
    }
  }

  private async bring(labels: readonly string[], at: number): Promise<void> {
    const { slot } = this;
    const { signal } = this.controller;
    const from = Math.floor((at - SPARK_MS) / slot) * slot;
    const isMissing = (label: string): boolean => {
      const history = this.known.get(label);
      return history === undefined || from < history.from - slot || at > history.to + SPARK_MS;
    };
    const missing = labels.filter(isMissing);
    if (missing.length > 0) await this.read(missing, from, at, signal);
    // Of the others, what has come since: late events may change the slot before too.
    const behind = labels.filter(label => !isMissing(label) && (this.known.get(label)?.to ?? 0) < at);
    if (behind.length > 0) {
      const oldest = Math.min(...behind.map(label => this.known.get(label)?.to ?? at));
      await this.read(behind, Math.floor(oldest / slot) * slot - slot, at, signal);
    }
    if (missing.length > 0 || behind.length > 0) this.onNews();
    if (this.canTellUsual()) await this.bringLevels(labels, at, signal);
  }

  private async read(labels: readonly string[], from: number, at: number, signal: AbortSignal): Promise<void> {
    const { slot } = this;
    const limit = Math.min(10_000, Math.ceil((at - from) / slot) + 2);
    const page = await rows(this.view, labels.map(label => keyOfText(this.view, label)), { from: rfc3339(from), to: rfc3339(at + slot), limit }, signal);
    for (const part of page.parts) {
      const label = keyText(this.view, part.key);
      const history = this.known.get(label) ?? { values: new Map<number, number>(), from, to: at };
      for (const point of this.points(part.rows)) history.values.set(point.at, point.value);
      history.from = Math.min(history.from, from);
      history.to = Math.max(history.to, at);
      this.known.set(label, history);
    }
  }

  private points(found: Parameters<typeof points>[0]): Point[] {
    const { dashboard } = this.view;
    return dashboard === undefined ? [] : points(found, dashboard);
  }

  private async bringLevels(labels: readonly string[], at: number, signal: AbortSignal): Promise<void> {
    const { slot } = this;
    const isOld = (label: string): boolean => {
      const found = this.levels.get(label);
      return found === undefined || Math.abs(found.at - at) > USUAL_FOR;
    };
    const wanted = labels.filter(isOld);
    if (wanted.length === 0) return;
    const days = new Map<string, number[]>(wanted.map(label => [label, []]));
    // All entries that are shown are asked for, not the new ones alone: whether a day has a history at all is seen by any of them.
    for (const span of usualSpans(at, slot)) {
      const limit = Math.ceil((span.to - span.from) / slot) + 1;
      const keys = labels.map(label => keyOfText(this.view, label));
      const page = await rows(this.view, keys, { from: rfc3339(span.from), to: rfc3339(span.to), limit }, signal);
      if (page.parts.every(part => part.rows.length === 0)) break;
      for (const part of page.parts) days.get(keyText(this.view, part.key))?.push(level(this.points(part.rows), span, slot));
    }
    let firstKnown = Infinity;
    for (const label of labels) for (const start of this.known.get(label)?.values.keys() ?? []) firstKnown = Math.min(firstKnown, start);
    for (const label of wanted) {
      const recent = [...(this.known.get(label)?.values ?? [])].map(([start, value]) => ({ at: start, value }));
      const before = Math.floor(at / slot) * slot - slot;
      this.levels.set(label, { usual: usual(days.get(label) ?? [], recent, before, slot, firstKnown === Infinity ? null : firstKnown), at, slot });
    }
    this.onNews();
  }

  private trim(shown: readonly string[]): void {
    const keep = new Set(shown);
    for (const label of this.known.keys()) {
      if (this.known.size <= ENTRIES_MOST) break;
      if (!keep.has(label)) {
        this.known.delete(label);
        this.levels.delete(label);
      }
    }
    // Slots that no sparkline reaches any more.
    for (const history of this.known.values()) {
      if (history.values.size <= 4 * SPARK_POINTS + (2 * SPARK_MS) / this.slot) continue;
      const oldest = history.to - SPARK_MS;
      for (const start of history.values.keys()) if (start < oldest) history.values.delete(start);
      history.from = Math.max(history.from, oldest);
    }
  }
}
