// The versions of a view: who serves, who is being built, who can be gone back to, and what can be done next.

import type { JSX } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';

import { Ago, Loading, Mark, type MarkState, Name, Note, Time, Wide } from '../parts/ui';
import { ActDialog, type Asked } from '../parts/VersionDialogs';
import { DAY, count, day, duration, moment, parseTime, time as clock } from '../format';
import { now, session, usePoll, views } from '../state';
import { activeOf, candidates, diff, forwardOf, isDroppable, isPausable, lives, may, partitions, previousOf, progress, progressText, stateWord, throttleText, whatNext } from '../versions';
import type { AuditEntry, VersionDocument, ViewDocument } from '../types';

export function Versions({ name }: { name: string | null }): JSX.Element {
  const known = views.value.data;
  if (known === null) return <Loading what={views.value.error === null ? 'Reading the views…' : 'The server does not answer. This page goes on by itself as soon as it does.'} />;
  if (known.length === 0) {
    return (
      <div class="blank">
        <h2>No views yet</h2>
        <p>View files are in schemas/views. They are taken at the start, or at once by refold replay and the name of the view.</p>
      </div>
    );
  }
  const view = known.find(one => one.view === name) ?? (name === null ? known[0] : undefined);
  return (
    <>
      <div class="head">
        <h1>{view?.view ?? name}</h1>
        {known.length > 1 && (
          <nav class="segments" aria-label="Views">
            {known.map(one => (
              <a key={one.view} href={`/views/${encodeURIComponent(one.view)}`} aria-current={one === view ? 'page' : undefined}>
                {one.view}
              </a>
            ))}
          </nav>
        )}
      </div>
      {view === undefined ? (
        <div class="blank">
          <h2>There is no view {name}</h2>
          <p>There are: {known.map(one => one.view).join(', ')}.</p>
        </div>
      ) : (
        <One key={view.view} view={view} />
      )}
    </>
  );
}

function One({ view }: { view: ViewDocument }): JSX.Element {
  const role = session.value?.role ?? null;
  const mayOperate = may(role, 'operate');
  const audit = usePoll<{ history: AuditEntry[] }>(`/v1/admin/history?view=${encodeURIComponent(view.view)}&limit=200`, 5000);
  const [asked, setAsked] = useState<Asked | null>(null);
  const [done, setDone] = useState<string | null>(null);
  useEffect(() => {
    if (done === null) return;
    const timer = setTimeout(() => setDone(null), 6000);
    return () => clearTimeout(timer);
  }, [done]);
  const entries = audit.data?.history ?? [];
  const active = activeOf(view);
  const ready = candidates(view)[0] ?? null;
  const back = previousOf(view);
  const forward = forwardOf(view);
  const shown = view.versions.filter(version => version.state !== 'dropped').reverse();
  const dropped = view.versions.length - shown.length;
  return (
    <>
      <p class="lead" data-next>
        {whatNext(view, now.value)}
      </p>
      {view.problem !== undefined && (
        <Note state="warning">
          <strong>The definition cannot be planned any more.</strong> {view.problem.detail ?? view.problem.title}
        </Note>
      )}
      <div class="tools" style={{ marginTop: '16px' }}>
        {mayOperate ? (
          <>
            {ready !== null && (
              <button type="button" class="button primary" onClick={() => setAsked({ is: 'switch', to: ready })}>
                Switch to version {ready.version}
              </button>
            )}
            {back !== null && (
              <button type="button" class="button" onClick={() => setAsked({ is: 'rollback', to: back })}>
                Roll back to version {back.version}
              </button>
            )}
            {forward !== null && (
              <button type="button" class="button" onClick={() => setAsked({ is: 'switch', to: forward })}>
                Switch to version {forward.version} again
              </button>
            )}
            <button type="button" class="button" onClick={() => setAsked({ is: 'replay' })}>
              Replay…
            </button>
          </>
        ) : (
          <p class="quiet small">Replays, pauses, switches, rollbacks and drops need the role operate; {session.value?.name ?? 'this session'} has {role ?? 'none'}.</p>
        )}
      </div>
      <Timeline view={view} audit={entries} />
      <section class="section" aria-label="Versions">
        <h2>Versions</h2>
        {shown.map(version => (
          <Version
            key={version.version}
            version={version}
            view={view}
            owner={ownerOf(version, entries)}
            isActive={version === active}
            onPause={mayOperate && isPausable(view, version) ? () => setAsked({ is: 'pause', to: version }) : null}
            onResume={mayOperate && (version.state === 'failed' || version.paused === true) ? () => setAsked({ is: 'resume', to: version }) : null}
            onDrop={mayOperate && isDroppable(view, version) ? () => setAsked({ is: 'drop', to: version }) : null}
          />
        ))}
        {dropped > 0 && <p class="quiet small">{dropped === 1 ? 'One older version is dropped.' : `${dropped} older versions are dropped.`}</p>}
      </section>
      <Definition view={view} />
      <section class="section" aria-label="Audit trail">
        <h2>What was done</h2>
        <Audit entries={entries} error={audit.error?.status === 403 || audit.error?.status === 401 ? 'The audit trail needs the role operate.' : (audit.error?.message ?? null)} />
      </section>
      {asked !== null && (
        <ActDialog
          view={view}
          asked={asked}
          active={active}
          onClose={() => setAsked(null)}
          onDone={text => {
            setAsked(null);
            setDone(text);
            audit.again();
          }}
        />
      )}
      {done !== null && (
        <div class="toast" role="status">
          {done}
        </div>
      )}
    </>
  );
}

