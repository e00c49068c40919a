// Whether all is well: one line for each thing that matters, in words, with the way out.

import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

import { get, said } from '../api';
import { count, parseTime, words } from '../format';
import { Ago, Loading, Mark, Name, Note, Spark, Time, Wide } from '../parts/ui';
import { may } from '../versions';
import { session, usePoll, views } from '../state';
import type { HealthDocument, HealthItem, QuarantinedRecord, ViewDocument } from '../types';

const GROUPS: { kind: HealthItem['kind']; title: string }[] = [
  { kind: 'source', title: 'Source' },
  { kind: 'log', title: 'Log' },
  { kind: 'store', title: 'Store' },
  { kind: 'catalogue', title: 'Catalogue' },
  { kind: 'worker', title: 'Worker' },
  { kind: 'view', title: 'View' },
];

const LOOK_EVERY = 2_000;
/** Samples of the last hour. */
const SAMPLES = 3_600_000 / LOOK_EVERY;
/** Points that a line of this width can show. */
const POINTS = 120;

export function Health(): JSX.Element {
  const health = usePoll<HealthDocument>('/v1/health', LOOK_EVERY);
  const samples = useSamples(health.data);
  const { data, error } = health;
  if (data === null) {
    if (error === null) return <Loading what="Looking at everything…" />;
    return (
      <>
        <h1>Health</h1>
        <div class="blank">
          <h2>{error.status === 0 ? 'The server does not answer' : 'Its health cannot be read'}</h2>
          <p>{error.status === 0 ? 'Is the program running, and is this its address? This page goes on by itself as soon as it answers.' : error.message}</p>
        </div>
      </>
    );
  }
  const troubles = data.items.filter(item => item.state !== 'ok');
  const isStale = error !== null;
  return (
    <>
      <div class="head">
        <div class="head-text">
          <h1 class="verdict">
            <Mark state={isStale ? 'idle' : ({ ok: 'ok', degraded: 'warning', down: 'error' } as const)[data.state]} />
            {isStale ? 'No answer' : verdict(data.state, troubles)}
          </h1>
          <p class="when">
            {isStale && health.at !== null ? (
              <span class="strong">
                as of <Time at={health.at} seconds />
              </span>
            ) : (
              <span>{data.items.length} things looked at, every two seconds</span>
            )}
          </p>
        </div>
      </div>
      <div class={isStale ? 'stale' : ''}>
        <div class="things">
          {[...data.items].sort(byTrouble).map(item => (
            <Thing key={`${item.kind}/${item.name}`} item={item} samples={samples.get(`${item.kind}/${item.name}`) ?? []} />
          ))}
        </div>
      </div>
      <Quarantine />
    </>
  );
}

function verdict(state: HealthDocument['state'], troubles: readonly HealthItem[]): string {
  if (state === 'ok') return 'All is well';
  const names = troubles.map(item => words(item.name));
  const list = names.length <= 2 ? names.join(' and ') : `${names.slice(0, 2).join(', ')} and ${names.length - 2} more`;
  return state === 'down' ? `Out of order: ${list}` : `To look at: ${list}`;
}

/** What is wrong comes first; the rest in the order in which events flow. */
function byTrouble(a: HealthItem, b: HealthItem): number {
  const weight = { error: 0, warning: 1, ok: 2 };
  const place = (item: HealthItem): number => GROUPS.findIndex(group => group.kind === item.kind);
  return weight[a.state] - weight[b.state] || place(a) - place(b) || (a.name < b.name ? -1 : 1);
}

function Thing({ item, samples }: { item: HealthItem; samples: readonly number[] }): JSX.Element {
  const since = parseTime(item.since);
  const kind = GROUPS.find(group => group.kind === item.kind)?.title ?? item.kind;
  return (
    <div class="thing" data-state={item.state}>
      <span>
        <Mark state={item.state} />
      </span>
      <span class="thing-kind quiet">{kind}</span>
      <span class="thing-name strong">
        <Name>{item.name}</Name>
      </span>
      <div class="number">
        {item.detail}
        {item.state !== 'ok' && since !== null && (
          <span class="quiet">
            {' · since '}
            <Time at={since} seconds /> (<Ago at={since} />)
          </span>
        )}
      </div>
      <div class="spark-cell">{samples.length > 2 && <Spark values={thinned(samples)} label={`${words(sampled(item)?.name ?? 'value')} while this page was open`} />}</div>
      {item.hint != null && item.state !== 'ok' && <p class="thing-hint">{item.hint}</p>}
    </div>
  );
}

/** The number of a thing that is worth a line: the rate of a source, the lag of a view. */
function sampled(item: HealthItem): { name: string; value: number } | null {
  for (const name of ['events_per_s', 'lag', 'queued_rows']) {
    const value = item.values?.[name];
    if (typeof value === 'number') return { name, value };
  }
  return null;
}

/** Kept in the page, since the server keeps no past of it: the last hour, as far as the page was open. */
const kept = new Map<string, number[]>();
let keptAt = -Infinity;

function useSamples(data: HealthDocument | null): ReadonlyMap<string, readonly number[]> {
  const [, redraw] = useState(0);
  useEffect(() => {
    if (data === null || performance.now() - keptAt < LOOK_EVERY / 2) return;
    keptAt = performance.now();
    for (const item of data.items) {
      const sample = sampled(item);
      if (sample === null) continue;
      const name = `${item.kind}/${item.name}`;
      const list = kept.get(name) ?? [];
      list.push(sample.value);
      if (list.length > SAMPLES) list.shift();
      kept.set(name, list);
    }
    redraw(count => count + 1);
  }, [data]);
  return kept;
}

