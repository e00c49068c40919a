// Search as you type over the keys of a view. The pattern is that of a combobox with a list (WAI-ARIA).

import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

import { isAbort, keyText, said, searchKeys } from '../api';
import { count } from '../format';
import type { ViewDocument } from '../types';

export interface Suggestion {
  key: string;
  /** Beside it: where it is known from. */
  note?: string;
}

interface Props {
  view: ViewDocument;
  /** What is suggested before anything is typed. */
  suggestions: { title: string; items: readonly Suggestion[] }[];
  disabled: boolean;
  onChoose: (key: string) => void;
}

const FOUND_MOST = 20;
/** Typing is waited for, but not so long that one would wait for the answer. */
const TYPING_MS = 80;

interface Found {
  items: Suggestion[];
  complete: boolean;
  error: string | null;
}

export function Search({ view, suggestions, disabled, onChoose }: Props): JSX.Element {
  const [text, setText] = useState('');
  const [isOpen, setOpen] = useState(false);
  const [at, setAt] = useState(0);
  const [found, setFound] = useState<Found | null>(null);
  const input = useRef<HTMLInputElement>(null);
  const list = useRef<HTMLUListElement>(null);

  useEffect(() => {
    setFound(null);
    setAt(0);
    if (text === '') return;
    const controller = new AbortController();
    const timer = setTimeout(() => {
      searchKeys(view.view, text, FOUND_MOST, controller.signal).then(
        answer => setFound({ items: answer.keys.map(key => ({ key: keyText(view, key) })), complete: answer.complete, error: null }),
        (error: unknown) => {
          if (!isAbort(error)) setFound({ items: [], complete: true, error: said(error) });
        },
      );
    }, TYPING_MS);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [text, view.view]);

  const groups = text === '' ? suggestions.filter(group => group.items.length > 0) : [{ title: '', items: found?.items ?? [] }];
  const options = groups.flatMap(group => group.items);
  const choose = (key: string): void => {
    onChoose(key);
    setText('');
    setOpen(false);
    input.current?.focus();
  };
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault();
      setOpen(true);
      const by = event.key === 'ArrowDown' ? 1 : -1;
      setAt(before => (options.length === 0 ? 0 : (before + by + options.length) % options.length));
    } else if (event.key === 'Enter') {
      event.preventDefault();
      // What is typed whole is taken even before it is found, or when it has no rows yet.
      const option = options[at];
      if (isOpen && option !== undefined) choose(option.key);
      else if (text !== '') choose(text);
    } else if (event.key === 'Escape') {
      if (isOpen) setOpen(false);
      else input.current?.blur();
    }
  };
  useEffect(() => {
    list.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: 'nearest' });
  }, [at]);

  const column = view.partition_key?.join(', ') ?? 'key';
  let index = -1;
  return (
    <div class="search">
      <svg viewBox="0 0 16 16" aria-hidden="true">
        <path d="M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9Zm3.5 8 3.5 3.5" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" />
      </svg>
      <input
        ref={input}
        class="field"
        type="text"
        role="combobox"
        data-search
        aria-label={`Search ${column}`}
        aria-expanded={isOpen && groups.length > 0}
        aria-controls="options"
        aria-autocomplete="list"
        aria-activedescendant={isOpen && options[at] !== undefined ? `option-${at}` : undefined}
        autocomplete="off"
        spellcheck={false}
        dir="auto"
        placeholder={disabled ? 'Six at most: remove one first' : `Search ${column}`}
        disabled={disabled}
        value={text}
        onInput={event => {
          setText(event.currentTarget.value);
          setOpen(true);
        }}
        onFocus={() => setOpen(true)}
        onClick={() => setOpen(true)}
        onBlur={() => setOpen(false)}
        onKeyDown={onKey}
      />
      {text === '' && <kbd aria-hidden="true">/</kbd>}
      {isOpen && (groups.length > 0 || found !== null) && (
        <ul ref={list} class="options" id="options" role="listbox" aria-label="Found" onPointerDown={event => event.preventDefault()}>
          {groups.map(group => (
            <>
              {group.title !== '' && (
                <li class="group" role="presentation">
                  {group.title}
                </li>
              )}
              {group.items.map(item => {
                index += 1;
                const mine = index;
                return (
                  <li key={`${group.title}${item.key}`} id={`option-${mine}`} role="option" aria-selected={mine === at} onClick={() => choose(item.key)} onPointerMove={() => setAt(mine)}>
                    <bdi>{item.key}</bdi>
                    {item.note !== undefined && <span class="quiet small number">{item.note}</span>}
                  </li>
                );
              })}
            </>
          ))}
          {text !== '' && found !== null && found.items.length === 0 && (
            <li class="group" role="presentation">
              {found.error === null ? `No ${column} begins with “${text}”. Upper and lower case are different.` : `The search failed: ${found.error}.`}
            </li>
          )}
          {text !== '' && found !== null && !found.complete && (
            <li class="group" role="presentation">
              The first {count(found.items.length)}. Type on to find others.
            </li>
          )}
        </ul>
      )}
    </div>
  );
}