function ownerOf(version: VersionDocument, entries: readonly AuditEntry[]): string | null {
  if (version.owner !== undefined) return version.owner;
  const last = entries.findLast(entry => entry.version === version.version && (entry.verb === 'take' || entry.verb === 'release'));
  return last?.verb === 'take' ? last.by : null;
}

function markOf(version: VersionDocument, isActive: boolean): MarkState {
  if (version.state === 'failed' || version.unable !== null) return 'error';
  if (version.store_error != null || version.source_error != null || version.stalled_s != null) return 'warning';
  return isActive || version.state === 'caught_up' ? 'ok' : 'idle';
}

interface VersionProps {
  version: VersionDocument;
  view: ViewDocument;
  owner: string | null;
  isActive: boolean;
  onPause: (() => void) | null;
  onResume: (() => void) | null;
  onDrop: (() => void) | null;
}

function Version({ version, owner, isActive, onPause, onResume, onDrop }: VersionProps): JSX.Element {
  const share = progress(version);
  const watermark = parseTime(version.watermark);
  const quarantined = Object.values(version.quarantined ?? {}).reduce((sum, number) => sum + number, 0);
  const created = parseTime(version.created);
  const dropsAt = parseTime(version.drops_at);
  const until = parseTime(version.until);
  const throttled = throttleText(version);
  const troubles = [
    version.error === null ? null : `It has failed: ${version.error}. ${version.way_on ?? ''}`,
    version.unable === null ? null : `It cannot be run here: ${version.unable}.`,
    version.store_error == null ? null : `Rows wait: ${version.store_error}.`,
    version.source_error == null ? null : `It waits for events: ${version.source_error}.`,
    version.stalled_s == null ? null : `Nothing was folded for ${duration(version.stalled_s * 1000)} although events wait.`,
    version.feed_error == null ? null : `The change feed lags behind: ${version.feed_error}.`,
  ].filter(text => text !== null);
  return (
    <article class="version" aria-label={`Version ${version.version}`}>
      <div>
        <h3 class="number">Version {version.version}</h3>
        <p class="nowrap">
          <Mark state={markOf(version, isActive)} /> {isActive ? 'in service' : version.paused === true ? 'paused' : stateWord(version.state)}
        </p>
      </div>
      <div>
        <div class="version-facts">
          {version.lag != null && version.state !== 'building' && <span>{version.lag === 0 ? 'nothing to read' : `${count(version.lag)} events behind`}</span>}
          {version.events_per_s !== undefined && version.running && <span>{count(Math.round(version.events_per_s))} events/s</span>}
          {watermark !== null && (
            <span>
              up to <Time at={watermark} seconds />
            </span>
          )}
          {until !== null && (
            <span>
              ends at <Time at={until} seconds />
            </span>
          )}
          {throttled !== null && <span>{throttled}</span>}
          {quarantined > 0 && (
            <span>
              {count(quarantined)} quarantined
            </span>
          )}
        </div>
        <p class="quiet small">
          {created !== null && (
            <>
              begun <Ago at={created} />
            </>
          )}
          {` by ${version.created_by}`}
          {version.running || owner !== null ? ` · run by ${owner ?? 'this process'}` : ' · run by no worker'}
          <span class="nowrap"> · <span class="mono">{version.digest.slice(0, 8)}</span></span>
          {dropsAt !== null && (
            <>
              {' · dropped by itself at '}
              <Time at={dropsAt} seconds />
            </>
          )}
        </p>
        {troubles.map(text => (
          <p key={text} class="strong" style={{ color: 'var(--bad)', marginTop: '8px', maxWidth: '80ch' }}>
            {text}
          </p>
        ))}
        {version.state === 'building' && (
          <>
            <div class="meter" role="progressbar" aria-label={`Version ${version.version}`} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.floor((share ?? 0) * 100)}>
              <i style={{ transform: `scaleX(${share ?? 0})` }} />
            </div>
            <p class="number">{progressText(version)}</p>
            <div class="parts">
              {partitions(version).map(part => (
                <div key={part.partition} class="part small quiet number">
                  partition {part.partition}: {count(part.at)} of {count(part.end)}
                  <div class="meter">
                    <i style={{ transform: `scaleX(${part.end === 0 ? 1 : Math.min(1, part.at / part.end)})` }} />
                  </div>
                </div>
              ))}
            </div>
          </>
        )}
      </div>
      <div class="version-acts">
        {onPause !== null && (
          <button type="button" class="button" onClick={onPause}>
            Pause…
          </button>
        )}
        {onResume !== null && (
          <button type="button" class="button" onClick={onResume}>
            Resume…
          </button>
        )}
        {onDrop !== null && (
          <button type="button" class="button plain" onClick={onDrop}>
            Drop…
          </button>
        )}
      </div>
    </article>
  );
}

