// Numbers and times as people read them. Pure: the time of now is handed in.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const hundredth = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

/** `1,234`, `0.5`: no more digits than say something. */
export function count(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (Number.isInteger(value) || Math.abs(value) >= 100) return whole.format(value);
  return Math.abs(value) >= 10 ? tenth.format(value) : hundredth.format(value);
}

/** `1.2K`: for axes and tight places. */
export function short(value: number): string {
  return Math.abs(value) < 1000 ? count(value) : compact.format(value);
}

/** `6.2 ×`, `14 ×`: how many times a usual level. */
export function times(ratio: number): string {
  return `${ratio >= 10 ? whole.format(ratio) : ratio.toFixed(1)} ×`;
}

/** `12 s`, `4 min`, `3 h 20 min`, `2 days`. */
export function duration(ms: number): string {
  const positive = Math.max(0, ms);
  if (positive < SECOND) return `${Math.round(positive)} ms`;
  if (positive < 90 * SECOND) return `${Math.round(positive / SECOND)} s`;
  if (positive < 90 * MINUTE) return `${Math.round(positive / MINUTE)} min`;
  if (positive < 36 * HOUR) {
    const hours = Math.floor(positive / HOUR);
    const minutes = Math.round((positive - hours * HOUR) / MINUTE / 10) * 10;
    if (minutes === 60) return `${hours + 1} h`;
    return minutes === 0 ? `${hours} h` : `${hours} h ${minutes} min`;
  }
  const days = Math.round(positive / DAY);
  return `${days} days`;
}

/** The name of a step or window: `10 seconds`, `5 minutes`, `1 hour`, `1 day`. */
export function span(ms: number): string {
  const units: [number, string][] = [[DAY, 'day'], [HOUR, 'hour'], [MINUTE, 'minute'], [SECOND, 'second']];
  for (const [unit, name] of units) {
    if (ms >= unit && ms % unit === 0) return `${ms / unit} ${name}${ms === unit ? '' : 's'}`;
  }
  return duration(ms);
}

/** How long ago something was: `now`, `12 s ago`. */
export function ago(then: number, now: number): string {
  return now - then < SECOND ? 'now' : `${duration(now - then)} ago`;
}

const clocks = new Map<string, Intl.DateTimeFormat>();
function clock(options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const name = JSON.stringify(options);
  let format = clocks.get(name);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-GB', options);
    clocks.set(name, format);
  }
  return format;
}

/** `17:26` or, where seconds matter, `17:26:10`; in the viewer's zone. */
export function time(ms: number, withSeconds = false): string {
  return clock({ hour: '2-digit', minute: '2-digit', ...(withSeconds ? { second: '2-digit' } : {}) }).format(ms);
}

/** `Mon 30 Nov`. */
export function day(ms: number): string {
  return clock({ weekday: 'short', day: 'numeric', month: 'short' }).format(ms).replace(',', '');
}

/** A time with its day, unless that is today: `17:26`, `29 Nov 17:26`. */
export function moment(ms: number, now: number, withSeconds = false): string {
  const sameDay = new Date(ms).toDateString() === new Date(now).toDateString();
  if (sameDay) return time(ms, withSeconds);
  const date = clock({ day: 'numeric', month: 'short' }).format(ms);
  return `${date} ${time(ms, withSeconds)}`;
}

/** For a title: the same moment in UTC, to the second. */
export function utc(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

/** Milliseconds since the Unix epoch of a time of the API, or `null`. */
export function parseTime(text: unknown): number | null {
  if (typeof text !== 'string') return null;
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? null : ms;
}

/** As the API writes and reads times. */
export function rfc3339(ms: number): string {
  return new Date(ms).toISOString().replace('.000Z', 'Z');
}

/** A name in a program's words as people read it: `hashtag_counts` → `hashtag counts`. */
export function words(name: string): string {
  return name.replaceAll('_', ' ');
}

export { SECOND, MINUTE, HOUR, DAY };
