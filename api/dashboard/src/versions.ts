// What versions of a view mean for people: what can be done next, how far each is, who served when. Pure.

import { count, duration, parseTime } from './format';
import type { AuditEntry, Role, VersionDocument, ViewDocument } from './types';

const RANKS: Record<Role, number> = { read: 1, operate: 2, admin: 3 };

/** Whether a role includes another. */
export function may(role: Role | null, needed: Role): boolean {
  return role !== null && RANKS[role] >= RANKS[needed];
}

export function activeOf(view: ViewDocument): VersionDocument | null {
  return view.versions.find(version => version.version === view.active?.version) ?? null;
}

/** The version that readers can be sent back to. */
export function previousOf(view: ViewDocument): VersionDocument | null {
  return view.active?.rolled_back === true ? null : otherOf(view);
}

/** The version that readers were sent back from, if they can be sent there again. */
export function forwardOf(view: ViewDocument): VersionDocument | null {
  return view.active?.rolled_back === true ? otherOf(view) : null;
}

function otherOf(view: ViewDocument): VersionDocument | null {
  const other = view.versions.find(version => version.version === view.active?.previous);
  return other?.state === 'retired' || other?.state === 'caught_up' ? other : null;
}

/** Versions that readers could be sent to, the newest first; the one before is gone back to, not switched to. */
export function candidates(view: ViewDocument): VersionDocument[] {
  return view.versions.filter(version => version.state === 'caught_up' && version.until == null).reverse();
}

/** Whether a version can be dropped, as far as its state tells. The server also knows for how long readers may have to go back to it. */
export function isDroppable(view: ViewDocument, version: VersionDocument): boolean {
  return version.state !== 'dropped' && version.version !== view.active?.version;
}

/** Whether a version can be paused: it is being built, and not paused yet. */
export function isPausable(view: ViewDocument, version: VersionDocument): boolean {
  return version.state === 'building' && version.paused !== true && version.version !== view.active?.version;
}

/** How fast a version may be built, where that is out of the ordinary. */
export function throttleText(version: VersionDocument): string | null {
  const { throttle } = version;
  if (version.state !== 'building' || throttle === undefined) return null;
  if (throttle.is === 'rate') return `at most ${count(throttle.events_per_s ?? 0)} events/s`;
  if (throttle.is === 'off') return 'as fast as it can';
  return throttle.limit_per_s === null ? null : `yields to versions in service at ${count(Math.round(throttle.limit_per_s))} events/s`;
}

/** How much of the log a version has read, from 0 to 1; `null` where the end of the log is not known. */
export function progress(version: VersionDocument): number | null {
  const parts = partitions(version);
  if (parts.length === 0) return null;
  const end = parts.reduce((sum, part) => sum + part.end, 0);
  return end === 0 ? 1 : Math.min(1, parts.reduce((sum, part) => sum + Math.min(part.at, part.end), 0) / end);
}

export interface PartitionProgress {
  partition: string;
  at: number;
  end: number;
}

export function partitions(version: VersionDocument): PartitionProgress[] {
  const at = version.committed ?? version.positions ?? {};
  return Object.entries(version.ends ?? {})
    .map(([partition, end]) => ({ partition, at: at[partition] ?? 0, end }))
    .sort((a, b) => Number(a.partition) - Number(b.partition));
}

/** How far a version that is being built is, in words. */
export function progressText(version: VersionDocument): string {
  if (version.unable !== null) return `it cannot be run here: ${version.unable}`;
  if (version.waits_for !== null) return version.waits_for;
  if (!version.running) return 'no worker runs it yet';
  if (version.source_error != null) return `it waits for events: ${version.source_error}`;
  const share = progress(version);
  const parts = [share === null ? null : `${Math.floor(share * 100)} %`, version.lag == null ? null : `${count(version.lag)} events to go`];
  if (version.paused === true) parts.push('paused');
  else if (version.replay?.eta?.is === 'never') parts.push('never done at this rate');
  else if (version.eta_s != null) parts.push(`about ${duration(version.eta_s * 1000)}`);
  return parts.filter(part => part !== null).join(', ') || 'it is being built';
}

