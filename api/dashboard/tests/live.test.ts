import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { type Connection, Follower, LiveClient, type Socket, type Update, backoff, parseExact } from '../src/live';

const RANKING = { view: 'trends', key: { slot: 'latest' }, keyColumns: ['slot', 'rank'] } as const;
const SERIES = { view: 'counts', key: { name: 'rust' }, keyColumns: ['name', 'slot'] } as const;

const row = (slot: string, value: number) => ({ name: 'rust', slot, value });
const snapshot = (rows: object[], more: object = {}) =>
  ({ type: 'snapshot', id: 's1', view: 'counts', version: 1, key: { name: 'rust' }, positions: { 0: 10 }, watermark: '2026-01-01T00:00:00Z', rows, ...more }) as never;
const changes = (changed: object[], deleted: object[] = [], more: object = {}) =>
  ({ type: 'changes', id: 's1', version: 1, positions: { 0: 11 }, watermark: '2026-01-01T00:00:01Z', changed, deleted, ...more }) as never;

const values = (update: Update | 'again' | 'ignored'): unknown[] => {
  if (typeof update === 'string') throw new Error(`no update: ${update}`);
  return [...update.rows.values()].map(known => known['value']);
};

describe('a follower', () => {
  it('holds the snapshot, then what changed in it', () => {
    const follower = new Follower('s1', SERIES);
    follower.request();
    expect(values(follower.apply(snapshot([row('a', 1), row('b', 2)])))).toEqual([1, 2]);
    expect(values(follower.apply(changes([row('b', 3), row('c', 4)])))).toEqual([1, 3, 4]);
    expect(values(follower.apply(changes([], [{ name: 'rust', slot: 'a' }])))).toEqual([3, 4]);
  });

  it('takes keys of deleted rows as objects and as lists, with or without the partition key', () => {
    const follower = new Follower('s1', SERIES);
    follower.apply(snapshot([row('a', 1), row('b', 2), row('c', 3)]));
    expect(values(follower.apply(changes([], [{ slot: 'a' }, ['rust', 'b']])))).toEqual([3]);
  });

  it('deletes before it inserts, so that a row which takes a freed place stays', () => {
    const follower = new Follower('s1', RANKING);
    const place = (rank: number, value: number) => ({ slot: 't', rank, value });
    follower.apply(snapshot([place(1, 10), place(2, 20)], { key: { slot: 't' } }));
    const update = follower.apply(changes([place(2, 30)], [{ slot: 't', rank: 2 }, { slot: 't', rank: 1 }]));
    expect(values(update)).toEqual([30]);
  });

  it('resumes from where it was, and only after a whole snapshot', () => {
    const follower = new Follower('s1', SERIES);
    expect(follower.request().after).toBeUndefined();
    follower.apply(snapshot([row('a', 1)], { epoch: 7 }));
    follower.apply(changes([row('a', 2)]));
    expect(follower.request().after).toEqual({ version: 1, positions: { 0: 11 }, epoch: 7 });
    expect(values(follower.apply({ type: 'resumed', id: 's1', version: 1, positions: { 0: 11 } }))).toEqual([2]);
    expect(values(follower.apply(changes([row('b', 5)], [], { positions: { 0: 12 } })))).toEqual([2, 5]);
  });

  it('asks for the newest partition without positions, which would be of an old one', () => {
    const follower = new Follower('s1', RANKING);
    follower.apply(snapshot([], { key: { slot: 't' } }));
    expect(follower.request()).toEqual({ op: 'subscribe', id: 's1', view: 'trends', key: { slot: 'latest' } });
  });

  it('replaces all rows when it was skipped forward, and when the newest partition is another one', () => {
    const follower = new Follower('s1', RANKING);
    follower.apply(snapshot([{ slot: 't', rank: 1, value: 1 }], { key: { slot: 't' } }));
    const moved = follower.apply({ type: 'moved', id: 's1', key: { slot: 'u' }, version: 1, positions: { 0: 12 }, watermark: null, rows: [{ slot: 'u', rank: 1, value: 9 }] });
    expect(values(moved)).toEqual([9]);
    expect((moved as Update).key).toEqual({ slot: 'u' });
    const skipped = follower.apply({ type: 'skipped', id: 's1', key: { slot: 'u' }, version: 1, positions: { 0: 20 }, watermark: null, rows: [] });
    expect(values(skipped)).toEqual([]);
    expect((skipped as Update).reason).toBe('skipped');
  });

  it('goes over to another version by the difference, and resumes in that one', () => {
    const follower = new Follower('s1', SERIES);
    follower.apply(snapshot([row('a', 1), row('b', 2)]));
    const update = follower.apply({ type: 'switched', id: 's1', from: 1, to: 2, positions: { 0: 15 }, watermark: null, changed: [row('a', 9)], deleted: [{ slot: 'b' }] }) as Update;
    expect([update.from, update.version, values(update)]).toEqual([1, 2, [9]]);
    expect(follower.request().after).toMatchObject({ version: 2, positions: { 0: 15 } });
  });

  it('begins anew when changes are of a version that it does not have, and leaves alone what is still on its way', () => {
    const follower = new Follower('s1', SERIES);
    follower.request();
    follower.apply(snapshot([row('a', 1)]));
    expect(follower.apply(changes([row('a', 2)], [], { version: 3 }))).toBe('again');
    expect(follower.request().after).toBeUndefined();
    expect(follower.apply(changes([row('a', 3)], [], { version: 3 }))).toBe('ignored');
    expect(values(follower.apply(snapshot([row('a', 4)], { version: 3 })))).toEqual([4]);
  });

  it('keeps its rows while they cannot be read, and tells why', () => {
    const follower = new Follower('s1', SERIES);
    follower.apply(snapshot([row('a', 1)]));
    const update = follower.apply({ type: 'unavailable', id: 's1', detail: 'the store is away' }) as Update;
    expect([update.reason, update.detail, values(update)]).toEqual(['unavailable', 'the store is away', [1]]);
  });

  it('leaves messages alone that it does not know', () => {
    expect(new Follower('s1', SERIES).apply({ type: 'weather', id: 's1' })).toBe('ignored');
  });
});

