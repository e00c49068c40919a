// Requests to the API: same origin, problems as errors, and what a view is read by.

import { type Key, type Row, type Value, parseExact } from './live';
import type { KeysDocument, Problem, RowsDocument, ViewDocument } from './types';

export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail ?? problem.title);
  }

  get status(): number {
    return this.problem.status;
  }
}

/** Called when a request is refused for want of a log-in. */
let onUnauthorized = (): void => {};
export function whenUnauthorized(callback: () => void): void {
  onUnauthorized = callback;
}

/** How far the server's clock is ahead of this one, milliseconds; its `Date` header has whole seconds. */
export let serverAhead = 0;

async function request<T>(method: string, path: string, body: unknown, signal: AbortSignal | undefined): Promise<T> {
  const headers: Record<string, string> = { accept: 'application/json' };
  if (method !== 'GET') headers['x-refold-request'] = '1';
  if (body !== undefined) headers['content-type'] = 'application/json';
  let response: Response;
  try {
    const init: RequestInit = { method, headers, credentials: 'same-origin' };
    if (body !== undefined) init.body = JSON.stringify(body);
    if (signal !== undefined) init.signal = signal;
    response = await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError({ status: 0, title: 'The server does not answer', detail: 'the server does not answer' });
  }
  const date = Date.parse(response.headers.get('date') ?? '');
  if (!Number.isNaN(date)) {
    const ahead = date + 500 - Date.now();
    // Less than the header's own coarseness is no difference.
    serverAhead = Math.abs(ahead) > 1500 ? ahead : 0;
  }
  if (response.ok) return (response.status === 204 ? undefined : parseExact(await response.text())) as T;
  if (response.status === 401 && path !== '/v1/session') onUnauthorized();
  let problem: Problem = { status: response.status, title: response.statusText || `status ${response.status}` };
  try {
    problem = { ...problem, ...((await response.json()) as Problem) };
  } catch {
    // A proxy's page: the status says what there is to say.
  }
  throw new ApiError(problem);
}

export function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return request<T>('GET', path, undefined, signal);
}

export function post<T>(path: string, body: unknown): Promise<T> {
  return request<T>('POST', path, body, undefined);
}

export function remove(path: string): Promise<void> {
  return request<void>('DELETE', path, undefined, undefined);
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

/** What an error says to people. */
export function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const RESERVED = new Set(['from', 'to', 'limit', 'cursor', 'version', 'as_of']);

/** The parameter of a key column: names that mean something else there get `key.` before them. */
function parameter(column: string): string {
  return RESERVED.has(column) ? `key.${column}` : column;
}

export interface Reading {
  from?: string;
  to?: string;
  limit?: number;
  version?: number;
  cursor?: string;
}

export interface Part {
  key: Key;
  rows: Row[];
  next: string | null;
}

export interface Page {
  version: number;
  watermark: string | null;
  parts: Part[];
}

/** How many partitions one request may ask for. */
const PARTITIONS_MOST = 20;

/** Rows of some partitions. Those of a single key column are asked for together. */
export async function rows(view: ViewDocument, keys: readonly Key[], reading: Reading, signal?: AbortSignal): Promise<Page> {
  const columns = view.partition_key ?? [];
  const page: Page = { version: 0, watermark: null, parts: [] };
  const size = columns.length === 1 ? PARTITIONS_MOST : 1;
  for (let at = 0; at < keys.length; at += size) {
    const some = keys.slice(at, at + size);
    const query = new URLSearchParams();
    for (const key of some) for (const column of columns) query.append(parameter(column), String(key[column] ?? ''));
    for (const [name, value] of Object.entries(reading)) if (value !== undefined) query.set(name, String(value));
    const answer = await get<RowsDocument>(`/v1/views/${encodeURIComponent(view.view)}/rows?${query}`, signal);
    page.version = answer.version;
    page.watermark = answer.watermark;
    if (answer.partitions !== undefined) {
      page.parts.push(...answer.partitions.map((part, index) => ({ key: some[index] ?? part.key, rows: part.rows, next: part.next_cursor })));
    } else {
      page.parts.push({ key: some[0] ?? {}, rows: answer.rows ?? [], next: answer.next_cursor ?? null });
    }
  }
  return page;
}

const PAGE_ROWS = 5_000;
/** The most rows of one series that are read: what is older is left out, and said to be. */
export const SERIES_ROWS_MOST = 200_000;

export interface Whole {
  rows: Row[];
  version: number;
  watermark: string | null;
  complete: boolean;
}

/** All rows of one partition in a range, page by page. */
export async function allRows(view: ViewDocument, key: Key, range: { from?: string; to?: string }, signal?: AbortSignal): Promise<Whole> {
  const whole: Whole = { rows: [], version: 0, watermark: null, complete: true };
  let cursor: string | null = null;
  do {
    const reading: Reading = { ...range, limit: PAGE_ROWS };
    if (cursor !== null) reading.cursor = cursor;
    const page: Page = await rows(view, [key], reading, signal);
    whole.version = page.version;
    whole.watermark ??= page.watermark;
    for (const row of page.parts[0]?.rows ?? []) whole.rows.push(row);
    cursor = page.parts[0]?.next ?? null;
  } while (cursor !== null && whole.rows.length < SERIES_ROWS_MOST);
  whole.complete = cursor === null;
  return whole;
}

export function searchKeys(view: string, prefix: string, limit: number, signal?: AbortSignal): Promise<KeysDocument> {
  const query = new URLSearchParams({ limit: String(limit) });
  if (prefix !== '') query.set('prefix', prefix);
  return get<KeysDocument>(`/v1/views/${encodeURIComponent(view)}/keys?${query}`, signal);
}

/** A partition key as one text, for the address and for labels: the value itself, or JSON where there are several columns. */
export function keyText(view: ViewDocument, key: Key): string {
  const columns = view.partition_key ?? [];
  const values = columns.map(column => key[column] ?? null);
  return values.length === 1 ? String(values[0] ?? '') : JSON.stringify(values);
}

export function keyOfText(view: ViewDocument, text: string): Key {
  const columns = view.partition_key ?? [];
  if (columns.length === 1) return { [columns[0] ?? '']: text };
  let values: Value[] = [];
  try {
    const parsed: unknown = JSON.parse(text);
    if (Array.isArray(parsed)) values = parsed as Value[];
  } catch {
    // An address that somebody typed: the key is then of empty parts, which the API refuses with a reason.
  }
  return Object.fromEntries(columns.map((column, index) => [column, values[index] ?? '']));
}

/** The columns that tell the rows of a view apart. */
export function keyColumns(view: ViewDocument): string[] {
  return [...(view.partition_key ?? []), ...(view.clustering ?? []).map(order => order.column)];
}
