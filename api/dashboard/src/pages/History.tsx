// The history of keys: the oldest data and what is seconds old, in one chart.

import type { JSX } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { keyColumns } from '../api';
import { count, moment, words } from '../format';
import { KeySeries, type Seen, seenRows } from '../parts/KeySeries';
import type { Suggestion } from '../parts/Search';
import { Search } from '../parts/Search';
import { Loading, Name } from '../parts/ui';
import { entries } from '../ranking';
import { query, setQuery } from '../router';
import { type HistoryState, KEYS_MOST, PRESETS, csv, historyQuery, parseHistory } from '../series';
import { live, now, views } from '../state';
import type { ViewDocument } from '../types';
import { Building, FirstVisit, hasData } from './FirstVisit';

export function History(): JSX.Element {
  const known = views.value.data;
  const state = parseHistory(query.value);
  if (known === null) return views.value.error === null ? <Loading what="Reading the views…" /> : <Loading what="The server does not answer. This page goes on by itself as soon as it does." />;
  if (!hasData(known)) return <FirstVisit views={known} />;
  const all = known.filter(view => view.dashboard?.kind === 'series');
  const chosen = all.find(view => view.view === state.view) ?? all[0];
  if (chosen === undefined) {
    return (
      <div class="blank">
        <h2>No view here is a series</h2>
        <p>A view is one when its partition key is not a time, and its rows are ordered by the start of a window.</p>
      </div>
    );
  }
  if (chosen.active === null) return <Building view={chosen} />;
  return <SeriesPage key={chosen.view} view={chosen} others={all} all={known} state={state} />;
}

interface Props {
  view: ViewDocument;
  others: ViewDocument[];
  all: ViewDocument[];
  state: HistoryState;
}

/** How many of those that lead are shown before anything is chosen. */
const PREVIEW = 3;

function SeriesPage({ view, others, all, state: asked }: Props): JSX.Element {
  const [seen, setSeen] = useState<Seen | null>(null);
  const before = useRef<HistoryState['range'][]>([]);
  const suggestions = useSuggestions(view, all, asked.keys);
  // An empty page would say nothing: until somebody chooses, what leads is shown. The address stays as it is.
  const isPreview = asked.keys.length === 0;
  const preview = useRef<string[]>([]);
  const leading = suggestions.flatMap(group => group.items.map(item => item.key));
  if (!isPreview) preview.current = [];
  else if (preview.current.length === 0) preview.current = leading.slice(0, PREVIEW);
  const state = isPreview ? { ...asked, keys: preview.current } : asked;
  const colors = useColors(state.keys);
  const height = useHeight();
  const change = (to: Partial<HistoryState>, how: 'push' | 'replace' = 'push'): void => {
    setQuery(historyQuery({ ...asked, view: others.length > 1 ? view.view : asked.view, ...to }), how);
  };
  const choose = (key: string): void => {
    if (asked.keys.includes(key) || asked.keys.length >= KEYS_MOST) return;
    remember(view.view, key);
    change({ keys: [...asked.keys, key] });
  };
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.key === 'Escape' && state.range.is === 'between' && !(event.target instanceof HTMLInputElement)) change({ range: before.current.pop() ?? { is: 'last', ms: 24 * 3600_000 } });
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  });
  const { range } = state;
  const isPreset = (preset: (typeof PRESETS)[number]): boolean => JSON.stringify(preset.range) === JSON.stringify(range);
  return (
    <>
      <div class="head">
        <h1>History</h1>
        {others.length > 1 && (
          <div class="segments" role="group" aria-label="Views">
            {others.map(other => (
              <button key={other.view} type="button" aria-pressed={other === view} onClick={() => change({ view: other.view, keys: [] })}>
                {other.dashboard?.title ?? words(other.view)}
              </button>
            ))}
          </div>
        )}
      </div>
      <div class="tools">
        <Search view={view} suggestions={suggestions} disabled={asked.keys.length >= KEYS_MOST} onChoose={choose} />
        <div class="tools-end">
          {range.is === 'between' && (
            <span class="number quiet">
              {moment(range.from, now.value)} – {moment(range.to, now.value)}
            </span>
          )}
          <div class="segments" role="group" aria-label="Range">
            {PRESETS.map(preset => (
              <button key={preset.name} type="button" aria-pressed={isPreset(preset)} onClick={() => change({ range: preset.range })}>
                {preset.label}
              </button>
            ))}
          </div>
          <div class="segments" role="group" aria-label="Shown as">
            <button type="button" aria-pressed={!state.table} onClick={() => change({ table: false }, 'replace')}>
              Chart
            </button>
            <button type="button" aria-pressed={state.table} onClick={() => change({ table: true }, 'replace')}>
              Table
            </button>
          </div>
          <button type="button" class="button" disabled={seen === null || state.keys.length === 0} onClick={() => seen !== null && download(view, seen)}>
            CSV
          </button>
        </div>
      </div>
      {state.keys.length > 0 && (
        <ul class="chosen" aria-label="Shown keys">
          {isPreview && <li class="chosen-word quiet">{suggestions[0]?.items.length === 0 ? 'Leading now' : 'Recent and leading'}</li>}
          {state.keys.map((key, index) => (
            <li key={key} class="chip">
              <i class="swatch" style={{ background: `var(--line-${colors[index] ?? 1})` }} aria-hidden="true" />
              <Name>{key}</Name>
              <button type="button" aria-label={`Remove ${key}`} onClick={() => change({ keys: state.keys.filter(other => other !== key) })}>
                ✕
              </button>
            </li>
          ))}
        </ul>
      )}
      {state.keys.length === 0 ? (
        <div class="blank">
          <h2>Choose a {view.partition_key?.join(' and ') ?? 'key'}</h2>
          <p>Search for one above.</p>
        </div>
      ) : (
        <KeySeries
          view={view}
          keys={state.keys}
          colors={colors}
          range={range}
          height={height}
          withLabels={state.keys.length > 1}
          asTable={state.table}
          onBrush={(from, to) => {
            before.current.push(range);
            // A moment that only holds one point shows nothing.
            const least = 2 * (view.window?.slide_ms ?? 60_000);
            change({ range: { is: 'between', from: Math.round(from), to: Math.round(Math.max(to, from + least)) } });
          }}
          onSeen={setSeen}
        />
      )}
    </>
  );
}

