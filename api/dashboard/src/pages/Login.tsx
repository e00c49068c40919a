import type { JSX } from 'preact';
import { useState } from 'preact/hooks';

import { ApiError, post, said } from '../api';
import { Note } from '../parts/ui';
import { go, path } from '../router';
import { loadSession } from '../state';

export function Login(): JSX.Element {
  const [token, setToken] = useState('');
  const [error, setError] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (token.trim() === '' || isBusy) return;
    setBusy(true);
    setError(null);
    try {
      await post('/v1/session', { token: token.trim() });
      await loadSession();
      if (path.value === '/login') go('/', 'replace');
    } catch (failure) {
      const isRefused = failure instanceof ApiError && (failure.status === 401 || failure.status === 403);
      setError(isRefused ? 'This is no token of this server. Check that it was copied whole, or ask whoever runs the server for one.' : `${said(failure)}. Try again.`);
    } finally {
      setBusy(false);
    }
  };
  return (
    <main class="page">
      <form class="narrow" onSubmit={event => void submit(event)}>
        <div>
          <h1>Log in</h1>
          <p class="lead">What one may do here comes with a token. It is kept in a cookie that scripts cannot read, until you log out.</p>
        </div>
        {error !== null && (
          <Note state="error">
            <strong>Not logged in.</strong> {error}
          </Note>
        )}
        <div>
          <label class="label" for="token">
            Token
          </label>
          <input
            id="token"
            class="field mono"
            type="password"
            autocomplete="current-password"
            autoFocus
            required
            value={token}
            aria-invalid={error !== null}
            onInput={event => setToken(event.currentTarget.value)}
          />
        </div>
        <div>
          <button type="submit" class="button primary" disabled={isBusy || token.trim() === ''}>
            {isBusy ? 'Logging in…' : 'Log in'}
          </button>
        </div>
      </form>
    </main>
  );
}
