import type { JSX } from 'preact';
export function Versions(_: { name: string | null }): JSX.Element { return <p>…</p>; }