/** What is left of the window under the tools, so that a chart is seen whole. */
function useHeight(): number {
  const room = (): number => Math.max(280, Math.min(560, innerHeight - 360));
  const [height, setHeight] = useState(room);
  useEffect(() => {
    const onResize = (): void => setHeight(room());
    addEventListener('resize', onResize);
    return () => removeEventListener('resize', onResize);
  }, []);
  return height;
}

/** A key keeps its colour while others come and go. */
function useColors(keys: readonly string[]): number[] {
  const given = useRef(new Map<string, number>());
  for (const key of given.current.keys()) if (!keys.includes(key)) given.current.delete(key);
  for (const key of keys) {
    if (given.current.has(key)) continue;
    const taken = new Set(given.current.values());
    given.current.set(key, [1, 2, 3, 4, 5, 6].find(color => !taken.has(color)) ?? 1);
  }
  const text = keys.map(key => given.current.get(key) ?? 1).join();
  return useMemo(() => text.split(',').map(Number), [text]);
}

const RECENT_MOST = 6;

function recent(view: string): string[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(`recent:${view}`) ?? '[]');
    return Array.isArray(stored) ? stored.filter(key => typeof key === 'string') : [];
  } catch {
    return [];
  }
}

function remember(view: string, key: string): void {
  try {
    localStorage.setItem(`recent:${view}`, JSON.stringify([key, ...recent(view).filter(other => other !== key)].slice(0, RECENT_MOST)));
  } catch {
    // Private windows may not store: then there is nothing recent.
  }
}

/** Before anything is typed: what was looked at lately, and what leads a ranking of the same keys now. */
function useSuggestions(view: ViewDocument, all: ViewDocument[], chosen: readonly string[]): { title: string; items: readonly Suggestion[] }[] {
  const ranking = all.find(other => other.dashboard?.kind === 'ranking' && other.dashboard.series === view.view && other.active !== null);
  const [popular, setPopular] = useState<Suggestion[]>([]);
  useEffect(() => {
    const drawing = ranking?.dashboard;
    if (ranking === undefined || drawing?.time == null) return;
    // By the live connection, which waits for a first window where there is none yet. One answer is enough: suggestions that move are in the way.
    const stop = live.subscribe({ view: ranking.view, key: { [drawing.time]: 'latest' }, keyColumns: keyColumns(ranking), limit: 20 }, update => {
      if (update.rows.size === 0) return;
      setPopular(entries(update.rows.values(), drawing).map(entry => ({ key: entry.label, note: count(entry.value) })));
      stop();
    });
    return stop;
  }, [ranking?.view, chosen.length]);
  const lately = recent(view.view).filter(key => !chosen.includes(key));
  return [
    { title: 'Recent', items: lately.map(key => ({ key })) },
    { title: 'Leading now', items: popular.filter(item => !chosen.includes(item.key) && !lately.includes(item.key)).slice(0, 10) },
  ];
}

/** What is seen, as a file. */
function download(view: ViewDocument, seen: Seen): void {
  const text = csv([view.dashboard?.time ?? 'time', ...seen.lines.map(drawn => drawn.label)], seenRows(seen));
  // A byte order mark tells spreadsheets that it is UTF-8.
  const address = URL.createObjectURL(new Blob([`\uFEFF${text}`], { type: 'text/csv;charset=utf-8' }));
  const link = document.createElement('a');
  link.href = address;
  link.download = `${view.view}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