/** One sentence or two: how things are, and what can be done next. */
export function whatNext(view: ViewDocument, now: number): string {
  const active = activeOf(view);
  const building = view.versions.filter(version => version.state === 'building').at(-1);
  const ready = candidates(view)[0];
  const failed = view.versions.filter(version => version.state === 'failed' && version.version > (active?.version ?? 0)).at(-1);
  const back = previousOf(view);
  if (active?.state === 'failed') {
    const way = active.way_on ?? 'Resume it once the cause is gone.';
    return `Version ${active.version} serves readers and has failed, so its rows are not updated: ${active.error ?? 'no reason is known'}. ${sentence(way)}`;
  }
  if (active === null) {
    if (building !== undefined) return `Version ${building.version} is being built (${progressText(building)}) and goes into service by itself. Until then there are no rows to read.`;
    if (failed !== undefined) return `Version ${failed.version} has failed: ${failed.error ?? 'no reason is known'}. ${sentence(failed.way_on ?? 'Resume it once the cause is gone')}`;
    return 'No version is in service.';
  }
  if (ready !== undefined) {
    return `Version ${ready.version} has caught up: readers can be switched to it. Version ${active.version} stays fed, so they can go back at any time.`;
  }
  if (building !== undefined) {
    return `Version ${building.version} is being built (${progressText(building)}). Readers stay on version ${active.version} until you switch.`;
  }
  if (failed !== undefined) {
    return `Version ${failed.version} has failed: ${failed.error ?? 'no reason is known'}. Readers are not affected. ${sentence(failed.way_on ?? 'Resume it once the cause is gone')}`;
  }
  const since = parseTime(view.active?.since);
  const serves = `Version ${active.version} serves readers${since === null ? '' : `, for ${duration(now - since)}`}`;
  if (back !== null) return `${serves}. Version ${back.version} is still fed: you can roll back to it in one step.`;
  const forward = forwardOf(view);
  if (forward !== null) return `${serves}: they were sent back from version ${forward.version}, which is still fed and can be switched to again.`;
  return `${serves}. To change the view, replay a new definition beside it.`;
}

function sentence(text: string): string {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

export interface Life {
  version: VersionDocument;
  from: number;
  to: number;
  /** When readers were on it. */
  service: { from: number; to: number }[];
}

/** Who served when, from the audit trail; without it, only since when the version of now does. */
export function lives(view: ViewDocument, audit: readonly AuditEntry[], now: number): Life[] {
  const switches = audit
    .filter(entry => (entry.verb === 'switch' || entry.verb === 'rollback') && entry.version !== null)
    .map(entry => ({ at: entry.at_ms, to: entry.version }))
    .sort((a, b) => a.at - b.at);
  const since = parseTime(view.active?.since);
  // The trail may not reach back so far, or not be for this viewer.
  if (since !== null && !switches.some(known => known.to === view.active?.version && Math.abs(known.at - since) < 1000)) {
    switches.push({ at: since, to: view.active?.version ?? null });
    switches.sort((a, b) => a.at - b.at);
  }
  return view.versions.map(version => {
    const service = switches.flatMap((known, index) =>
      known.to === version.version ? [{ from: known.at, to: switches[index + 1]?.at ?? now }] : [],
    );
    const to = version.state === 'dropped' ? (parseTime(version.changed) ?? now) : now;
    return { version, from: parseTime(version.created) ?? now, to, service };
  });
}

export interface Gate {
  name: string;
  passed: boolean;
  value: string;
}

/** What is known before a switch. The server judges it again, with what it knows then. */
export function gates(target: VersionDocument, active: VersionDocument | null): Gate[] {
  const behind = target.lag ?? null;
  const ready = target.state === 'caught_up' || target.state === 'retired';
  const list: Gate[] = [
    { name: 'Has read the log', passed: ready, value: stateWord(target.state) },
    { name: 'A worker runs it', passed: target.running, value: target.running ? (target.owner ?? 'yes') : 'no' },
    { name: 'Events behind', passed: behind !== null && behind <= 1000, value: behind === null ? 'not known' : count(behind) },
  ];
  const ours = sum(target.quarantined);
  const theirs = active === null ? null : sum(active.quarantined);
  if (ours !== null && theirs !== null && target.quarantined !== undefined) {
    list.push({ name: 'Quarantined', passed: ours <= theirs, value: `${count(ours)}; version ${active?.version ?? ''} has ${count(theirs)}` });
  }
  if (target.store_error != null) list.push({ name: 'Rows are written', passed: false, value: target.store_error });
  return list;
}

function sum(counts: Record<string, number> | undefined): number | null {
  return counts === undefined ? null : Object.values(counts).reduce((total, value) => total + value, 0);
}

export function stateWord(state: string): string {
  return (
    { building: 'being built', caught_up: 'caught up', active: 'in service', retired: 'can be gone back to', dropped: 'dropped', failed: 'failed' }[state] ??
    state.replaceAll('_', ' ')
  );
}

export interface DiffLine {
  is: 'same' | 'added' | 'removed';
  text: string;
}

/** Lines that two definitions share, and those that only one has: the longest common subsequence. */
export function diff(before: string, after: string): DiffLine[] {
  const a = before.trimEnd().split('\n');
  const b = after.trimEnd().split('\n');
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] =
        a[i] === b[j]
          ? (longest[(i + 1) * width + j + 1] ?? 0) + 1
          : Math.max(longest[(i + 1) * width + j] ?? 0, longest[i * width + j + 1] ?? 0);
    }
  }
  const lines: DiffLine[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push({ is: 'same', text: a[i] ?? '' });
      i += 1;
      j += 1;
    } else if (i < a.length && (j >= b.length || (longest[(i + 1) * width + j] ?? 0) >= (longest[i * width + j + 1] ?? 0))) {
      lines.push({ is: 'removed', text: a[i] ?? '' });
      i += 1;
    } else {
      lines.push({ is: 'added', text: b[j] ?? '' });
      j += 1;
    }
  }
  return lines;
}
