// A client for the live routes of Refold, /v1/live (many views) and /v1/views/{view}/live (one). It needs nothing else of the dashboard: copy it.
//
//   const client = new LiveClient('wss://refold.example/v1/live');
//   const stop = client.subscribe(
//     { view: 'hashtag_trends', key: { slot: 'latest' }, keyColumns: ['slot', 'rank'] },
//     update => draw(update.rows),
//   );
//
// A subscription is a set of rows that is kept right: a snapshot, then changes, through reconnects (with back-off and jitter), switches of
// the version and moves of the latest partition. A listener is called after each step with the whole set and what changed in it.

export type Value = string | number | boolean | null;
export type Row = Readonly<Record<string, Value>>;
export type Key = Readonly<Record<string, Value>>;
/** The next offset to read, for each partition of the log. */
export type Positions = Readonly<Record<string, number>>;

export interface Subscription {
  view: string;
  /** A value for each partition key column; `latest` for the start of a ranking's window. */
  key: Key;
  /** The columns that tell rows apart: partition key and clustering key, as `GET /v1/views/{view}` names them. */
  keyColumns: readonly string[];
  /** At most so many rows in a snapshot, in the view's order. */
  limit?: number;
}

/** What has happened to a subscription. */
export type Reason =
  /** The rows are new as a whole. */
  | 'snapshot'
  /** Some rows have changed. */
  | 'changes'
  /** After a reconnect: nothing was missed, changes follow. */
  | 'resumed'
  /** This client was too slow: the rows are new as a whole, and changes in between were left out. */
  | 'skipped'
  /** Another version of the view is in service: what differs has changed. */
  | 'switched'
  /** With `latest`: the newest partition is another one now. */
  | 'moved'
  /** The rows cannot be read for now; the subscription goes on by itself. */
  | 'unavailable'
  /** The subscription was refused, for the reason in `detail`, and has ended. */
  | 'refused';

export interface Update {
  reason: Reason;
  view: string;
  version: number | null;
  /** Of a switch: the version before. */
  from: number | null;
  /** The partition that the rows are of. */
  key: Key;
  positions: Positions;
  watermark: string | null;
  /** All rows as they are now, by the text of their key. The map is the same one from update to update. */
  rows: ReadonlyMap<string, Row>;
  changed: readonly Row[];
  deleted: readonly string[];
  status: number | null;
  detail: string | null;
}

/** The part of a message that this client reads. Unknown types and members are left alone, so that the server may have more to say. */
interface Message {
  type: string;
  id?: string;
  view?: string;
  version?: number;
  epoch?: number;
  from?: number;
  to?: number;
  key?: Key;
  positions?: Positions;
  watermark?: string | null;
  rows?: Row[];
  changed?: Row[];
  deleted?: (Row | Value[])[];
  status?: number;
  title?: string;
  detail?: string;
}

/**
 * JSON with integers that JavaScript's numbers cannot hold as text, digit by digit, where the engine lets one see them (all since 2025): keys
 * of 64 bits must not become other keys.
 */
export function parseExact(text: string): unknown {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  const exact = (_name: string, value: unknown, context?: { source?: string }): unknown =>
    typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? '') ? context?.source : value;
  return JSON.parse(text, exact as (name: string, value: unknown) => unknown);
}

interface After {
  version: number;
  positions: Positions;
  epoch?: number;
}

export interface Request {
  op: 'subscribe';
  id: string;
  view: string;
  key: Key;
  limit?: number;
  after?: After;
}

/** One subscription without its connection: messages in, updates out. */
export class Follower {
  private readonly rows = new Map<string, Row>();
  private key: Key;
  private version: number | null = null;
  private epoch: number | null = null;
  private positions: Positions = {};
  private watermark: string | null = null;
  /** Whether the rows are of the version and positions above. */
  private isWhole = false;
  /** Whether an answer to a request is still to come. */
  private isAsked = false;

  constructor(readonly id: string, readonly wanted: Subscription) {
    this.key = wanted.key;
  }

  /** What is sent on a new connection. */
  request(): Request {
    const { view, key, limit } = this.wanted;
    this.isAsked = true;
    const request: Request = { op: 'subscribe', id: this.id, view, key };
    if (limit !== undefined) request.limit = limit;
    // The newest partition may be another one by now, and then positions in the old one say nothing: that begins with a snapshot.
    const isLatest = Object.values(key).includes('latest');
    if (this.isWhole && !isLatest && this.version !== null) {
      request.after = { version: this.version, positions: this.positions };
      if (this.epoch !== null) request.after.epoch = this.epoch;
    }
    return request;
  }

