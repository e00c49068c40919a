// A ranking that is followed: its newest window, or one that the viewer went back to, with the places of the window before.

import { type Signal, batch, signal } from '@preact/signals';

import { isAbort, keyColumns, rows, said } from './api';
import { parseTime, rfc3339 } from './format';
import type { Row, Update } from './live';
import { type Entry, entries, windowBefore } from './ranking';
import { live, now, time } from './state';
import type { Drawing, ViewDocument } from './types';

export interface Shown {
  start: number;
  end: number;
  entries: Entry[];
  version: number;
  watermark: number | null;
  /** Places in the window that it is compared with; `null`: not known (yet). */
  before: ReadonlyMap<string, number> | null;
}

/** The most entries that are drawn. */
const ENTRIES_MOST = 100;
/** Windows whose places are kept. */
const PLACES_MOST = 50;

export class Ranking {
  readonly shown = signal<Shown | null>(null);
  /** The newest window that has come, shown or not. */
  readonly newest = signal<number | null>(null);
  /** When something has come the last time, even if nothing has changed. */
  readonly heardAt = signal<number | null>(null);
  readonly trouble: Signal<string | null> = signal(null);
  readonly refused: Signal<string | null> = signal(null);
  readonly isPaused = signal(false);
  /** The window that the viewer went back to. */
  readonly at = signal<number | null>(null);

  private readonly drawing: Drawing;
  private readonly places = new Map<number, Promise<ReadonlyMap<string, number>>>();
  private latest: { rows: Row[]; start: number; version: number; watermark: number | null } | null = null;
  private unsubscribe = (): void => {};
  private frame = 0;
  private isHeld = false;
  private reading = new AbortController();

  constructor(readonly view: ViewDocument) {
    this.drawing = view.dashboard ?? { kind: 'none', title: null, label: null, value: null, rank: null, time: null, series: null, series_label: null };
  }

  private get window(): { size_ms: number; slide_ms: number } {
    return this.view.window ?? { size_ms: 60_000, slide_ms: 60_000 };
  }

  start(): void {
    const { time: column } = this.drawing;
    if (column === null) return;
    this.unsubscribe = live.subscribe(
      { view: this.view.view, key: { [column]: 'latest' }, keyColumns: keyColumns(this.view) },
      update => this.take(update),
    );
  }

  stop(): void {
    this.unsubscribe();
    this.reading.abort();
    cancelAnimationFrame(this.frame);
  }

  /** While something is pointed at, nothing moves. */
  hold(isHeld: boolean): void {
    this.isHeld = isHeld;
    if (!isHeld) this.draw();
  }

  pause(isPaused: boolean): void {
    this.isPaused.value = isPaused;
    if (!isPaused) this.draw();
  }

  /** Goes to an earlier window, or back to the newest one. */
  async travel(start: number | null): Promise<void> {
    this.at.value = start;
    this.reading.abort();
    if (start === null) {
      this.isPaused.value = false;
      return this.draw();
    }
    this.reading = new AbortController();
    const { signal: aborted } = this.reading;
    try {
      const [page, before] = await Promise.all([this.read(start, aborted), this.placesOf(windowBefore(start, this.window))]);
      if (aborted.aborted) return;
      batch(() => {
        this.trouble.value = null;
        this.shown.value = { ...this.describe(page.rows, start), version: page.version, watermark: page.watermark, before };
      });
    } catch (error) {
      if (!isAbort(error)) this.trouble.value = said(error);
    }
  }

  private take(update: Update): void {
    batch(() => {
      this.heardAt.value = time();
      if (update.reason === 'refused') this.refused.value = update.detail ?? 'the subscription was refused';
      if (update.reason === 'unavailable') this.trouble.value = update.detail ?? 'the rows cannot be read for now';
      else if (update.reason !== 'refused' && this.at.peek() === null) this.trouble.value = null;
      // Places in earlier windows may be others in another version.
      if (update.reason === 'switched') this.places.clear();
    });
    if (update.reason === 'unavailable' || update.reason === 'refused') return;
    const column = this.drawing.time ?? '';
    const start = parseTime(update.key[column]);
    if (start === null || update.version === null) return;
    this.latest = { rows: [...update.rows.values()], start, version: update.version, watermark: parseTime(update.watermark) };
    this.newest.value = start;
    // A tab in the background gets no frames: it draws once, with what is newest, when it is looked at.
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  private draw(): void {
    const { latest } = this;
    if (latest === null || this.isPaused.peek() || this.isHeld || this.at.peek() !== null) return;
    const earlier = windowBefore(latest.start, this.window);
    const previous = this.shown.peek();
    const isSameWindow = previous?.start === latest.start;
    this.shown.value = {
      ...this.describe(latest.rows, latest.start),
      version: latest.version,
      watermark: latest.watermark,
      // Until the places are there, those of ten seconds ago are nearer to the truth than none.
      before: previous?.before ?? null,
    };
    now.value = time();
    if (isSameWindow && previous.before !== null && previous.version === latest.version) return;
    void this.placesOf(earlier)
      .then(before => {
        const current = this.shown.peek();
        if (current?.start === latest.start) this.shown.value = { ...current, before };
      })
      .catch(() => {
        // Without them no movement is shown.
      });
  }

  private describe(found: Row[], start: number): { start: number; end: number; entries: Entry[] } {
    return { start, end: start + this.window.size_ms, entries: entries(found, this.drawing).slice(0, ENTRIES_MOST) };
  }

  private async read(start: number, aborted?: AbortSignal): Promise<{ rows: Row[]; version: number; watermark: number | null }> {
    const key = { [this.drawing.time ?? '']: rfc3339(start) };
    const page = await rows(this.view, [key], { limit: 1000 }, aborted);
    return { rows: page.parts[0]?.rows ?? [], version: page.version, watermark: parseTime(page.watermark) };
  }

  private placesOf(start: number): Promise<ReadonlyMap<string, number>> {
    let places = this.places.get(start);
    if (places === undefined) {
      places = this.read(start).then(page => new Map(entries(page.rows, this.drawing).map(entry => [entry.label, entry.place])));
      this.places.set(start, places);
      places.catch(() => this.places.delete(start));
      for (const known of this.places.keys()) {
        if (this.places.size <= PLACES_MOST) break;
        this.places.delete(known);
      }
    }
    return places;
  }
}