function Timeline({ view, audit }: { view: ViewDocument; audit: readonly AuditEntry[] }): JSX.Element {
  const present = now.value;
  const all = lives(view, audit, present).filter(life => life.to > life.from);
  const from = Math.min(...all.map(life => life.from), present - 60_000);
  const share = (at: number): number => ((at - from) / (present - from)) * 100;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map(part => from + (present - from) * part);
  const isLong = present - from > DAY;
  return (
    <section class="timeline" aria-label="Timeline of versions">
      {all.toReversed().map(life => (
        <div key={life.version.version} class="life">
          <div class="life-name">
            <span class="strong number">Version {life.version.version}</span>
          </div>
          <div
            class="life-track"
            role="img"
            aria-label={`Version ${life.version.version}: begun ${moment(life.from, present)}; ${
              life.service.length === 0 ? 'never in service' : life.service.map(part => `in service from ${moment(part.from, present)}${part.to >= present ? '' : ` to ${moment(part.to, present)}`}`).join(', ')
            }`}
          >
            <svg aria-hidden="true">
              <line class="life-fed" x1={`${share(life.from)}%`} x2={`${share(life.to)}%`} y1="50%" y2="50%" />
              {life.service.map(part => (
                <line key={part.from} class="life-service" x1={`${share(part.from)}%`} x2={`${Math.max(share(part.to), share(part.from) + 0.3)}%`} y1="50%" y2="50%" />
              ))}
            </svg>
          </div>
        </div>
      ))}
      <div class="life-axis number" aria-hidden="true">
        {ticks.map((tick, index) => (
          <span key={index} class={index % 2 === 1 ? 'only-wide' : ''} style={{ left: `${index * 25}%` }}>
            {index === 4 ? 'now' : isLong ? `${day(tick)} ${clock(tick)}` : clock(tick, present - from < 10 * 60_000)}
          </span>
        ))}
      </div>
      <p class="legend">
        <span>
          <svg aria-hidden="true">
            <line class="life-service" x1="0" x2="24" y1="4" y2="4" />
          </svg>
          serves readers
        </span>
        <span>
          <svg aria-hidden="true">
            <line class="life-fed" x1="0" x2="24" y1="4" y2="4" />
          </svg>
          is fed
        </span>
      </p>
    </section>
  );
}

