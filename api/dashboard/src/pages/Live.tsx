// What is trending now, and how it got there.

import type { JSX } from 'preact';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';

import { Ranking, type Shown } from '../follow';
import { count, duration, moment, span, time as clock, times, words } from '../format';
import { Histories, SPARK_POINTS, SPARK_POINTS_NARROW } from '../histories';
import { isTyping } from '../parts/Shell';
import { KeySeries } from '../parts/KeySeries';
import { Loading, Mark, Name, Note, Spark } from '../parts/ui';
import { type Entry, type Movement, type Surge, announcement, movement, surge } from '../ranking';
import { query, setQuery } from '../router';
import { combineOf, historyQuery } from '../series';
import { connection, isVisible, now, speak, views, wantsLessMotion } from '../state';
import type { ViewDocument } from '../types';
import { Building, FirstVisit, hasData } from './FirstVisit';

export function Live(): JSX.Element {
  const known = views.value.data;
  if (known === null) return views.value.error === null ? <Loading what="Reading the views…" /> : <Unreachable />;
  const rankings = known.filter(view => view.dashboard?.kind === 'ranking');
  if (!hasData(known)) return <FirstVisit views={known} />;
  const chosen = rankings.find(view => view.view === query.value.get('view')) ?? rankings[0];
  if (chosen === undefined) return <NoRanking hasSeries={known.some(view => view.dashboard?.kind === 'series')} />;
  return (
    <>
      {rankings.length > 1 && (
        <div class="tools">
          <div class="segments" role="group" aria-label="Rankings">
            {rankings.map(view => (
              <a key={view.view} href={`/?view=${encodeURIComponent(view.view)}`} aria-current={view === chosen ? 'true' : undefined}>
                {titleOf(view)}
              </a>
            ))}
          </div>
        </div>
      )}
      {chosen.active === null ? <Building view={chosen} /> : <RankingPage key={chosen.view} view={chosen} all={known} />}
    </>
  );
}

function Unreachable(): JSX.Element {
  return (
    <div class="blank">
      <h2>The server does not answer</h2>
      <p>This page goes on by itself as soon as it does. Is the program running, and is this its address?</p>
    </div>
  );
}

function NoRanking({ hasSeries }: { hasSeries: boolean }): JSX.Element {
  return (
    <div class="blank">
      <h2>No view here is a ranking</h2>
      <p>
        A view is one when its partition key is the start of its window and its rows have an order.{' '}
        {hasSeries ? <a href="/series">History</a> : <a href="/views">Versions</a>} has what there is.
      </p>
    </div>
  );
}

function titleOf(view: ViewDocument): string {
  const title = view.dashboard?.title ?? words(view.view);
  return title.charAt(0).toUpperCase() + title.slice(1);
}

/** A ratio from which an entry is far above its usual level. */
const HIGH = 2;
const isPhone = matchMedia('(max-width: 720px)');
/** A pointer that rests for so long holds nothing any more. */
const POINTS_FOR = 3000;

