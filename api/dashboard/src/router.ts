// Addresses of the dashboard's pages. The address holds the whole state of a page.

import { computed, signal } from '@preact/signals';

const here = signal(new URL(location.href));

export const path = computed(() => here.value.pathname);
export const query = computed(() => here.value.searchParams);

addEventListener('popstate', () => {
  here.value = new URL(location.href);
});

export function go(to: string, how: 'push' | 'replace' = 'push'): void {
  const next = new URL(to, location.href);
  if (next.href === here.value.href) return;
  if (how === 'push') history.pushState(null, '', next);
  else history.replaceState(null, '', next);
  const isOtherPage = next.pathname !== here.value.pathname;
  here.value = next;
  if (isOtherPage) scrollTo(0, 0);
}

export function setQuery(query: URLSearchParams, how: 'push' | 'replace' = 'replace'): void {
  const text = query.toString();
  go(here.value.pathname + (text === '' ? '' : `?${text}`), how);
}

/** Follows links of the dashboard without loading it anew; leaves new tabs, downloads and other sites to the browser. */
addEventListener('click', event => {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest('a') : null;
  if (link === null || link.origin !== location.origin || link.target !== '' || link.hasAttribute('download')) return;
  if (/^\/(v1|openapi\.json|metrics|healthz|readyz)(\/|$)/.test(link.pathname)) return;
  event.preventDefault();
  go(link.href);
});