describe('JSON', () => {
  it('keeps integers of 64 bits whole, and all else as it is', () => {
    const text = '{"id":914231333247517697,"n":12,"x":1.5,"t":"914231333247517697","list":[9007199254740993,-9223372036854775808,0.1234567890123456789]}';
    // Older engines do not show the digits: there it is plain JSON.
    const canSee = JSON.stringify(JSON.parse('1', ((_: string, __: unknown, context?: { source?: string }) => context?.source) as never)) === '"1"';
    const whole = (digits: string): string | number => (canSee ? digits : Number(digits));
    expect(parseExact(text)).toEqual({
      id: whole('914231333247517697'), n: 12, x: 1.5, t: '914231333247517697', list: [whole('9007199254740993'), whole('-9223372036854775808'), 0.12345678901234568],
    });
  });
});

describe('the back-off', () => {
  it('doubles up to its longest, in the upper half of each', () => {
    const limits = [500, 15_000] as const;
    expect([0, 1, 2, 3].map(attempt => backoff(attempt, limits, 1))).toEqual([500, 1000, 2000, 4000]);
    expect([0, 1, 2, 3].map(attempt => backoff(attempt, limits, 0))).toEqual([250, 500, 1000, 2000]);
    expect(backoff(50, limits, 1)).toBe(15_000);
    expect(backoff(5000, limits, 1)).toBe(15_000);
  });
});

class FakeSocket implements Socket {
  static all: FakeSocket[] = [];
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  readonly sent: { op: string; id?: string; after?: unknown }[] = [];
  isClosed = false;

  constructor() {
    FakeSocket.all.push(this);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as { op: string });
  }

  close(): void {
    this.isClosed = true;
  }

  accept(): void {
    this.onopen?.(undefined as never);
  }

  say(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  drop(): void {
    this.onclose?.(undefined as never);
  }
}

