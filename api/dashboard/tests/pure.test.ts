import { describe, expect, it } from 'vitest';

import { DAY, HOUR, MINUTE, ago, count, duration, short, span, times } from '../src/format';
import { announcement, entries, level, median, movement, surge, usual, usualSpans, windowBefore } from '../src/ranking';
import { type Stretch, axis, combineOf, csv, historyQuery, line, parseHistory, stepFor, stepStart } from '../src/series';
import type { Drawing, VersionDocument, ViewDocument } from '../src/types';
import { candidates, diff, forwardOf, gates, isDroppable, isPausable, lives, may, previousOf, progress, progressText, throttleText, whatNext } from '../src/versions';

const drawing = (more: Partial<Drawing>): Drawing => ({
  kind: 'ranking', title: null, label: 'name', value: 'n', rank: null, time: 'slot', series: null, series_label: null, ...more,
});

describe('numbers and times', () => {
  it('have no more digits than say something', () => {
    expect([0, 7, 1234, 0.456, 12.34, 123.4].map(count)).toEqual(['0', '7', '1,234', '0.46', '12.3', '123']);
    expect([999, 1200, 3_400_000].map(short)).toEqual(['999', '1.2K', '3.4M']);
    expect([0.5, 6.24, 14.2].map(times)).toEqual(['0.5 ×', '6.2 ×', '14 ×']);
  });

  it('are as long as people say them', () => {
    expect([300, 12_000, 4 * MINUTE, 3 * HOUR, 3 * HOUR + 20 * MINUTE, 2 * HOUR + 58 * MINUTE, 3 * DAY].map(duration)).toEqual(['300 ms', '12 s', '4 min', '3 h', '3 h 20 min', '3 h', '3 days']);
    expect([10_000, 5 * MINUTE, HOUR, DAY, 90 * MINUTE].map(span)).toEqual(['10 seconds', '5 minutes', '1 hour', '1 day', '90 minutes']);
    expect([ago(1000, 1500), ago(1000, 13_000)]).toEqual(['now', '12 s ago']);
  });
});

describe('a ranking', () => {
  it('is in the order of its ranks', () => {
    const rows = [{ name: 'b', n: 5, r: 2 }, { name: 'a', n: 9, r: 1 }];
    expect(entries(rows, drawing({ rank: 'r' })).map(entry => [entry.place, entry.label])).toEqual([[1, 'a'], [2, 'b']]);
  });

  it('without ranks is in the order of its values, and equal ones always in the same', () => {
    const rows = [{ name: 'b', n: 5 }, { name: 'c', n: 9 }, { name: 'a', n: 5 }];
    expect(entries(rows, drawing({})).map(entry => [entry.place, entry.label])).toEqual([[1, 'c'], [2, 'a'], [3, 'b']]);
  });

  it('tells who has moved, who is new, and nothing where nothing is known', () => {
    const before = new Map([['a', 4], ['b', 1]]);
    const at = (label: string, place: number) => movement({ label, place, value: 1 }, before);
    expect([at('a', 1), at('b', 2), at('c', 3)]).toEqual([{ is: 'moved', by: 3 }, { is: 'moved', by: -1 }, { is: 'new' }]);
    expect(movement({ label: 'a', place: 1, value: 1 }, null)).toEqual({ is: 'unknown' });
  });

  it('is compared with the last window that shares no event with it', () => {
    expect(windowBefore(1_000_000, { size_ms: 600_000, slide_ms: 10_000 })).toBe(400_000);
    expect(windowBefore(1_000_000, { size_ms: 60_000, slide_ms: 60_000 })).toBe(940_000);
    expect(windowBefore(1_000_000, { size_ms: 25, slide_ms: 10 })).toBe(999_970);
  });

  it('is told to screen readers when it has something new to say', () => {
    const now = [{ label: 'a', place: 1, value: 9 }, { label: 'b', place: 2, value: 3 }];
    expect(announcement(now, now)).toBeNull();
    expect(announcement(now, [{ label: 'b', place: 1, value: 3 }])).toBe('First is now a, with 9. New: a at 1.');
    expect(announcement([], now)).toBeNull();
  });
});

