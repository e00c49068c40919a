// What changes a view: replay, switch, roll back, pause, resume, drop. Each says what is known before it is done.

import type { ComponentChildren, JSX } from 'preact';
import { useState } from 'preact/hooks';

import { ApiError, post, said } from '../api';
import { lookAgain } from '../state';
import { gates } from '../versions';
import type { VersionDocument, ViewDocument } from '../types';
import { Dialog, Mark, Note } from './ui';

export type Asked = { is: 'switch'; to: VersionDocument } | { is: 'rollback'; to: VersionDocument } | { is: 'pause'; to: VersionDocument } | { is: 'resume'; to: VersionDocument } | { is: 'drop'; to: VersionDocument } | { is: 'replay' };

interface Props {
  view: ViewDocument;
  asked: Asked;
  active: VersionDocument | null;
  onClose: () => void;
  onDone: (text: string) => void;
}

export function ActDialog(props: Props): JSX.Element {
  switch (props.asked.is) {
    case 'replay':
      return <Replay {...props} />;
    case 'pause':
      return <Pause {...props} to={props.asked.to} />;
    case 'resume':
      return <Resume {...props} to={props.asked.to} />;
    case 'drop':
      return <Drop {...props} to={props.asked.to} />;
    default:
      return <Switch {...props} to={props.asked.to} isBack={props.asked.is === 'rollback'} />;
  }
}

/** Sends a change and says what came of it. */
function useChange(onDone: (text: string) => void): { isBusy: boolean; error: ApiError | Error | null; send: (path: string, body: unknown, done: (answer: Record<string, unknown>) => string) => Promise<void> } {
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | Error | null>(null);
  const send = async (path: string, body: unknown, done: (answer: Record<string, unknown>) => string): Promise<void> => {
    setBusy(true);
    setError(null);
    try {
      const answer = await post<Record<string, unknown>>(path, body);
      lookAgain();
      onDone(done(answer));
    } catch (failure) {
      setError(failure instanceof Error ? failure : new Error(said(failure)));
      setBusy(false);
    }
  };
  return { isBusy, error, send };
}

function Refusal({ error, what }: { error: Error | null; what: string }): JSX.Element | null {
  if (error === null) return null;
  const problem = error instanceof ApiError ? error.problem : null;
  const help = typeof problem?.['help'] === 'string' ? problem['help'] : null;
  return (
    <Note state="error">
      <strong>{what}</strong> {error.message}
      {help !== null && <> {help}</>}
    </Note>
  );
}

function Switch({ view, active, to, isBack, onClose, onDone }: Props & { to: VersionDocument; isBack: boolean }): JSX.Element {
  // As it is now, not as it was when the dialog was opened.
  const target = view.versions.find(version => version.version === to.version) ?? to;
  const list = gates(target, active);
  const arePassed = list.every(gate => gate.passed);
  const [reason, setReason] = useState('');
  const [name, setName] = useState('');
  const { isBusy, error, send } = useChange(onDone);
  const isRefused = error instanceof ApiError && error.status === 409;
  const isForced = !arePassed || isRefused;
  const isConfirmed = !isForced || (name === view.view && reason.trim() !== '');
  const path = `/v1/admin/views/${encodeURIComponent(view.view)}/${isBack ? 'rollback' : 'switch'}`;
  const submit = (event: Event): void => {
    event.preventDefault();
    if (!isConfirmed) return;
    // Where back is, the server knows.
    const body: Record<string, unknown> = isBack ? {} : { to: target.version };
    if (active !== null) body['expected'] = active.version;
    if (reason.trim() !== '') body['reason'] = reason.trim();
    // Only where the server has refused: what it knows is newer than what is shown here.
    if (isRefused) body['force'] = true;
    void send(path, body, () => `Readers are on version ${target.version} now.`);
  };
  return (
    <Dialog title={isBack ? `Roll back to version ${target.version}` : `Switch to version ${target.version}`} onClose={onClose}>
      <p>
        Readers of {view.view} go {active === null ? '' : `from version ${active.version} `}to version {target.version} in one step.
        {active !== null && ` Version ${active.version} stays fed, so you can go back.`}
      </p>
      <ul class="gates" aria-label="What is known">
        {list.map(gate => (
          <li key={gate.name}>
            <span>
              <Mark state={gate.passed ? 'ok' : 'warning'} word={gate.passed ? 'passed' : 'not passed'} />
            </span>
            <span>{gate.name}</span>
            <span class="number quiet">{gate.value}</span>
          </li>
        ))}
      </ul>
      <Refusal error={error} what={isBack ? 'Not rolled back.' : 'Not switched.'} />
      <form onSubmit={submit} style={{ display: 'grid', gap: '16px' }}>
        <Reason value={reason} isRequired={isForced} onInput={setReason} />
        {isForced && (
          <Typed value={name} onInput={setName}>
            Not all is passed. Type <span class="mono">{view.view}</span> to go on all the same
          </Typed>
        )}
        <Acts label={isBusy ? 'Switching…' : `${isBack ? 'Roll back' : 'Switch'}${isRefused ? ' all the same' : ''}`} isDisabled={isBusy || !isConfirmed} onClose={onClose} />
      </form>
    </Dialog>
  );
}

