// What all pages share: who is logged in, the connection, the views, and the time.

import { effect, signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';

import { ApiError, get, isAbort, remove, serverAhead, whenUnauthorized } from './api';
import { type Connection, LiveClient } from './live';
import type { Session, ViewDocument } from './types';

/** `null`: not known yet. */
export const session = signal<Session | null>(null);
export const connection = signal<Connection>({ is: 'connecting', since: Date.now() });
/** The server's time, to the second: for ages that are shown. */
export const now = signal(Date.now());
export const isVisible = signal(!document.hidden);

export interface Known<T> {
  data: T | null;
  /** Why the last attempt brought nothing; the data are then of before. */
  error: ApiError | null;
  /** Since when attempts fail, and when the last one did not. */
  failingSince: number | null;
  at: number | null;
}

export const views = signal<Known<ViewDocument[]>>({ data: null, error: null, failingSince: null, at: null });

const address = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/v1/live`;
export const live = new LiveClient(address);
live.watch(state => {
  connection.value = state;
});

export function time(): number {
  return Date.now() + serverAhead;
}

setInterval(() => {
  if (isVisible.peek()) now.value = time();
}, 1000);
document.addEventListener('visibilitychange', () => {
  isVisible.value = !document.hidden;
  now.value = time();
  if (!document.hidden) live.retryNow();
});
addEventListener('online', () => live.retryNow());

whenUnauthorized(() => {
  session.value = { name: null, role: null, needs_login: true };
});

export async function loadSession(): Promise<void> {
  try {
    session.value = await get<Session>('/v1/session');
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      session.value = { name: null, role: null, needs_login: true };
    } else {
      // The pages say that the server does not answer; who is logged in is asked again when it does.
      setTimeout(() => void loadSession(), 2000);
      views.value = { ...views.peek(), error: error instanceof ApiError ? error : null, failingSince: views.peek().failingSince ?? time() };
    }
  }
}

export async function logOut(): Promise<void> {
  await remove('/v1/session').catch(() => {});
  live.close();
  session.value = { name: null, role: null, needs_login: true };
}

/** Asks for something again and again while the page is looked at; what is known stays while it cannot be had. */
export function usePoll<T>(path: string | null, everyMs: number): Known<T> & { again: () => void } {
  const [known, setKnown] = useState<Known<T>>({ data: null, error: null, failingSince: null, at: null });
  const again = useRef(() => {});
  useEffect(() => {
    setKnown({ data: null, error: null, failingSince: null, at: null });
    if (path === null) return;
    const polling = poll<T>(path, everyMs, setKnown);
    again.current = polling.again;
    return polling.stop;
  }, [path, everyMs]);
  return { ...known, again: () => again.current() };
}

function poll<T>(path: string, everyMs: number, tell: (change: (before: Known<T>) => Known<T>) => void): { again: () => void; stop: () => void } {
  let controller = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isStopped = false;
  const ask = async (): Promise<void> => {
    clearTimeout(timer);
    controller.abort();
    controller = new AbortController();
    try {
      const data = await get<T>(path, controller.signal);
      tell(() => ({ data, error: null, failingSince: null, at: time() }));
    } catch (error) {
      if (isAbort(error)) return;
      const failure = error instanceof ApiError ? error : new ApiError({ status: 0, title: 'The answer cannot be read', detail: String(error) });
      tell(before => ({ ...before, error: failure, failingSince: before.failingSince ?? time() }));
    }
    if (!isStopped && isVisible.peek()) timer = setTimeout(() => void ask(), everyMs);
  };
  // Runs at once, and whenever the page is looked at again.
  const unwatch = effect(() => {
    if (isVisible.value && !isStopped) void ask();
  });
  return {
    again: () => void ask(),
    stop: () => {
      isStopped = true;
      unwatch();
      clearTimeout(timer);
      controller.abort();
    },
  };
}

let viewsPolling: { again: () => void; stop: () => void } | null = null;

/** Keeps the list of views right for as long as somebody is logged in. */
effect(() => {
  const isIn = session.value !== null && !(session.value.needs_login && session.value.role === null);
  if (isIn && viewsPolling === null) {
    viewsPolling = poll<{ views: ViewDocument[] }>('/v1/views', 2000, change => {
      const before = views.peek();
      const after = change({ ...before, data: before.data === null ? null : { views: before.data } });
      // Asked again every two seconds, most answers are the same: what did not change is not drawn anew.
      const isSame = after.error === null && before.error === null && JSON.stringify(after.data?.views) === JSON.stringify(before.data);
      views.value = { ...after, data: isSame ? before.data : (after.data?.views ?? null) };
    });
  } else if (!isIn && viewsPolling !== null) {
    viewsPolling.stop();
    viewsPolling = null;
    views.value = { data: null, error: null, failingSince: null, at: null };
  }
});

export function lookAgain(): void {
  viewsPolling?.again();
}

export type Theme = 'auto' | 'light' | 'dark';

function storedTheme(): Theme {
  try {
    const stored = localStorage.getItem('theme');
    return stored === 'light' || stored === 'dark' ? stored : 'auto';
  } catch {
    return 'auto';
  }
}

export const theme = signal<Theme>(storedTheme());
effect(() => {
  if (theme.value === 'auto') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = theme.value;
  try {
    localStorage.setItem('theme', theme.value);
  } catch {
    // Private windows may not store: the choice lasts as long as the page.
  }
});

/** Whether the page is drawn dark, by choice or by the system. */
export const isDark = signal(false);
const systemDark = matchMedia('(prefers-color-scheme: dark)');
const look = (): void => {
  isDark.value = theme.value === 'dark' || (theme.value === 'auto' && systemDark.matches);
};
effect(look);
systemDark.addEventListener('change', look);

/** What a screen reader is told, at most once in ten seconds: what comes in between replaces what waits. */
export const spoken = signal('');
const SPEAK_EVERY = 10_000;
let spokenAt = -Infinity;
let waiting: ReturnType<typeof setTimeout> | undefined;
export function speak(text: string): void {
  clearTimeout(waiting);
  const say = (): void => {
    spokenAt = performance.now();
    spoken.value = text;
  };
  const wait = spokenAt + SPEAK_EVERY - performance.now();
  if (wait <= 0) say();
  else waiting = setTimeout(say, wait);
}

export const wantsLessMotion = matchMedia('(prefers-reduced-motion: reduce)');