function RankingPage({ view, all }: { view: ViewDocument; all: ViewDocument[] }): JSX.Element {
  const drawing = view.dashboard;
  const shape = JSON.stringify([view.columns, view.partition_key, view.clustering, view.window?.size_ms, drawing]);
  const ranking = useMemo(() => new Ranking(view), [shape]);
  useEffect(() => {
    ranking.start();
    return () => ranking.stop();
  }, [ranking]);
  const series = all.find(other => other.view === drawing?.series && other.partition_key?.length === 1 && other.active !== null) ?? null;
  const [, redraw] = useState(0);
  const seriesShape = series === null ? '' : `${series.view}|${series.active?.version}|${JSON.stringify(series.dashboard)}`;
  const histories = useMemo(() => (series === null ? null : new Histories(series, () => redraw(count => count + 1))), [seriesShape]);
  useEffect(() => () => histories?.stop(), [histories]);

  const shown = ranking.shown.value;
  const chosen = query.value.get('key');
  const choose = (label: string | null): void => {
    const next = new URLSearchParams(query.value);
    if (label === null) next.delete('key');
    else next.set('key', label);
    setQuery(next, 'replace');
  };

  useEffect(() => {
    if (shown !== null) void histories?.want(shown.entries.map(entry => entry.label), shown.end);
  }, [histories, shown?.start, shown?.entries.map(entry => entry.label).join('\n')]);

  const before = useRef<Entry[]>([]);
  useEffect(() => {
    if (shown === null || ranking.at.peek() !== null) return;
    const text = announcement(shown.entries, before.current);
    before.current = shown.entries;
    if (text !== null) speak(text);
  }, [shown]);

  useKeys(ranking, choose, chosen !== null);
  const isStale = connection.value.is !== 'open' || ranking.trouble.value !== null;
  const combine = series === null ? null : combineOf(series, series.dashboard?.value ?? '');
  const rows = shown?.entries ?? [];
  const isPanelOpen = chosen !== null && series !== null;
  return (
    <>
      <div class="head live-head">
        <div class="head-text">
          <h1>{titleOf(view)}</h1>
          <When ranking={ranking} view={view} isStale={isStale} />
        </div>
        <div class="head-acts">
          <button type="button" class="button" aria-pressed={ranking.isPaused.value} onClick={() => ranking.pause(!ranking.isPaused.value)} disabled={ranking.at.value !== null}>
            {ranking.isPaused.value ? 'Go on' : 'Pause'}
          </button>
        </div>
      </div>
      <Travel ranking={ranking} view={view} />
      {ranking.refused.value !== null && (
        <Note state="error">
          <strong>The ranking cannot be followed.</strong> {ranking.refused.value}
        </Note>
      )}
      {ranking.refused.value === null && ranking.trouble.value !== null && shown !== null && (
        <Note state="warning">
          <strong>Rows cannot be read for now.</strong> {ranking.trouble.value}. What is shown is of before; it goes on by itself.
        </Note>
      )}
      <Switched view={view} />
      <div class={`live ${isPanelOpen ? 'with-panel' : ''}`}>
        <div class={isStale && shown !== null ? 'stale' : ''}>
          {shown === null ? (
            ranking.refused.value === null && <Loading what={ranking.trouble.value === null ? 'Waiting for the first window…' : `Waiting: ${ranking.trouble.value}.`} />
          ) : rows.length === 0 ? (
            <div class="blank">
              <h2>Nothing in this window</h2>
              <p>No event fell between {clock(shown.start, true)} and {clock(shown.end, true)}.</p>
            </div>
          ) : (
            <List
              ranking={ranking}
              shown={shown}
              valueName={words(drawing?.value ?? 'value')}
              labelName={words(drawing?.label ?? 'name')}
              chosen={chosen}
              onChoose={series === null ? null : choose}
              view={view}
              histories={combine === 'sum' ? histories : null}
            />
          )}
        </div>
        {isPanelOpen && (
          <Panel
            label={chosen}
            series={series}
            entry={rows.find(entry => entry.label === chosen) ?? null}
            view={view}
            histories={combine === 'sum' ? histories : null}
            onClose={() => choose(null)}
          />
        )}
      </div>
    </>
  );
}

/** Which window is shown, and how fresh it is. */
function When({ ranking, view, isStale }: { ranking: Ranking; view: ViewDocument; isStale: boolean }): JSX.Element {
  const shown = ranking.shown.value;
  const heardAt = ranking.heardAt.value;
  if (shown === null) return <p class="when">&nbsp;</p>;
  const withSeconds = (view.window?.slide_ms ?? 60_000) < 60_000;
  const sizeMs = view.window?.size_ms ?? 0;
  const range = `${moment(shown.start, now.value, withSeconds)} – ${clock(shown.end, withSeconds)}`;
  const newest = ranking.newest.value;
  const behind = newest === null ? 0 : Math.round((newest - shown.start) / (view.window?.slide_ms ?? 60_000));
  return (
    <p class="when">
      <span class="number">
        {span(sizeMs)}, {range}
      </span>
      {ranking.at.value !== null ? (
        <span>an earlier window</span>
      ) : ranking.isPaused.value ? (
        <span>
          paused{behind > 0 ? `, ${count(behind)} newer ${behind === 1 ? 'window' : 'windows'}` : ''}
        </span>
      ) : isStale ? (
        <span class="strong">
          <Mark state="warning" /> last heard {heardAt === null ? 'of never' : `${duration(now.value - heardAt)} ago`}
        </span>
      ) : (
        <span>
          <Mark state="ok" word="live" /> {shown.watermark !== null && shown.watermark < shown.end ? 'still open' : `closed ${duration(Math.max(0, now.value - shown.end))} ago`}
        </span>
      )}
    </p>
  );
}

/** How long a switch that was made while the page was open is told. */
const SWITCHED_FOR = 30_000;