/** Why, for the audit trail. */
function Reason({ value, isRequired, onInput }: { value: string; isRequired: boolean; onInput: (value: string) => void }): JSX.Element {
  return (
    <label>
      <span class="label">Reason{isRequired ? '' : ', for the audit trail (optional)'}</span>
      <input class="field" value={value} required={isRequired} maxLength={500} onInput={event => onInput(event.currentTarget.value)} />
    </label>
  );
}

/** The name of the view, typed to confirm what was refused. */
function Typed({ value, onInput, children }: { value: string; onInput: (value: string) => void; children: ComponentChildren }): JSX.Element {
  return (
    <label>
      <span class="label">{children}</span>
      <input class="field mono" value={value} autocomplete="off" spellcheck={false} onInput={event => onInput(event.currentTarget.value)} />
    </label>
  );
}

/** The ways to end a dialog. */
function Acts({ label, isDisabled, onClose }: { label: string; isDisabled: boolean; onClose: () => void }): JSX.Element {
  return (
    <div class="dialog-acts">
      <button type="button" class="button" onClick={onClose}>
        Cancel
      </button>
      <button type="submit" class="button primary" disabled={isDisabled}>
        {label}
      </button>
    </div>
  );
}

function Replay({ view, active, onClose, onDone }: Props): JSX.Element {
  const definition = view.definition ?? view.sql ?? '';
  const [how, setHow] = useState<'declared' | 'text'>('declared');
  const [sql, setSql] = useState(definition);
  const { isBusy, error, send } = useChange(onDone);
  const path = `/v1/admin/views/${encodeURIComponent(view.view)}/replay`;
  const submit = (event: Event): void => {
    event.preventDefault();
    const body = how === 'declared' ? {} : { sql, file: 'dashboard' };
    void send(path, body, answer => (answer['created'] === false ? `Version ${String(answer['version'])} has this definition already.` : `Version ${String(answer['version'])} is being built from the start of the log.`));
  };
  return (
    <Dialog title={`Replay ${view.view}`} onClose={onClose}>
      <p>
        A new version reads the log from the beginning into a table of its own, beside
        {active === null ? ' what there is' : ` version ${active.version}, which readers stay on`}. Nothing changes for them until you switch.
      </p>
      <form onSubmit={submit} style={{ display: 'grid', gap: '16px' }}>
        <div class="segments" role="group" aria-label="Definition" style={{ justifySelf: 'start' }}>
          <button type="button" aria-pressed={how === 'declared'} onClick={() => setHow('declared')}>
            As the view file has it
          </button>
          <button type="button" aria-pressed={how === 'text'} onClick={() => setHow('text')}>
            Another definition
          </button>
        </div>
        {how === 'text' && (
          <label>
            <span class="label">SQL</span>
            <textarea class="field" rows={14} spellcheck={false} value={sql} onInput={event => setSql(event.currentTarget.value)} />
          </label>
        )}
        <Refusal error={error} what="No version was begun." />
        <Acts label={isBusy ? 'Beginning…' : 'Replay'} isDisabled={isBusy || (how === 'text' && sql.trim() === '')} onClose={onClose} />
      </form>
    </Dialog>
  );
}