/** The mean of each run of samples, so that a line has no more points than pixels. */
function thinned(samples: readonly number[]): number[] {
  const run = Math.ceil(samples.length / POINTS);
  const means: number[] = [];
  for (let from = 0; from < samples.length; from += run) {
    const some = samples.slice(from, from + run);
    means.push(some.reduce((sum, value) => sum + value, 0) / some.length);
  }
  return means;
}

const REASONS: Record<string, string> = {
  too_late: 'too late',
  late_after_idle: 'late after idle',
  from_the_future: 'from the future',
  key_too_long: 'key too long',
};

/** What was refused: counts by reason, and samples with their content. */
function Quarantine(): JSX.Element | null {
  const known = views.value.data ?? [];
  const [chosen, setChosen] = useState<string | null>(null);
  const withCounts = known.map(view => ({ view, counts: countsOf(view) }));
  const total = withCounts.reduce((sum, one) => sum + Object.values(one.counts).reduce((a, b) => a + b, 0), 0);
  const current = withCounts.find(one => one.view.view === chosen) ?? withCounts.find(one => Object.keys(one.counts).length > 0) ?? withCounts[0];
  if (current === undefined) return null;
  return (
    <section class="section" aria-label="Quarantine">
      <div class="section-head">
        <h2>Quarantine</h2>
        {withCounts.length > 1 && (
          <div class="segments" role="group" aria-label="View">
            {withCounts.map(one => (
              <button key={one.view.view} type="button" aria-pressed={one === current} onClick={() => setChosen(one.view.view)}>
                {one.view.view}
              </button>
            ))}
          </div>
        )}
      </div>
      {total === 0 ? <p class="quiet">Nothing was refused.</p> : <Refused key={current.view.view} view={current.view} counts={current.counts} />}
    </section>
  );
}

function countsOf(view: ViewDocument): Record<string, number> {
  const version = view.versions.find(one => one.version === view.active?.version) ?? view.versions.at(-1);
  return Object.fromEntries(Object.entries(version?.quarantined ?? {}).filter(([, number]) => number > 0));
}

interface Page {
  records: QuarantinedRecord[];
  next_cursor: string | null;
}

const PAGE = 10;

function Refused({ view, counts }: { view: ViewDocument; counts: Record<string, number> }): JSX.Element {
  const [reason, setReason] = useState<string | null>(null);
  const [records, setRecords] = useState<QuarantinedRecord[]>([]);
  const [next, setNext] = useState<string | null>(null);
  const [error, setError] = useState<string | null>(null);
  const asked = useRef(0);
  const mayLook = may(session.value?.role ?? null, 'operate');
  const read = async (cursor: string | null): Promise<void> => {
    const mine = (asked.current += 1);
    const query = new URLSearchParams({ limit: String(PAGE) });
    if (reason !== null) query.set('reason', reason);
    if (cursor !== null) query.set('cursor', cursor);
    try {
      const page = await get<Page>(`/v1/views/${encodeURIComponent(view.view)}/quarantine?${query}`);
      if (mine !== asked.current) return;
      setRecords(before => (cursor === null ? page.records : [...before, ...page.records]));
      setNext(page.next_cursor);
      setError(null);
    } catch (failure) {
      if (mine === asked.current) setError(said(failure));
    }
  };
  useEffect(() => {
    setRecords([]);
    setNext(null);
    if (mayLook) void read(null);
  }, [reason, view.view, mayLook]);
  const reasons = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  if (reasons.length === 0) return <p class="quiet">This view has refused nothing.</p>;
  return (
    <>
      <div class="counts" role="group" aria-label="Reason">
        {reasons.map(([name, number]) => (
          <button key={name} type="button" class="button" aria-pressed={reason === name} onClick={() => setReason(reason === name ? null : name)}>
            {REASONS[name] ?? words(name)} <span class="number">{count(number)}</span>
          </button>
        ))}
      </div>
      {!mayLook && <p class="quiet">What was refused is content that no view shows: looking at it needs the role operate.</p>}
      {error !== null && (
        <Note state="warning">
          <strong>Samples cannot be read.</strong> {error}
        </Note>
      )}
      {records.length > 0 && (
        <Wide label="Samples">
          <table class="table samples">
            <thead>
              <tr>
                <th scope="col">Came</th>
                <th scope="col">Where</th>
                <th scope="col">Why</th>
                <th scope="col">Content</th>
              </tr>
            </thead>
            <tbody>
              {records.map(record => (
                <tr key={`${record.partition}/${record.offset}`}>
                  <td>{record.record_time === null ? '–' : <Came text={record.record_time} />}</td>
                  <td class="nowrap">
                    {record.partition} / {count(record.offset)}
                  </td>
                  <td>
                    {REASONS[record.reason] ?? words(record.reason)}
                    {record.detail !== null && <div class="quiet small">{record.detail}</div>}
                  </td>
                  <td>
                    <Content record={record} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </Wide>
      )}
      {next !== null && (
        <button type="button" class="button" onClick={() => void read(next)}>
          More
        </button>
      )}
    </>
  );
}

function Came({ text }: { text: string }): JSX.Element {
  const at = parseTime(text);
  return at === null ? <>{text}</> : <Time at={at} seconds />;
}

function Content({ record }: { record: QuarantinedRecord }): JSX.Element {
  if (record.value !== null && record.value !== undefined) return <pre dir="auto">{JSON.stringify(record.value)}</pre>;
  if (record.base64 !== null) {
    return (
      <>
        <pre>{record.base64.slice(0, 400)}</pre>
        <span class="quiet small">
          {record.bytes === null ? '' : `${count(record.bytes)} bytes, `}in Base64{record.truncated ? ', the beginning' : ''}
        </span>
      </>
    );
  }
  return <span class="quiet">no content was kept</span>;
}

