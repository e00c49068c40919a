import 'uplot/dist/uPlot.min.css';
import './styles/tokens.css';
import './styles/base.css';
import './styles/pages.css';

import { type JSX, render } from 'preact';
import { useEffect } from 'preact/hooks';

import { Health } from './pages/Health';
import { History } from './pages/History';
import { Live } from './pages/Live';
import { Login } from './pages/Login';
import { Versions } from './pages/Versions';
import { Shell } from './parts/Shell';
import { path } from './router';
import { Loading } from './parts/ui';
import { loadSession, session, views } from './state';

function App(): JSX.Element {
  const who = session.value;
  const here = path.value;
  const isOut = who !== null && who.needs_login && who.role === null;
  useEffect(() => {
    document.title = `${titleOf(here, isOut || here === '/login')} · Refold`;
  }, [here, isOut]);
  if (isOut || here === '/login') return <Login />;
  // Who may read is known first: asking before that would only be refused.
  return <Shell>{who === null ? <First /> : pageOf(here)}</Shell>;
}

function First(): JSX.Element {
  return <Loading what={views.value.error === null ? 'One moment…' : 'The server does not answer. This page goes on by itself as soon as it does.'} />;
}

function pageOf(here: string): JSX.Element {
  if (here === '/') return <Live />;
  if (here === '/series') return <History />;
  if (here === '/health') return <Health />;
  const view = /^\/views(?:\/([^/]+))?\/?$/.exec(here);
  if (view !== null) return <Versions name={nameOf(view[1])} />;
  return (
    <div class="blank">
      <h2>There is no such page</h2>
      <p>
        The pages are <a href="/">Live</a>, <a href="/series">History</a>, <a href="/views">Versions</a> and <a href="/health">Health</a>.
      </p>
    </div>
  );
}

function nameOf(part: string | undefined): string | null {
  try {
    return part === undefined ? null : decodeURIComponent(part);
  } catch {
    return part ?? null;
  }
}

function titleOf(here: string, isOut: boolean): string {
  if (isOut) return 'Log in';
  if (here === '/series') return 'History';
  if (here === '/health') return 'Health';
  if (here.startsWith('/views')) return 'Versions';
  return 'Live';
}

void loadSession();
const root = document.getElementById('app');
if (root !== null) render(<App />, root);