describe('a surge', () => {
  const slot = 5 * MINUTE;

  it('is against the median of the days before, so that one odd day does not count', () => {
    const known = usual([2, 100, 4], [], 0, slot, null);
    expect(known).toEqual({ perSlot: 4, from: 'the median of 3 days at this time' });
    expect(surge(80, 2 * slot, slot, known)).toEqual({ is: 'times', ratio: 10 });
  });

  it('is against the hours before while there is no day before, and unknown with less than one', () => {
    const now = 10 * HOUR;
    const recent = [{ at: now - HOUR, value: 24 }];
    expect(usual([], recent, now, slot, now - 2 * HOUR)).toEqual({ perSlot: 1, from: 'the 2 h before' });
    expect(usual([], recent, now, slot, now - HOUR / 2)).toBeNull();
    expect(surge(5, slot, slot, null)).toEqual({ is: 'unknown' });
  });

  it('from nothing has no ratio', () => {
    expect(surge(5, slot, slot, { perSlot: 0, from: '' })).toEqual({ is: 'from-nothing' });
  });

  it('looks at the same time of the days before', () => {
    const spans = usualSpans(8 * DAY + 2 * MINUTE, slot);
    expect(spans).toHaveLength(7);
    expect(spans[0]).toEqual({ from: 7 * DAY - 30 * MINUTE, to: 7 * DAY + 30 * MINUTE });
  });

  it('counts slots without a row as zero', () => {
    expect(level([{ at: 0, value: 12 }, { at: HOUR, value: 99 }], { from: 0, to: HOUR }, slot)).toBe(1);
  });

  it('has the usual median', () => {
    expect([median([]), median([3]), median([1, 2]), median([5, 1, 3])]).toEqual([null, 3, 1.5, 3]);
  });
});

const sql = (text: string, slide = 300_000, size = 300_000) => ({ view: 'v', definition: text, window: { column: 'slot', size_ms: size, slide_ms: slide } }) as ViewDocument;

describe('a series', () => {
  it('adds up counts and sums, keeps extremes, and otherwise shows means', () => {
    expect(combineOf(sql('SELECT count(*) AS n FROM t'), 'n')).toBe('sum');
    expect(combineOf(sql('SELECT sum(coalesce(a, 0)) AS n, max(b) AS m FROM t'), 'n')).toBe('sum');
    expect(combineOf(sql('SELECT sum(a) AS n, max(b) AS m FROM t'), 'm')).toBe('max');
    expect(combineOf(sql('SELECT avg(a) n FROM t'), 'n')).toBe('mean');
    expect(combineOf(sql('-- count(*) AS n\nSELECT approx_distinct(a) AS n FROM t'), 'n')).toBe('mean');
  });

  it('adds up nothing of windows that overlap', () => {
    expect(combineOf(sql('SELECT count(*) AS n FROM t', 10_000, 600_000), 'n')).toBe('mean');
  });

  it('has steps as fine as its pixels, of whole windows', () => {
    expect(stepFor(HOUR, 1000, 5 * MINUTE)).toBe(5 * MINUTE);
    expect(stepFor(7 * DAY, 1000, 5 * MINUTE)).toBe(HOUR);
    expect(stepFor(DAY, 360, 7 * MINUTE) % (7 * MINUTE)).toBe(0);
    expect(stepFor(10 * 365 * DAY, 100, 5 * MINUTE)).toBeGreaterThanOrEqual(100 * DAY);
  });

  it('begins long steps with the day of the viewer', () => {
    const zone = 2 * HOUR;
    expect(stepStart(DAY + HOUR, DAY, zone)).toBe(DAY - 2 * HOUR);
    expect(stepStart(DAY + 3 * MINUTE, 5 * MINUTE, zone)).toBe(DAY);
  });

  const stretch = (more: Partial<Stretch>): Stretch => ({
    from: 0, to: 50, step: 10, combine: 'sum', watermark: 1000, windowMs: 10, knownFrom: 0, zoneMs: 0, ...more,
  });

  it('shows a count without a row as zero, and nothing where nothing is known', () => {
    const all = stretch({ knownFrom: 20 });
    expect(line([{ at: 20, value: 3 }], all, axis(all)).closed).toEqual([null, null, 3, 0, 0]);
    const means = stretch({ combine: 'mean' });
    expect(line([{ at: 20, value: 3 }], means, axis(means)).closed).toEqual([null, null, 3, null, null]);
  });

  it('sums, keeps extremes and averages over coarser steps', () => {
    const found = [{ at: 0, value: 1 }, { at: 10, value: 5 }, { at: 20, value: 3 }];
    const at = (combine: Stretch['combine']) => {
      const all = stretch({ combine, step: 30, to: 30 });
      return line(found, all, axis(all)).closed;
    };
    expect([at('sum'), at('min'), at('max'), at('mean')]).toEqual([[9], [1], [5], [3]]);
  });

  it('keeps what is open apart, joined to the last that is closed, and does not draw the future', () => {
    const all = stretch({ watermark: 35 });
    const { closed, open } = line([{ at: 0, value: 1 }, { at: 20, value: 2 }, { at: 30, value: 4 }], all, axis(all));
    expect(closed).toEqual([1, 0, 2, null, null]);
    expect(open).toEqual([null, null, 2, 4, null]);
  });
});