function Switched({ view }: { view: ViewDocument }): JSX.Element | null {
  const active = view.active?.version ?? null;
  const before = useRef(active);
  const [switched, setSwitched] = useState<{ from: number; to: number; at: number } | null>(null);
  useEffect(() => {
    if (before.current !== null && active !== null && before.current !== active) setSwitched({ from: before.current, to: active, at: now.peek() });
    before.current = active;
  }, [active]);
  if (switched === null || now.value - switched.at > SWITCHED_FOR) return null;
  return (
    <Note state="idle">
      Readers are on version {switched.to} now; before, on version {switched.from}. <a href={`/views/${encodeURIComponent(view.view)}`}>Versions</a>
    </Note>
  );
}

/** How far back the slider reaches where rows are kept for longer. */
const TRAVEL_MOST = 24 * 3600_000;

function Travel({ ranking, view }: { ranking: Ranking; view: ViewDocument }): JSX.Element | null {
  const newest = ranking.newest.value;
  const slide = view.window?.slide_ms ?? 60_000;
  const waiting = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const [wanted, setWanted] = useState<number | null>(null);
  const at = ranking.at.value;
  useEffect(() => setWanted(null), [at]);
  if (newest === null) return null;
  const reach = Math.min(view.keep_ms ?? TRAVEL_MOST, TRAVEL_MOST);
  const oldest = newest - Math.floor(reach / slide) * slide + slide;
  const value = wanted ?? at ?? newest;
  const goTo = (start: number, delayMs: number): void => {
    const next = Math.max(oldest, Math.min(newest, start));
    setWanted(next);
    clearTimeout(waiting.current);
    // A slider that is dragged passes by thousands of windows.
    waiting.current = setTimeout(() => void ranking.travel(next >= newest ? null : next), delayMs);
  };
  const withSeconds = slide < 60_000;
  const size = view.window?.size_ms ?? slide;
  return (
    <div class="travel">
      <button type="button" class="button plain icon" aria-label={`Back by ${span(size)}`} title={`Back by ${span(size)}`} onClick={() => goTo(value - size, 0)}>
        ‹
      </button>
      <span class="number only-wide" aria-hidden="true">
        {moment(oldest, now.value)}
      </span>
      <input
        type="range"
        min={oldest}
        max={newest}
        step={slide}
        value={value}
        aria-label="Window"
        aria-valuetext={value >= newest ? 'the newest window' : `the window from ${moment(value, now.value, withSeconds)}`}
        onInput={event => goTo(Number(event.currentTarget.value), 60)}
      />
      <span class="number only-wide" aria-hidden="true">
        {clock(newest, withSeconds)}
      </span>
      <button type="button" class="button plain icon" aria-label={`Forward by ${span(size)}`} title={`Forward by ${span(size)}`} disabled={value >= newest} onClick={() => goTo(value + size, 0)}>
        ›
      </button>
      {at !== null && (
        <button type="button" class="button" onClick={() => void ranking.travel(null)}>
          Newest
        </button>
      )}
    </div>
  );
}

interface ListProps {
  ranking: Ranking;
  shown: Shown;
  valueName: string;
  labelName: string;
  chosen: string | null;
  onChoose: ((label: string) => void) | null;
  view: ViewDocument;
  histories: Histories | null;
}

function List({ ranking, shown, valueName, labelName, chosen, onChoose, view, histories }: ListProps): JSX.Element {
  const list = useRef<HTMLOListElement>(null);
  const rest = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useRowsThatMove(list, shown);
  useEffect(() => () => clearTimeout(rest.current), []);
  const pointed = (event: PointerEvent): void => {
    if (event.pointerType !== 'mouse') return;
    ranking.hold(true);
    clearTimeout(rest.current);
    rest.current = setTimeout(() => ranking.hold(false), POINTS_FOR);
  };
  const left = (): void => {
    clearTimeout(rest.current);
    ranking.hold(false);
  };
  const compared = span(view.window?.size_ms ?? 0);
  return (
    <div class="ranking">
      <div class="ranking-head" aria-hidden="true">
        <span class="right">#</span>
        <span title={`Against the ${compared} before`}>moved</span>
        <span>{labelName}</span>
        <span>{histories === null ? '' : 'last 24 h'}</span>
        <span class="right" title="Against its own level at this time on the days before">
          {histories === null ? '' : 'vs usual'}
        </span>
        <span class="right">{valueName}</span>
      </div>
      <ol ref={list} role="list" onPointerMove={pointed} onPointerLeave={left}>
        {shown.entries.map(entry => (
          <Row key={entry.label} entry={entry} shown={shown} isChosen={entry.label === chosen} isNarrow={chosen !== null || isPhone.matches} onChoose={onChoose} view={view} histories={histories} valueName={valueName} />
        ))}
      </ol>
    </div>
  );
}

