// The documents of the API, as far as they are read here.

import type { Key, Positions, Row } from './live';

export interface Column {
  name: string;
  type: string;
  role: 'partition_key' | 'clustering_key' | 'value';
}

export interface Drawing {
  kind: 'ranking' | 'series' | 'none';
  title: string | null;
  label: string | null;
  value: string | null;
  rank: string | null;
  time: string | null;
  series: string | null;
  series_label: string | null;
}

export type VersionState = 'building' | 'caught_up' | 'active' | 'retired' | 'dropped' | 'failed';

export interface VersionDocument {
  version: number;
  state: VersionState;
  digest: string;
  created: string;
  created_by: string;
  changed: string;
  changed_by: string;
  error: string | null;
  way_on?: string;
  running: boolean;
  owner?: string | null;
  unable: string | null;
  waits_for: string | null;
  paused?: boolean;
  throttle?: { is: 'auto' | 'off' | 'rate'; events_per_s: number | null; limit_per_s: number | null };
  until?: string | null;
  positions: Positions | null;
  watermark: string | null;
  read?: number;
  applied?: number;
  quarantined?: Record<string, number>;
  committed?: Positions;
  ends?: Positions;
  lag?: number | null;
  event_time?: string | null;
  live?: boolean;
  events_per_s?: number;
  eta_s?: number | null;
  replay?: ReplayProgress | null;
  queued_rows?: number;
  stalled_s?: number | null;
  source_error?: string | null;
  store_error?: string | null;
  feed_error?: string | null;
  definition?: string | null;
  sql?: string | null;
  removed?: boolean;
  drops_at?: string;
}

/** How far a version is that is being built, from the last seconds. */
export interface ReplayProgress {
  left: number;
  arrival_per_s: number | null;
  eta: { is: 'never' } | { is: 'in'; expected_s: number; soonest_s: number; latest_s: number | null } | null;
  bottleneck: 'paused' | 'throttle' | 'log' | 'processor' | 'store' | null;
}

export interface ViewDocument {
  view: string;
  active: { version: number; previous: number | null; since: string; by: string; reason: string | null; rolled_back?: boolean } | null;
  source?: string;
  sql?: string;
  definition?: string;
  columns?: Column[];
  partition_key?: string[];
  clustering?: { column: string; order: 'asc' | 'desc' }[];
  window?: { column: string; size_ms: number; slide_ms: number; newest_closed?: string | null } | null;
  keep_ms?: number | null;
  dashboard?: Drawing;
  problem?: Problem;
  versions: VersionDocument[];
}

export interface RowsDocument {
  view: string;
  version: number;
  positions: Positions;
  watermark: string | null;
  rows?: Row[];
  next_cursor?: string | null;
  partitions?: { key: Key; rows: Row[]; next_cursor: string | null }[];
}

export interface KeysDocument {
  view: string;
  version: number;
  keys: Key[];
  complete: boolean;
}

export interface HealthItem {
  kind: 'source' | 'log' | 'store' | 'catalogue' | 'worker' | 'view';
  name: string;
  state: 'ok' | 'warning' | 'error';
  detail: string | null;
  since: string | null;
  hint: string | null;
  values?: Record<string, unknown>;
}

export interface HealthDocument {
  state: 'ok' | 'degraded' | 'down';
  items: HealthItem[];
}

export interface AuditEntry {
  at_ms: number;
  by: string;
  verb: string;
  view: string;
  version: number | null;
  from: string | null;
  to: string | null;
  reason: string | null;
}

export interface QuarantinedRecord {
  topic: string | null;
  partition: number;
  offset: number;
  record_time: string | null;
  reason: string;
  detail: string | null;
  bytes: number | null;
  value: unknown;
  base64: string | null;
  truncated: boolean;
}

export type Role = 'read' | 'operate' | 'admin';

export interface Session {
  name: string | null;
  role: Role | null;
  needs_login: boolean;
}

export interface Problem {
  type?: string;
  title: string;
  status: number;
  detail?: string;
  [member: string]: unknown;
}
