// Small parts that all pages are made of.

import type { ComponentChildren, JSX, RefObject } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

import { ago, moment, utc } from '../format';
import { now } from '../state';

export type MarkState = 'ok' | 'warning' | 'error' | 'idle';
const MARK_WORDS: Record<MarkState, string> = { ok: 'in order', warning: 'warning', error: 'error', idle: 'idle' };

/** A state as a mark; its word is for those who do not see it. */
export function Mark({ state, word }: { state: MarkState; word?: string }): JSX.Element {
  return (
    <>
      <i class={`mark ${state}`} aria-hidden="true" />
      <span class="hidden-text">{word ?? MARK_WORDS[state]}: </span>
    </>
  );
}

/** The width of an element as it is laid out now, in CSS pixels; 0 before it is. */
export function useWidth(box: RefObject<HTMLElement | null>): number {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return width;
}

/** A table that may be wider than the page: it scrolls by itself, by keys too. */
export function Wide({ label, children }: { label: string; children: ComponentChildren }): JSX.Element {
  return (
    <div class="table-wrap" tabIndex={0} role="region" aria-label={label}>
      {children}
    </div>
  );
}

/** A time in the viewer's zone, with UTC on hover. */
export function Time({ at, seconds = false }: { at: number; seconds?: boolean }): JSX.Element {
  return (
    <time class="number nowrap" dateTime={new Date(at).toISOString()} title={utc(at)}>
      {moment(at, now.value, seconds)}
    </time>
  );
}

export function Ago({ at }: { at: number }): JSX.Element {
  return (
    <time class="number nowrap" dateTime={new Date(at).toISOString()} title={utc(at)}>
      {ago(at, now.value)}
    </time>
  );
}

/** A name from data: it may be long and in any script and direction. */
export function Name({ children }: { children: string }): JSX.Element {
  return <bdi title={children}>{children}</bdi>;
}

/** What is wrong: what, since when, what goes on meanwhile, what to do. */
export function Note({ state, children, act }: { state: 'warning' | 'error' | 'idle'; children: ComponentChildren; act?: ComponentChildren }): JSX.Element {
  return (
    <div class={`note ${state}`} role={state === 'error' ? 'alert' : 'status'}>
      <Mark state={state} />
      <div class="note-text">{children}</div>
      {act}
    </div>
  );
}

/** Keeps quiet for a moment: what is there at once needs no sign of waiting. */
export function Loading({ what }: { what: string }): JSX.Element {
  return (
    <div class="blank loading" role="status">
      <p>{what}</p>
    </div>
  );
}

export function Copy({ text }: { text: string }): JSX.Element {
  const [isCopied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without TLS browsers refuse the clipboard to pages: the old way still works.
      const area = document.createElement('textarea');
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <button type="button" class="button plain" onClick={() => void copy()} aria-label={`Copy: ${text}`}>
      {isCopied ? 'Copied' : 'Copy'}
    </button>
  );
}

export function Command({ children }: { children: string }): JSX.Element {
  return (
    <div class="command">
      <code dir="ltr">{children}</code>
      <Copy text={children} />
    </div>
  );
}

/** A dialog of the browser's own. `onClose` is called however it is closed. */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class="dialog"
      aria-label={title}
      onClose={onClose}
      onClick={event => {
        if (event.target === dialog.current) onClose();
      }}
    >
      <div class="dialog-body">
        <h2>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

/** A series as a line without axes, on its own scale from zero. */
export function Spark({ values, label }: { values: readonly (number | null)[]; label: string }): JSX.Element {
  const height = 32;
  const width = Math.max(2, values.length - 1);
  const most = Math.max(1e-9, ...values.map(value => value ?? 0));
  const y = (value: number): string => (height - 2 - (value / most) * (height - 4)).toFixed(1);
  let path = '';
  let isDown = false;
  let last: { x: number; y: string } | null = null;
  let first = -1;
  values.forEach((value, x) => {
    if (value === null) {
      isDown = false;
      return;
    }
    if (first < 0) first = x;
    path += `${isDown ? 'L' : 'M'}${x} ${y(value)}`;
    isDown = true;
    last = { x, y: y(value) };
  });
  const end = last as { x: number; y: string } | null;
  return (
    <svg class="spark" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={label}>
      {end !== null && !values.slice(first).includes(null) && <path class="area" d={`${path}L${end.x} ${height}L${first} ${height}Z`} />}
      <path class="line" d={path} />
      {end !== null && <path class="end" d={`M${end.x} ${end.y}h0`} />}
    </svg>
  );
}
