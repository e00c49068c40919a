// A `refold up` of the test's own, and what tests do with it over HTTP.

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const SCHEMAS = fileURLToPath(new URL('../../schemas', import.meta.url));
/** Two days of history, so that sparklines and usual levels have something to show, and then posts in real time. */
const DAYS = 'generate:20?backlog=2d&backlog_rate=1';
/** For tests in which a server only has to be there. */
export const HOURS = 'generate:20?backlog=3h&backlog_rate=1';
const START_MS = 300_000;

export interface Wanted {
  source?: string;
  host?: string;
  args?: string[];
  token?: string;
}

export class Refold {
  private child: ChildProcess | null = null;
  private said = '';

  private constructor(
    readonly url: string,
    private readonly command: { program: string; args: string[] } | null,
    private readonly data: string | null,
    private readonly token: string | undefined,
  ) {}

  /** The one that REFOLD_URL names, which is left as it is; else one of its own. */
  static async shared(): Promise<Refold> {
    const url = process.env['REFOLD_URL'];
    if (url === undefined) return Refold.start({});
    const refold = new Refold(url.replace(/\/$/, ''), null, null, process.env['REFOLD_TOKEN']);
    await refold.ready();
    return refold;
  }

  /** Starts one with an empty data folder. */
  static async start(wanted: Wanted): Promise<Refold> {
    const program = process.env['REFOLD_PROGRAM'];
    if (program === undefined) throw new Error('REFOLD_PROGRAM names no program: run scripts/dashboard browser, or set it');
    const port = await freePort();
    const data = mkdtempSync(join(tmpdir(), 'refold-browser-'));
    const args = ['up', '--data', data, '--schemas', SCHEMAS, '--listen', `${wanted.host ?? '127.0.0.1'}:${port}`, '--source', wanted.source ?? DAYS, ...(wanted.args ?? [])];
    const refold = new Refold(`http://127.0.0.1:${port}`, { program, args }, data, wanted.token);
    await refold.run();
    return refold;
  }

  /** Starts the program, again with the same data and address after `kill`. */
  async run(): Promise<void> {
    if (this.command === null) throw new Error('this server was not started here');
    // Settings of whoever runs the tests are not those of the server that is tested.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('REFOLD_')));
    const child = spawn(this.command.program, this.command.args, { stdio: ['ignore', 'ignore', 'pipe'], env });
    this.child = child;
    child.stderr?.on('data', (text: Buffer) => {
      this.said = (this.said + text.toString()).slice(-4000);
    });
    await this.ready();
  }

  /** Ends it as a power cut would. */
  async kill(): Promise<void> {
    const child = this.child;
    if (child === null || child.exitCode !== null) return;
    const ended = new Promise(resolve => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
    this.child = null;
  }

  async stop(): Promise<void> {
    await this.kill();
    if (this.data !== null) rmSync(this.data, { recursive: true, force: true });
  }

  async get(path: string): Promise<any> {
    const response = await fetch(this.url + path, { headers: this.headers() });
    if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  async post(path: string, body: unknown): Promise<any> {
    const response = await fetch(this.url + path, { method: 'POST', headers: { ...this.headers(), 'content-type': 'application/json' }, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`POST ${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** Posts of now that have this text. While the generated history is still being written they are refused with 503: then again. */
  async say(text: string, count: number): Promise<void> {
    const now = Date.now();
    const lines = Array.from({ length: count }, (_, index) => JSON.stringify({ userid: index, username: 'browser', timestamp: now, tweetid: now * 1000 + index, tweet: text }));
    await until(`posts are taken`, async () => {
      const response = await fetch(`${this.url}/v1/sources/tweets/events`, { method: 'POST', headers: { ...this.headers(), 'content-type': 'application/x-ndjson' }, body: lines.join('\n') });
      if (response.status === 503) return false;
      const answer = (await response.json()) as { written?: number };
      if (answer.written !== count) throw new Error(`posts were not taken: ${JSON.stringify(answer)}`);
      return true;
    });
  }

  async ready(): Promise<void> {
    await until(`${this.url} is ready`, async () => {
      if (this.child !== null && this.child.exitCode !== null) throw new Error(`refold has ended: ${this.said}`);
      try {
        return (await fetch(`${this.url}/readyz`)).ok;
      } catch {
        return false;
      }
    });
  }

  private headers(): Record<string, string> {
    return this.token === undefined ? {} : { authorization: `Bearer ${this.token}` };
  }
}

/** Waits for a condition, by asking for it. */
export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + START_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`after ${START_MS / 1000} s it is not so that ${what}`);
    await new Promise(resolve => setTimeout(resolve, 300));
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => (typeof address === 'object' && address !== null ? resolve(address.port) : reject(new Error('no port'))));
    });
  });
}