function Resume({ view, to, onClose, onDone }: Props & { to: VersionDocument }): JSX.Element {
  const { isBusy, error, send } = useChange(onDone);
  const path = `/v1/admin/views/${encodeURIComponent(view.view)}/versions/${to.version}/resume`;
  return (
    <Dialog title={`Resume version ${to.version}`} onClose={onClose}>
      {to.error === null ? (
        <p>It goes on where it was paused.</p>
      ) : (
        <>
          <p>It goes on where it stopped. If the cause is still there, it fails again:</p>
          <p class="mono">{to.error}</p>
        </>
      )}
      <Refusal error={error} what="Not resumed." />
      <div class="dialog-acts">
        <button type="button" class="button" onClick={onClose}>
          Cancel
        </button>
        <button type="button" class="button primary" disabled={isBusy} onClick={() => void send(path, {}, () => `Version ${to.version} goes on.`)}>
          Resume
        </button>
      </div>
    </Dialog>
  );
}

function Pause({ view, to, onClose, onDone }: Props & { to: VersionDocument }): JSX.Element {
  const [reason, setReason] = useState('');
  const { isBusy, error, send } = useChange(onDone);
  const path = `/v1/admin/views/${encodeURIComponent(view.view)}/versions/${to.version}/pause`;
  const submit = (event: Event): void => {
    event.preventDefault();
    const body: Record<string, unknown> = reason.trim() === '' ? {} : { reason: reason.trim() };
    void send(path, body, () => `Version ${to.version} is paused.`);
  };
  return (
    <Dialog title={`Pause version ${to.version}`} onClose={onClose}>
      <p>It stands still, over restarts too, until you resume it. Readers are not affected.</p>
      <Refusal error={error} what="Not paused." />
      <form onSubmit={submit} style={{ display: 'grid', gap: '16px' }}>
        <Reason value={reason} isRequired={false} onInput={setReason} />
        <Acts label={isBusy ? 'Pausing…' : 'Pause'} isDisabled={isBusy} onClose={onClose} />
      </form>
    </Dialog>
  );
}

function Drop({ view, active, to, onClose, onDone }: Props & { to: VersionDocument }): JSX.Element {
  const [reason, setReason] = useState('');
  const [name, setName] = useState('');
  const { isBusy, error, send } = useChange(onDone);
  const isRefused = error instanceof ApiError && error.status === 409;
  // Only the time of grace can be overridden: the server tells how long it lasts.
  const isForced = isRefused && typeof error.problem['grace_left_ms'] === 'number';
  const isConfirmed = isForced ? name === view.view && reason.trim() !== '' : !isRefused;
  const path = `/v1/admin/views/${encodeURIComponent(view.view)}/versions/${to.version}/drop`;
  const submit = (event: Event): void => {
    event.preventDefault();
    if (!isConfirmed) return;
    const body: Record<string, unknown> = {};
    if (reason.trim() !== '') body['reason'] = reason.trim();
    if (isForced) body['force'] = true;
    void send(path, body, () => `Version ${to.version} is dropped.`);
  };
  return (
    <Dialog title={`Drop version ${to.version}`} onClose={onClose}>
      <p>
        Its rows, its state and its change feed are removed for good, and readers cannot be sent to it any more.
        {active !== null && ` Version ${active.version}, which serves readers, is not touched.`} To have it again, replay its definition from the start of the log.
      </p>
      <Refusal error={error} what="Not dropped." />
      <form onSubmit={submit} style={{ display: 'grid', gap: '16px' }}>
        <Reason value={reason} isRequired={isForced} onInput={setReason} />
        {isForced && (
          <Typed value={name} onInput={setName}>
            Type <span class="mono">{view.view}</span> to drop it all the same
          </Typed>
        )}
        <Acts label={isBusy ? 'Dropping…' : isForced ? 'Drop all the same' : 'Drop'} isDisabled={isBusy || !isConfirmed} onClose={onClose} />
      </form>
    </Dialog>
  );
}