describe('the address of a history', () => {
  it('holds the whole state', () => {
    const text = 'view=counts&key=a&key=%23b+c&from=2026-01-01T00%3A00%3A00Z&to=2026-01-02T00%3A00%3A00Z&as=table';
    const state = parseHistory(new URLSearchParams(text));
    expect(state.keys).toEqual(['a', '#b c']);
    expect(historyQuery(state).toString()).toBe(text);
    for (const range of ['1h', '7d', 'all']) expect(historyQuery(parseHistory(new URLSearchParams({ range }))).get('range')).toBe(range);
  });

  it('is read with care: six keys, each once, and a day where the range says nothing', () => {
    const state = parseHistory(new URLSearchParams('key=a&key=a&key=b&key=c&key=d&key=e&key=f&key=g&from=x&to=y&range=z'));
    expect(state.keys).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
    expect(state.range).toEqual({ is: 'last', ms: DAY });
    expect(parseHistory(new URLSearchParams('from=2026-01-02&to=2026-01-01')).range).toEqual({ is: 'last', ms: DAY });
  });

  it('as CSV quotes what needs it, and runs no formula', () => {
    expect(csv(['t', 'a"b', '=1+1'], [['x,y', 1.5, null]])).toBe('t,"a""b",\'=1+1\r\n"x,y",1.5,\r\n');
  });
});

const version = (number: number, state: VersionDocument['state'], more: Partial<VersionDocument> = {}): VersionDocument => ({
  version: number, state, digest: 'd', created: '2026-01-01T00:00:00Z', created_by: 'ann', changed: '2026-01-01T00:00:00Z', changed_by: 'ann', error: null,
  running: true, unable: null, waits_for: null, positions: null, watermark: null, lag: 0, ...more,
});
const view = (versions: VersionDocument[], active: number | null, previous: number | null = null): ViewDocument => ({
  view: 'v', versions, active: active === null ? null : { version: active, previous, since: '2026-01-01T10:00:00Z', by: 'ann', reason: null },
});
const NOW = Date.parse('2026-01-01T12:00:00Z');