function Definition({ view }: { view: ViewDocument }): JSX.Element | null {
  const of = (version: VersionDocument): string | null => version.definition ?? version.sql ?? null;
  const known = view.versions.filter(version => of(version) !== null);
  const [chosen, setChosen] = useState<number | null>(null);
  const newest = known.at(-1);
  const version = known.find(one => one.version === chosen) ?? newest;
  const others = known.filter(one => one.version < (version?.version ?? 0));
  const against = others.at(-1);
  const text = version === undefined ? (view.definition ?? view.sql ?? null) : of(version);
  const before = against === undefined ? null : of(against);
  const lines = useMemo(() => (text === null ? [] : before === null || before === text ? text.trimEnd().split('\n').map(line => ({ is: 'same' as const, text: line })) : diff(before, text)), [text, before]);
  if (text === null) return null;
  return (
    <section class="section" aria-label="Definition">
      <div class="section-head">
        <h2>Definition</h2>
        {known.length > 1 && (
          <div class="segments" role="group" aria-label="Definition of version">
            {known.map(one => (
              <button key={one.version} type="button" aria-pressed={one === version} onClick={() => setChosen(one.version)}>
                {one.version}
              </button>
            ))}
          </div>
        )}
      </div>
      {against !== undefined && (
        <p class="quiet" style={{ marginBottom: '8px' }}>
          {before === text ? `As of version ${against.version}, unchanged.` : `What differs from version ${against.version} is marked.`}
        </p>
      )}
      <pre class={`sql ${before !== null && before !== text ? 'is-diff' : ''}`} tabIndex={0} aria-label="SQL" dir="ltr">
        {lines.map((line, index) => (
          <span key={index} class={line.is}>
            {line.text}
          </span>
        ))}
      </pre>
    </section>
  );
}

const VERBS: Record<string, string> = {
  create: 'began',
  state: 'state',
  resume: 'resumed',
  switch: 'switched readers',
  rollback: 'sent readers back to',
  take: 'took over',
  release: 'let go of',
  drop: 'dropped',
  remove: 'removed what was left of',
  register_schema: 'registered a schema',
};
const AUDIT_FIRST = 12;

function Audit({ entries, error }: { entries: readonly AuditEntry[]; error: string | null }): JSX.Element {
  const [isWhole, setWhole] = useState(false);
  if (error !== null && entries.length === 0) return <p class="quiet">{error}</p>;
  if (entries.length === 0) return <p class="quiet">Nothing yet.</p>;
  const newestFirst = entries.toReversed();
  const shown = isWhole ? newestFirst : newestFirst.slice(0, AUDIT_FIRST);
  return (
    <>
      <Wide label="Audit trail">
        <table class="table">
          <thead>
            <tr>
              <th scope="col">When</th>
              <th scope="col">Who</th>
              <th scope="col">What</th>
              <th scope="col">Why</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((entry, index) => (
              <tr key={`${entry.at_ms}-${index}`}>
                <td>
                  <Time at={entry.at_ms} seconds />
                </td>
                <td>
                  <Name>{entry.by}</Name>
                </td>
                <td>{what(entry)}</td>
                <td class="quiet">{entry.reason ?? ''}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Wide>
      {newestFirst.length > AUDIT_FIRST && !isWhole && (
        <button type="button" class="button plain" onClick={() => setWhole(true)}>
          All {count(newestFirst.length)}
        </button>
      )}
    </>
  );
}

function what(entry: AuditEntry): string {
  const version = entry.version === null ? '' : `version ${entry.version}`;
  switch (entry.verb) {
    case 'state':
      return `${version} is ${stateWord(entry.to ?? '')}`;
    case 'switch':
      return entry.from === null ? `put ${version} into service` : `switched readers to ${version}`;
    case 'drop':
      return entry.version === null ? 'dropped all versions' : `dropped ${version}`;
    case 'take':
      return `took ${version}`;
    case 'release':
      return `let go of ${version}`;
    default:
      return `${VERBS[entry.verb] ?? entry.verb.replaceAll('_', ' ')} ${version}`.trim();
  }
}

