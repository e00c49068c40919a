// The frame of all pages: where one is, how things are, and the keys.

import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import { duration, time as clock } from '../format';
import { go, path } from '../router';
import { connection, live, logOut, now, session, spoken, theme, usePoll, views } from '../state';
import type { HealthDocument } from '../types';
import { may } from '../versions';
import { Dialog, Mark, type MarkState, Note } from './ui';

const PAGES = [
  { to: '/', name: 'Live', is: (here: string) => here === '/' },
  { to: '/series', name: 'History', is: (here: string) => here === '/series' },
  { to: '/views', name: 'Versions', is: (here: string) => here.startsWith('/views') },
  { to: '/health', name: 'Health', is: (here: string) => here === '/health' },
];

export function Shell({ children }: { children: ComponentChildren }): JSX.Element {
  const [areKeysShown, setKeysShown] = useState(false);
  const health = usePoll<HealthDocument>(session.value === null ? null : '/v1/health', 5000);
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === '?') setKeysShown(true);
      else if (event.key === '/') {
        event.preventDefault();
        const search = document.querySelector<HTMLInputElement>('[data-search]');
        if (search !== null) search.focus();
        else {
          go('/series');
          requestAnimationFrame(() => document.querySelector<HTMLInputElement>('[data-search]')?.focus());
        }
      }
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);
  const verdict: MarkState | null =
    health.error !== null && health.error.status !== 404
      ? 'error'
      : health.data === null
        ? null
        : ({ ok: 'ok', degraded: 'warning', down: 'error' } as const)[health.data.state];
  return (
    <>
      <header class="bar">
        <div class="bar-inner">
          <a class="brand" href="/" aria-label="Refold, to the live page">
            <svg viewBox="0 0 32 32" aria-hidden="true">
              <path d="M5 6h22v6H13L5 21z" fill="var(--accent)" />
              <path d="M5 26 27 12v6L13 26z" fill="var(--accent)" opacity="0.55" />
            </svg>
            Refold
          </a>
          <nav class="nav" aria-label="Pages">
            {PAGES.map(page => (
              <a key={page.to} href={page.to} aria-current={page.is(path.value) ? 'page' : undefined}>
                {page.name}
                {page.to === '/health' && verdict !== null && verdict !== 'ok' && <Mark state={verdict} />}
              </a>
            ))}
          </nav>
          <div class="bar-end">
            <Account />
            <ThemeButton />
            <button type="button" class="button plain icon only-wide" aria-label="Keys" title="Keys (?)" onClick={() => setKeysShown(true)}>
              ?
            </button>
          </div>
        </div>
      </header>
      <main class="page" tabIndex={-1} id="main">
        <Lost />
        {children}
      </main>
      <div class="hidden-text" aria-live="polite" role="status">
        {spoken.value}
      </div>
      {areKeysShown && <Keys onClose={() => setKeysShown(false)} />}
    </>
  );
}

/** Whether a key is meant for a field. */
export function isTyping(event: KeyboardEvent): boolean {
  const target = event.target;
  if (document.querySelector('dialog[open]') !== null) return true;
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) && !(target instanceof HTMLInputElement && target.type === 'range');
}

/** How long a lost connection is not worth a word. */
const GRACE = 1500;

function Lost(): JSX.Element | null {
  const state = connection.value;
  const away = views.value;
  const since = state.is === 'waiting' || state.is === 'connecting' ? state.since : null;
  const isLost = since !== null && Date.now() - since > GRACE;
  // Looks again each second, while there is something to count.
  void now.value;
  if (!isLost && away.failingSince === null) return null;
  if (!isLost && away.error !== null && away.error.status !== 0) {
    return (
      <Note state="error">
        <strong>The views cannot be read.</strong> {sentence(away.error.message)} Asked again every two seconds.
      </Note>
    );
  }
  if (!isLost) return null;
  const wait = state.is === 'waiting' ? Math.max(0, state.retryAt - Date.now()) : 0;
  return (
    <Note
      state="warning"
      act={
        <button type="button" class="button" onClick={() => live.retryNow()}>
          Try now
        </button>
      }
    >
      <strong>No connection since {clock(since, true)}.</strong> What is shown is of then. {wait >= 500 ? `Trying again in ${duration(wait)}.` : 'Trying again.'}
    </Note>
  );
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;
}

function Account(): JSX.Element | null {
  const who = session.value;
  if (who === null || who.role === null) return null;
  // Where reading is open, a log-in still brings a further role.
  if (who.name === null) {
    return may(who.role, 'admin') ? null : (
      <a class="button plain" href="/login">
        Log in
      </a>
    );
  }
  return (
    <>
      <span class="small quiet only-wide">
        {who.name} · {who.role}
      </span>
      <button type="button" class="button plain" onClick={() => void logOut()}>
        Log out
      </button>
    </>
  );
}

function ThemeButton(): JSX.Element {
  const next = { auto: 'light', light: 'dark', dark: 'auto' } as const;
  const words = { auto: 'as the system', light: 'light', dark: 'dark' };
  const chosen = theme.value;
  return (
    <button
      type="button"
      class="button plain icon"
      aria-label={`Appearance: ${words[chosen]}. Change to ${words[next[chosen]]}`}
      title={`Appearance: ${words[chosen]}`}
      onClick={() => (theme.value = next[chosen])}
    >
      <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
        <circle cx="8" cy="8" r="5.25" fill={chosen === 'dark' ? 'currentColor' : 'none'} stroke="currentColor" stroke-width="1.5" />
        {chosen === 'auto' && <path d="M8 2.75a5.25 5.25 0 0 1 0 10.5z" fill="currentColor" />}
      </svg>
    </button>
  );
}

function Keys({ onClose }: { onClose: () => void }): JSX.Element {
  const keys: [string[], string][] = [
    [['/'], 'Search for a key'],
    [['j', 'k'], 'Next and previous entry'],
    [['Enter'], 'Open the entry'],
    [['Esc'], 'Close'],
    [['p'], 'Pause and go on'],
    [['?'], 'This list'],
  ];
  return (
    <Dialog title="Keys" onClose={onClose}>
      <div class="keys">
        {keys.map(([names, does]) => (
          <>
            <span>
              {names.map((name, index) => (
                <>
                  {index > 0 && ' '}
                  <kbd>{name}</kbd>
                </>
              ))}
            </span>
            <span>{does}</span>
          </>
        ))}
      </div>
      <div class="dialog-acts">
        <button type="button" class="button" onClick={onClose}>
          Close
        </button>
      </div>
    </Dialog>
  );
}