interface RowProps {
  entry: Entry;
  shown: Shown;
  isChosen: boolean;
  /** Whether there is little room for a sparkline. */
  isNarrow: boolean;
  onChoose: ((label: string) => void) | null;
  view: ViewDocument;
  histories: Histories | null;
  valueName: string;
}

function Row({ entry, shown, isChosen, isNarrow, onChoose, view, histories, valueName }: RowProps): JSX.Element {
  const moved = movement(entry, shown.before);
  const risen = surgeOf(entry, view, histories);
  const values = histories?.spark(entry.label, shown.end, isNarrow ? SPARK_POINTS_NARROW : SPARK_POINTS) ?? [];
  const spoken = [`${entry.place}: ${entry.label}`, `${count(entry.value)} ${valueName}`, movementWords(moved), surgeWords(risen)].filter(text => text !== '').join(', ');
  return (
    <li class={`entry ${isChosen ? 'is-chosen' : ''}`} data-label={entry.label}>
      <span class="place number" aria-hidden="true">
        {entry.place}
      </span>
      <Moved moved={moved} />
      <span class="name">
        {onChoose === null ? (
          <Name>{entry.label}</Name>
        ) : (
          <button type="button" data-entry={entry.label} aria-label={spoken} aria-expanded={isChosen} onClick={() => onChoose(entry.label)}>
            <Name>{entry.label}</Name>
          </button>
        )}
      </span>
      <span class="spark-cell" aria-hidden="true">
        {values.length > 1 && <Spark values={values} label="" />}
      </span>
      <span class={`surge number ${risen.is === 'from-nothing' || (risen.is === 'times' && risen.ratio >= HIGH) ? 'high' : ''}`} title={surgeTitle(entry, view, histories)} aria-hidden="true">
        {risen.is === 'times' ? times(risen.ratio) : risen.is === 'from-nothing' ? 'from zero' : ''}
      </span>
      <span class="amount number" aria-hidden="true">
        <Rolling value={entry.value} />
      </span>
    </li>
  );
}

function surgeOf(entry: Entry, view: ViewDocument, histories: Histories | null): Surge {
  if (histories === null) return { is: 'unknown' };
  return surge(entry.value, view.window?.size_ms ?? histories.slot, histories.slot, histories.usual(entry.label));
}

function surgeWords(risen: Surge): string {
  if (risen.is === 'times') return `${times(risen.ratio).replace(' ×', '')} times its usual level`;
  return risen.is === 'from-nothing' ? 'usually nothing at this time' : '';
}

function surgeTitle(entry: Entry, view: ViewDocument, histories: Histories | null): string | undefined {
  const level = histories?.usual(entry.label);
  if (histories == null || level == null) return undefined;
  const size = view.window?.size_ms ?? histories.slot;
  return `${count(entry.value)} in ${span(size)}; usually ${count((level.perSlot * size) / histories.slot)} (${level.from})`;
}

function Moved({ moved }: { moved: Movement }): JSX.Element {
  if (moved.is === 'new') return <span class="move new" aria-hidden="true">new</span>;
  if (moved.is === 'unknown' || moved.by === 0) return <span class="move" aria-hidden="true">{moved.is === 'unknown' ? '' : '–'}</span>;
  return (
    <span class={`move number ${moved.by > 0 ? 'up' : 'down'}`} aria-hidden="true">
      {moved.by > 0 ? '▲' : '▼'} {Math.abs(moved.by)}
    </span>
  );
}

function movementWords(moved: Movement): string {
  if (moved.is === 'new') return 'new';
  if (moved.is === 'unknown') return '';
  if (moved.by === 0) return 'same place';
  return `${moved.by > 0 ? 'up' : 'down'} ${Math.abs(moved.by)}`;
}

const ROLL_MS = 150;

/** A number that rolls to its new value. */
function Rolling({ value }: { value: number }): JSX.Element {
  const element = useRef<HTMLSpanElement>(null);
  const shown = useRef(value);
  useLayoutEffect(() => {
    const target = element.current;
    if (target === null) return;
    const from = shown.current;
    if (from === value || wantsLessMotion.matches || !isVisible.peek()) {
      shown.current = value;
      target.textContent = count(value);
      return;
    }
    const begin = performance.now();
    let frame = requestAnimationFrame(function step(at) {
      const share = Math.min(1, (at - begin) / ROLL_MS);
      const between = from + (value - from) * share;
      shown.current = share < 1 ? between : value;
      target.textContent = count(share < 1 && Number.isInteger(value) ? Math.round(between) : shown.current);
      if (share < 1) frame = requestAnimationFrame(step);
    });
    return () => cancelAnimationFrame(frame);
  }, [value]);
  return <span ref={element} />;
}

