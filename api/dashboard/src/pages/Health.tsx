import type { JSX } from 'preact';
export function Health(): JSX.Element { return <p>…</p>; }