  /**
   * Applies a message to the rows. `again`: it does not fit what is known, so the rows are of no use and the subscription has to begin anew.
   * `ignored`: it is of no concern, such as what is still on its way from before that.
   */
  apply(message: Message): Update | 'again' | 'ignored' {
    switch (message.type) {
      case 'snapshot':
      case 'skipped':
      case 'moved':
        return this.replace(message.type, message);
      case 'resumed':
        if (!this.isWhole || message.version !== this.version) return this.distrust();
        this.isAsked = false;
        this.note(message);
        return this.update('resumed');
      case 'changes':
        if (!this.isWhole || message.version !== this.version) return this.distrust();
        this.note(message);
        return this.change('changes', message, null);
      case 'switched': {
        if (!this.isWhole || message.from !== this.version) return this.distrust();
        this.note({ ...message, version: message.to ?? message.version ?? message.from } as Message);
        return this.change('switched', message, message.from ?? null);
      }
      case 'unavailable':
        return { ...this.update('unavailable'), detail: message.detail ?? null };
      case 'error':
        this.isWhole = false;
        return { ...this.update('refused'), status: message.status ?? null, detail: message.detail ?? message.title ?? null };
      default:
        return 'ignored';
    }
  }

  private distrust(): 'again' | 'ignored' {
    this.isWhole = false;
    return this.isAsked ? 'ignored' : 'again';
  }

  private note(message: Message): void {
    this.version = message.version ?? this.version;
    this.epoch = message.epoch ?? this.epoch;
    this.key = message.key ?? this.key;
    this.positions = message.positions ?? this.positions;
    if (message.watermark !== undefined) this.watermark = message.watermark;
  }

  private replace(reason: 'snapshot' | 'skipped' | 'moved', message: Message): Update {
    // Another version numbers its epochs anew.
    this.epoch = null;
    this.note(message);
    this.rows.clear();
    for (const row of message.rows ?? []) this.rows.set(this.keyOf(row), row);
    this.isWhole = true;
    this.isAsked = false;
    return { ...this.update(reason), changed: message.rows ?? [] };
  }

  private change(reason: 'changes' | 'switched', message: Message, from: number | null): Update {
    const deleted = (message.deleted ?? []).map(key => this.keyOf(key));
    // A row may leave one place and arrive at another in one message: deletions come first.
    for (const key of deleted) this.rows.delete(key);
    for (const row of message.changed ?? []) this.rows.set(this.keyOf(row), row);
    return { ...this.update(reason), from, changed: message.changed ?? [], deleted };
  }

  private keyOf(row: Row | Value[]): string {
    const columns = this.wanted.keyColumns;
    return JSON.stringify(Array.isArray(row) ? row : columns.map(column => row[column] ?? this.key[column] ?? null));
  }

  private update(reason: Reason): Update {
    return {
      reason,
      view: this.wanted.view,
      version: this.version,
      from: null,
      key: this.key,
      positions: this.positions,
      watermark: this.watermark,
      rows: this.rows,
      changed: [],
      deleted: [],
      status: null,
      detail: null,
    };
  }
}

/** The part of a WebSocket that is used. */
export interface Socket {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(text: string): void;
  close(): void;
}

export interface Options {
  /** Makes a connection. */
  open?: (url: string) => Socket;
  /** A number from 0 to 1. */
  random?: () => number;
  /** The shortest and the longest time before another attempt, milliseconds. */
  backoffMs?: readonly [number, number];
  /** A connection that has been quiet for so long is asked for a sign of life, milliseconds. */
  quietMs?: number;
  /** And given up after so long without one. */
  patienceMs?: number;
}

export type Connection =
  | { is: 'connecting'; since: number }
  | { is: 'open'; since: number }
  /** Lost: the next attempt is at `retryAt`; times are milliseconds since the Unix epoch. */
  | { is: 'waiting'; since: number; retryAt: number; attempt: number }
  | { is: 'closed'; since: number };

/**
 * How long to wait before an attempt: doubled each time, and somewhere in the upper half of that, so that the clients of a server that
 * comes back do not all come at once.
 */
export function backoff(attempt: number, [least, most]: readonly [number, number], random: number): number {
  const longest = Math.min(most, least * 2 ** Math.min(attempt, 30));
  return Math.round(longest * (0.5 + random / 2));
}

interface Entry {
  follower: Follower;
  listener: (update: Update) => void;
}

/** Many subscriptions on one connection. */
export class LiveClient {
  private readonly open: (url: string) => Socket;
  private readonly random: () => number;
  private readonly backoffMs: readonly [number, number];
  private readonly quietMs: number;
  private readonly patienceMs: number;
  private readonly entries = new Map<string, Entry>();
  private readonly watchers = new Set<(state: Connection) => void>();
  private socket: Socket | null = null;
  private state: Connection = { is: 'closed', since: Date.now() };
  /** Since when there is no connection. */
  private lostAt: number | null = null;
  private attempt = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private sign: ReturnType<typeof setTimeout> | undefined;
  private lastId = 0;

