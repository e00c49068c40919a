// Before there is anything to see: how to bring some, and how far the first build is.

import type { JSX } from 'preact';

import { Command, Mark } from '../parts/ui';
import { duration } from '../format';
import { now, usePoll } from '../state';
import { progress, progressText } from '../versions';
import type { ViewDocument } from '../types';

/** Whether any version of any view has read an event, or has one to read. */
export function hasData(views: readonly ViewDocument[]): boolean {
  return views.some(view =>
    view.versions.some(version => (version.read ?? 0) > 0 || (version.lag ?? 0) > 0 || version.waits_for !== null || Object.values(version.positions ?? {}).some(offset => offset > 0)),
  );
}

export function FirstVisit({ views }: { views: readonly ViewDocument[] }): JSX.Element {
  const sources = usePoll<{ sources: { source: string }[] }>('/v1/sources', 5000);
  const source = sources.data?.sources[0]?.source ?? views[0]?.source ?? 'SOURCE';
  const several = (sources.data?.sources.length ?? 1) > 1 ? ` --source ${source}` : '';
  const here = location.origin;
  return (
    <div class="narrow">
      <div>
        <h1>No events yet</h1>
        <p class="lead">
          {views.length === 0
            ? 'There are no views and no events. View files are in schemas/views; they are taken at the start.'
            : `${views.length === 1 ? 'One view waits' : `${views.length} views wait`} for the first event of ${source}. Any of these brings some:`}
        </p>
      </div>
      <ol class="steps">
        <li>
          <p>Generated posts: a day of history, then twenty a second</p>
          <Command>{`refold collect generate:20 --backlog 1d --to ${here}${several}`}</Command>
        </li>
        <li>
          <p>A file of your own, one JSON object a line</p>
          <Command>{`refold collect jsonl:events.jsonl --to ${here}${several}`}</Command>
        </li>
        <li>
          <p>Over HTTP, from any program</p>
          <Command>{`curl -H 'content-type: application/x-ndjson' --data-binary @events.jsonl ${here}/v1/sources/${source}/events`}</Command>
        </li>
      </ol>
      <p class="waiting" role="status">
        <Mark state="idle" word="waiting" /> This page goes on by itself when events arrive.
      </p>
    </div>
  );
}

/** A view whose first version is being built. */
export function Building({ view }: { view: ViewDocument }): JSX.Element {
  const version = view.versions.findLast(known => known.state === 'building') ?? view.versions.at(-1);
  const share = version === undefined ? null : progress(version);
  void now.value;
  return (
    <div class="narrow">
      <div>
        <h1>Being built</h1>
        <p class="lead">
          {view.view} has no rows to read yet: its first version reads the log from the beginning.
          {version?.eta_s != null && ` About ${duration(version.eta_s * 1000)} to go.`}
        </p>
      </div>
      {version !== undefined && (
        <div>
          <div class="meter" role="progressbar" aria-label="Read of the log" aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.floor((share ?? 0) * 100)}>
            <i style={{ transform: `scaleX(${share ?? 0})` }} />
          </div>
          <p class="number quiet">{progressText(version)}</p>
        </div>
      )}
      <p class="waiting" role="status">
        <Mark state="idle" word="waiting" /> This page goes on by itself when it is done.
      </p>
    </div>
  );
}