describe('a client', () => {
  const last = (): FakeSocket => {
    const socket = FakeSocket.all.at(-1);
    if (socket === undefined) throw new Error('no connection was opened');
    return socket;
  };
  let client: LiveClient;
  let states: Connection['is'][];
  beforeEach(() => {
    vi.useFakeTimers();
    FakeSocket.all = [];
    states = [];
    client = new LiveClient('ws://test', { open: () => new FakeSocket(), random: () => 1 });
    client.watch(state => states.push(state.is));
  });
  afterEach(() => {
    client.close();
    vi.useRealTimers();
  });

  it('opens one connection for all subscriptions, and asks for each when it is open', () => {
    client.subscribe(SERIES, () => {});
    client.subscribe(RANKING, () => {});
    expect(FakeSocket.all).toHaveLength(1);
    expect(last().sent).toEqual([]);
    last().accept();
    expect(last().sent.map(message => [message.op, message.id])).toEqual([['subscribe', 's1'], ['subscribe', 's2']]);
    client.subscribe({ ...SERIES, limit: 5 }, () => {});
    expect(last().sent[2]).toMatchObject({ op: 'subscribe', id: 's3', limit: 5 });
  });

  it('hands each message to its own listener', () => {
    const heard: string[] = [];
    client.subscribe(SERIES, update => heard.push(`first ${update.reason}`));
    client.subscribe(SERIES, update => heard.push(`second ${update.reason}`));
    last().accept();
    last().say({ ...(snapshot([]) as object), id: 's2' });
    last().say({ type: 'pong' });
    last().say({ ...(snapshot([]) as object), id: 's1' });
    last().say({ ...(snapshot([]) as object), id: 's9' });
    expect(heard).toEqual(['second snapshot', 'first snapshot']);
  });

  it('comes back by itself, resumes, and loses no subscription', () => {
    const heard: Update[] = [];
    client.subscribe(SERIES, update => heard.push({ ...update, rows: new Map(update.rows) }));
    last().accept();
    last().say(snapshot([row('a', 1)]));
    last().drop();
    expect(states.at(-1)).toBe('waiting');
    vi.advanceTimersByTime(499);
    expect(FakeSocket.all).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(FakeSocket.all).toHaveLength(2);
    last().accept();
    expect(last().sent[0]).toMatchObject({ op: 'subscribe', id: 's1', after: { version: 1, positions: { 0: 10 } } });
    last().say({ type: 'resumed', id: 's1', version: 1, positions: { 0: 10 } });
    last().say(changes([row('b', 2)]));
    expect(heard.map(update => update.reason)).toEqual(['snapshot', 'resumed', 'changes']);
    expect([...(heard.at(-1)?.rows.values() ?? [])]).toEqual([row('a', 1), row('b', 2)]);
  });

  it('waits longer each time, until the server has said something', () => {
    client.subscribe(SERIES, () => {});
    const waits: number[] = [];
    client.watch(state => {
      if (state.is === 'waiting') waits.push(state.retryAt - Date.now());
    });
    for (let attempt = 0; attempt < 4; attempt += 1) {
      // Accepted and dropped, as by a proxy before a server that is gone.
      last().accept();
      last().drop();
      vi.advanceTimersByTime(waits.at(-1) ?? 0);
    }
    expect(waits).toEqual([500, 1000, 2000, 4000]);
    last().accept();
    last().say(snapshot([]));
    last().drop();
    expect(waits.at(-1)).toBe(500);
  });

  it('gives up a connection that has gone quiet without a word', () => {
    client.subscribe(SERIES, () => {});
    last().accept();
    vi.advanceTimersByTime(20_000);
    expect(last().sent.at(-1)).toEqual({ op: 'ping' });
    last().say({ type: 'pong' });
    vi.advanceTimersByTime(19_999);
    expect(states.at(-1)).toBe('open');
    vi.advanceTimersByTime(1 + 10_000);
    expect(states.at(-1)).toBe('waiting');
    expect(FakeSocket.all[0]?.isClosed).toBe(true);
  });

  it('gives up an address that answers nothing', () => {
    client.subscribe(SERIES, () => {});
    vi.advanceTimersByTime(10_000);
    expect(states.at(-1)).toBe('waiting');
  });

  it('hears nothing more from a connection that it has given up', () => {
    const heard: string[] = [];
    client.subscribe(SERIES, update => heard.push(update.reason));
    const old = last();
    old.accept();
    old.drop();
    vi.advanceTimersByTime(500);
    last().accept();
    old.say(snapshot([]));
    old.drop();
    expect(heard).toEqual([]);
    expect(states.at(-1)).toBe('open');
  });

  it('tries at once when told to', () => {
    client.subscribe(SERIES, () => {});
    last().drop();
    client.retryNow();
    expect(FakeSocket.all).toHaveLength(2);
    vi.advanceTimersByTime(5_000);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it('begins a subscription anew, once, when its rows cannot be trusted', () => {
    client.subscribe(SERIES, () => {});
    last().accept();
    last().say(snapshot([row('a', 1)]));
    last().say(changes([], [], { version: 2 }));
    last().say(changes([], [], { version: 2 }));
    expect(last().sent.map(message => message.op)).toEqual(['subscribe', 'unsubscribe', 'subscribe']);
    expect(last().sent[2]?.after).toBeUndefined();
  });

  it('ends a subscription that is refused, and does not ask for it again', () => {
    const heard: Update[] = [];
    client.subscribe(SERIES, update => heard.push(update));
    last().accept();
    last().say({ type: 'error', id: 's1', status: 404, title: 'There is no such thing', detail: 'there is no view counts' });
    expect(heard.map(update => [update.reason, update.status, update.detail])).toEqual([['refused', 404, 'there is no view counts']]);
    last().drop();
    vi.advanceTimersByTime(500);
    last().accept();
    expect(last().sent).toEqual([]);
  });

  it('gives up a connection on which something other than JSON arrives', () => {
    client.subscribe(SERIES, () => {});
    last().accept();
    last().onmessage?.({ data: '<html>' });
    expect(states.at(-1)).toBe('waiting');
  });

  it('tells the server when nobody listens any more, and drops what still comes', () => {
    const heard: string[] = [];
    const stop = client.subscribe(SERIES, update => heard.push(update.reason));
    last().accept();
    stop();
    stop();
    expect(last().sent.map(message => message.op)).toEqual(['subscribe', 'unsubscribe']);
    last().say(snapshot([]));
    expect(heard).toEqual([]);
  });
});