describe('what can be done next', () => {
  it('is said for each state of a view', () => {
    const say = (versions: VersionDocument[], active: number | null, previous: number | null = null) => whatNext(view(versions, active, previous), NOW);
    expect(say([version(1, 'active')], 1)).toBe('Version 1 serves readers, for 2 h. To change the view, replay a new definition beside it.');
    expect(say([version(1, 'retired'), version(2, 'active')], 2, 1)).toContain('Version 1 is still fed: you can roll back to it');
    expect(say([version(1, 'active'), version(2, 'caught_up')], 1)).toContain('Version 2 has caught up: readers can be switched to it.');
    expect(say([version(1, 'active'), version(2, 'building', { committed: { 0: 63 }, ends: { 0: 100 }, lag: 37, eta_s: 240 })], 1)).toContain('63 %, 37 events to go, about 4 min');
    expect(say([version(1, 'building')], null)).toContain('goes into service by itself');
    expect(say([version(1, 'failed', { error: 'the disk is full', way_on: 'once the cause is gone, refold resume v 1 continues it' })], 1)).toMatch(/has failed.*the disk is full.*refold resume v 1/);
    expect(say([version(1, 'active'), version(2, 'failed', { error: 'overflow' })], 1)).toContain('Readers are not affected.');
    expect(say([version(1, 'dropped')], null)).toBe('No version is in service.');
  });

  it('does not offer to go back to what is gone', () => {
    expect(previousOf(view([version(1, 'dropped'), version(2, 'active')], 2, 1))).toBeNull();
    expect(previousOf(view([version(1, 'retired'), version(2, 'active')], 2, 1))?.version).toBe(1);
  });

  it('after a rollback is forward again, and not back', () => {
    const back = view([version(1, 'active'), version(2, 'retired')], 1, 2);
    if (back.active !== null) back.active.rolled_back = true;
    expect([previousOf(back), forwardOf(back)?.version]).toEqual([null, 2]);
    expect(whatNext(back, NOW)).toContain('they were sent back from version 2, which is still fed and can be switched to again.');
    expect(forwardOf(view([version(1, 'retired'), version(2, 'active')], 2, 1))).toBeNull();
  });

  it('never is to drop what readers are on', () => {
    const of = view([version(1, 'retired'), version(2, 'active'), version(3, 'building'), version(4, 'dropped')], 2, 1);
    expect(of.versions.filter(each => isDroppable(of, each)).map(each => each.version)).toEqual([1, 3]);
  });

  it('is to pause what is being built, once, and says what holds it back', () => {
    const building = version(2, 'building', { committed: { 0: 63 }, ends: { 0: 100 }, lag: 37 });
    const paused = { ...building, paused: true };
    expect([building, paused, version(1, 'active')].map(one => isPausable(view([one], 1), one))).toEqual([true, false, false]);
    expect(progressText(paused)).toBe('63 %, 37 events to go, paused');
    expect(progressText({ ...building, replay: { left: 37, arrival_per_s: 9, eta: { is: 'never' }, bottleneck: 'log' } })).toContain('never done at this rate');
    const held = (is: 'auto' | 'off' | 'rate', limit: number | null) => throttleText({ ...building, throttle: { is, events_per_s: 5000, limit_per_s: limit } });
    expect([held('auto', null), held('auto', 1200.4), held('rate', 5000), held('off', null)]).toEqual([
      null, 'yields to versions in service at 1,200 events/s', 'at most 5,000 events/s', 'as fast as it can',
    ]);
    expect(candidates(view([version(1, 'active'), version(2, 'caught_up', { until: '2026-01-01T00:00:00Z' })], 1))).toEqual([]);
  });

  it('shows each gate with its value', () => {
    const found = gates(version(2, 'caught_up', { lag: 5000, running: false, quarantined: { too_late: 3 } }), version(1, 'active', { quarantined: { too_late: 2 } }));
    expect(found.map(gate => [gate.name, gate.passed])).toEqual([['Has read the log', true], ['A worker runs it', false], ['Events behind', false], ['Quarantined', false]]);
    expect(found[2]?.value).toBe('5,000');
  });

  it('is for those who may', () => {
    expect([may('read', 'operate'), may('operate', 'operate'), may('admin', 'operate'), may(null, 'read')]).toEqual([false, true, true, false]);
  });
});

describe('progress', () => {
  it('is what was read of the log as it is now', () => {
    expect(progress(version(1, 'building', { committed: { 0: 50, 1: 0 }, ends: { 0: 100, 1: 100 } }))).toBe(0.25);
    expect(progress(version(1, 'building'))).toBeNull();
    expect(progress(version(1, 'building', { committed: {}, ends: { 0: 0 } }))).toBe(1);
  });

  it('tells who served when', () => {
    const entry = (at: string, to: number) => ({ at_ms: Date.parse(at), by: 'ann', verb: 'switch', view: 'v', version: to, from: null, to: null, reason: null });
    const of = view([version(1, 'retired'), version(2, 'active')], 2, 1);
    const trail = [entry('2026-01-01T01:00:00Z', 1), entry('2026-01-01T10:00:00Z', 2)];
    expect(lives(of, trail, NOW).map(life => life.service.map(part => [(part.to - part.from) / HOUR]))).toEqual([[[9]], [[2]]]);
    expect(lives(of, [], NOW).map(life => life.service.length)).toEqual([0, 1]);
  });
});

describe('the difference of definitions', () => {
  it('marks lines that only one has', () => {
    expect(diff('a\nb\nc', 'a\nx\nc\nd').map(found => `${found.is[0]}${found.text}`)).toEqual(['sa', 'rb', 'ax', 'sc', 'ad']);
    expect(diff('a', 'a')).toEqual([{ is: 'same', text: 'a' }]);
  });
});