/** Rows slide from where they were to where they are (first, last, invert, play). */
function useRowsThatMove(list: { current: HTMLOListElement | null }, shown: Shown): void {
  const tops = useRef(new Map<string, number>());
  useLayoutEffect(() => {
    const element = list.current;
    if (element === null) return;
    const before = tops.current;
    const after = new Map<string, number>();
    const base = element.getBoundingClientRect().top;
    for (const child of element.children) {
      const label = (child as HTMLElement).dataset['label'] ?? '';
      after.set(label, child.getBoundingClientRect().top - base);
    }
    tops.current = after;
    if (wantsLessMotion.matches || before.size === 0) return;
    for (const child of element.children) {
      const label = (child as HTMLElement).dataset['label'] ?? '';
      const from = before.get(label);
      const by = from === undefined ? 0 : from - (after.get(label) ?? 0);
      if (from === undefined) child.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 150 });
      else if (Math.abs(by) > 1) child.animate([{ transform: `translateY(${by}px)` }, { transform: 'none' }], { duration: 150, easing: 'ease-out' });
    }
  }, [shown]);
}

function useKeys(ranking: Ranking, choose: (label: string | null) => void, isOpen: boolean): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === 'j' || event.key === 'k') {
        const buttons = [...document.querySelectorAll<HTMLButtonElement>('[data-entry]')];
        const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
        const next = at < 0 ? (event.key === 'j' ? 0 : buttons.length - 1) : at + (event.key === 'j' ? 1 : -1);
        const button = buttons[Math.max(0, Math.min(buttons.length - 1, next))];
        button?.focus();
        button?.closest('li')?.scrollIntoView({ block: 'nearest' });
      } else if (event.key === 'p' && ranking.at.peek() === null) {
        ranking.pause(!ranking.isPaused.peek());
      } else if (event.key === 'Escape' && isOpen) {
        const label = query.peek().get('key');
        choose(null);
        document.querySelector<HTMLButtonElement>(`[data-entry="${CSS.escape(label ?? '')}"]`)?.focus();
      }
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, [ranking, isOpen]);
}

interface PanelProps {
  label: string;
  series: ViewDocument;
  entry: Entry | null;
  view: ViewDocument;
  histories: Histories | null;
  onClose: () => void;
}

function Panel({ label, series, entry, view, histories, onClose }: PanelProps): JSX.Element {
  const risen: Surge = entry === null ? { is: 'unknown' } : surgeOf(entry, view, histories);
  const level = histories?.usual(label) ?? null;
  const size = view.window?.size_ms ?? 0;
  const address = `/series?${historyQuery({ view: series.view, keys: [label], range: { is: 'last', ms: 24 * 3600_000 }, table: false })}`;
  return (
    <aside class="panel" aria-label={`History of ${label}`}>
      <div class="panel-head">
        <h2>
          <bdi>{label}</bdi>
        </h2>
        <button type="button" class="button plain icon" aria-label="Close" title="Close (Esc)" onClick={onClose}>
          ✕
        </button>
      </div>
      <dl class="facts">
        <div class="fact">
          <dt>place</dt>
          <dd>{entry === null ? '–' : entry.place}</dd>
        </div>
        <div class="fact">
          <dt>in {span(size)}</dt>
          <dd>{entry === null ? '–' : count(entry.value)}</dd>
        </div>
        {level !== null && histories !== null && (
          <div class="fact" title={level.from}>
            <dt>usual</dt>
            <dd>{count((level.perSlot * size) / histories.slot)}</dd>
          </div>
        )}
        {risen.is === 'times' && (
          <div class="fact">
            <dt>vs usual</dt>
            <dd>{times(risen.ratio)}</dd>
          </div>
        )}
      </dl>
      <KeySeries view={series} keys={[label]} range={{ is: 'last', ms: 24 * 3600_000 }} height={220} />
      <div class="panel-foot">
        <a href={address}>Whole history</a>
        {level !== null && <span class="small quiet">usual: {level.from}</span>}
      </div>
    </aside>
  );
}