  constructor(private readonly url: string, options: Options = {}) {
    this.open = options.open ?? (address => new WebSocket(address) as unknown as Socket);
    this.random = options.random ?? Math.random;
    this.backoffMs = options.backoffMs ?? [500, 15_000];
    this.quietMs = options.quietMs ?? 20_000;
    this.patienceMs = options.patienceMs ?? 10_000;
  }

  /** Follows a partition until the returned function is called. The first subscription opens the connection. */
  subscribe(wanted: Subscription, listener: (update: Update) => void): () => void {
    const id = `s${(this.lastId += 1)}`;
    const follower = new Follower(id, wanted);
    this.entries.set(id, { follower, listener });
    if (this.state.is === 'open') this.send(follower.request());
    else if (this.state.is === 'closed') this.connect();
    return () => {
      if (this.entries.delete(id) && this.state.is === 'open') this.send({ op: 'unsubscribe', id });
    };
  }

  /** Tells the state of the connection now, and whenever it changes. */
  watch(watcher: (state: Connection) => void): () => void {
    this.watchers.add(watcher);
    watcher(this.state);
    return () => this.watchers.delete(watcher);
  }

  /** Does not wait for the next attempt: somebody asks, or the network is back. */
  retryNow(): void {
    if (this.state.is === 'waiting') this.connect();
  }

  /** Closes the connection. A later subscription opens it again. */
  close(): void {
    clearTimeout(this.retry);
    this.forget();
    this.lostAt = null;
    this.attempt = 0;
    this.become({ is: 'closed', since: Date.now() });
  }

  private connect(): void {
    clearTimeout(this.retry);
    this.become({ is: 'connecting', since: this.lostAt ?? Date.now() });
    let socket: Socket;
    try {
      socket = this.open(this.url);
    } catch {
      return this.lost();
    }
    this.socket = socket;
    // Each handler looks whether it is of the connection of now: an old one may still have something to say.
    socket.onopen = () => {
      if (socket !== this.socket) return;
      this.lostAt = null;
      this.become({ is: 'open', since: Date.now() });
      for (const { follower } of this.entries.values()) this.send(follower.request());
      this.expectSign();
    };
    socket.onmessage = event => {
      if (socket === this.socket) this.receive(String(event.data));
    };
    socket.onclose = () => {
      if (socket === this.socket) this.lost();
    };
    socket.onerror = () => {
      if (socket === this.socket) this.lost();
    };
    // An address that swallows packets answers nothing at all.
    this.sign = setTimeout(() => this.lost(), this.patienceMs);
  }

  private receive(text: string): void {
    // A connection is good once the server has said something on it, not when it was accepted: a proxy before a server that is gone accepts.
    this.attempt = 0;
    this.expectSign();
    let message: Message;
    try {
      message = parseExact(text) as Message;
    } catch {
      return this.lost();
    }
    if (message.id === undefined) return;
    const entry = this.entries.get(message.id);
    // What was sent before the server knew that nobody follows any more.
    if (entry === undefined) return;
    const update = entry.follower.apply(message);
    if (update === 'ignored') return;
    if (update === 'again') {
      this.send({ op: 'unsubscribe', id: message.id });
      return this.send(entry.follower.request());
    }
    if (update.reason === 'refused') this.entries.delete(message.id);
    entry.listener(update);
  }

  private expectSign(): void {
    clearTimeout(this.sign);
    this.sign = setTimeout(() => {
      this.send({ op: 'ping' });
      this.sign = setTimeout(() => this.lost(), this.patienceMs);
    }, this.quietMs);
  }

  private lost(): void {
    this.forget();
    const now = Date.now();
    this.lostAt ??= now;
    const wait = backoff(this.attempt, this.backoffMs, this.random());
    this.attempt += 1;
    this.become({ is: 'waiting', since: this.lostAt, retryAt: now + wait, attempt: this.attempt });
    this.retry = setTimeout(() => this.connect(), wait);
  }

  private forget(): void {
    clearTimeout(this.sign);
    const socket = this.socket;
    this.socket = null;
    try {
      socket?.close();
    } catch {
      // It is given up either way.
    }
  }

  private send(message: object): void {
    try {
      this.socket?.send(JSON.stringify(message));
    } catch {
      // A connection that cannot be written to is told by its close.
    }
  }

  private become(state: Connection): void {
    this.state = state;
    for (const watcher of this.watchers) watcher(state);
  }
}
