// What an operator does: switches and goes back while others read, sees what is wrong, and is refused what is not his.

import { createHash } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, rows, test, watch } from './fixtures';
import { HOURS, Refold, until } from './refold';

const VIEW = 'hashtag_trends';

test('readers are switched to another version and back, without reload or error', async ({ page, refold, context }) => {
  const before = await refold.get(`/v1/views/${VIEW}`);
  const active = before.active.version as number;
  const size = Number(/rank <= (\d+)/.exec(before.definition)?.[1]);
  const other = size === 7 ? 9 : 7;
  await page.goto(refold.url);
  await expect(rows(page)).toHaveCount(size);
  await page.evaluate(() => ((window as any).isSamePage = true));

  const operator = await context.newPage();
  const errors = watch(operator);
  await operator.goto(`${refold.url}/views/${VIEW}`);
  await operator.getByRole('button', { name: 'Replay…' }).click();
  await operator.getByRole('button', { name: 'Another definition' }).click();
  await operator.getByRole('textbox', { name: 'SQL' }).fill(before.definition.replace(/rank <= \d+/, `rank <= ${other}`));
  await operator.getByRole('dialog').getByRole('button', { name: 'Replay', exact: true }).click();
  await expect(operator.getByRole('dialog')).toHaveCount(0);
  const next = ((await refold.get(`/v1/views/${VIEW}`)).versions as { version: number; state: string }[]).at(-1)?.version ?? 0;
  expect(next).toBeGreaterThan(active);
  await expect(operator.locator('[data-next]')).toContainText(`Version ${next}`);

  await until(`version ${next} is caught up`, async () => {
    const view = await refold.get(`/v1/views/${VIEW}`);
    return view.versions.some((version: { version: number; state: string; lag: number }) => version.version === next && version.state === 'caught_up' && version.lag < 100);
  });
  await operator.getByRole('button', { name: `Switch to version ${next}` }).click();
  await operator.getByLabel(/^Reason/).fill('another length');
  await operator.getByRole('dialog').getByRole('button', { name: 'Switch', exact: true }).click();
  await expect(rows(page)).toHaveCount(other);
  await expect(page.getByText(`Readers are on version ${next} now`)).toBeVisible();
  await expect(operator.getByRole('table').first()).toContainText('another length');

  await operator.getByRole('button', { name: `Roll back to version ${active}` }).click();
  await operator.getByRole('dialog').getByRole('button', { name: 'Roll back', exact: true }).click();
  await expect(rows(page)).toHaveCount(size);
  await expect(operator.locator('[data-next]')).toContainText(`sent back from version ${next}`);
  expect(await page.evaluate(() => (window as any).isSamePage)).toBe(true);

  // Readers were on it until now: that it is dropped all the same needs a reason and the name of the view.
  await operator.getByRole('article', { name: `Version ${next}`, exact: true }).getByRole('button', { name: 'Drop…' }).click();
  const dialog = operator.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Drop', exact: true }).click();
  await expect(dialog.getByRole('alert')).toContainText('drop_grace_ms');
  await dialog.getByLabel(/^Reason/).fill('only tried');
  await dialog.getByLabel(/to drop it all the same/).fill(VIEW);
  await dialog.getByRole('button', { name: 'Drop all the same' }).click();
  await expect(dialog).toHaveCount(0);
  await expect(operator.getByRole('article', { name: `Version ${next}`, exact: true })).toHaveCount(0);
  await until('nothing is left of it', async () => {
    const view = await refold.get(`/v1/views/${VIEW}`);
    return view.versions.some((version: { version: number; removed?: boolean }) => version.version === next && version.removed === true);
  });
  await expect(rows(page)).toHaveCount(size);
  // To the browser the refusal is an error, whatever the page makes of it.
  expect(errors.filter(error => !/status of 409/.test(error))).toEqual([]);
});

test.describe('a definition that is refused', () => {
  // To the browser the refusal is an error, whatever the page makes of it.
  test.use({ expected: [/status of 422/] });

  test('says why, and begins no version', async ({ page, refold }) => {
    const before = (await refold.get(`/v1/views/${VIEW}`)).versions.length;
    await page.goto(`${refold.url}/views/${VIEW}`);
    await page.getByRole('button', { name: 'Replay…' }).click();
    await page.getByRole('button', { name: 'Another definition' }).click();
    await page.getByRole('textbox', { name: 'SQL' }).fill('SELECT nothing');
    await page.getByRole('dialog').getByRole('button', { name: 'Replay', exact: true }).click();
    await expect(page.getByRole('alert')).toContainText('No version was begun.');
    expect((await refold.get(`/v1/views/${VIEW}`)).versions.length).toBe(before);
  });
});

test('everything that matters is looked at, and quarantined events are shown with their reason', async ({ page, refold }) => {
  await page.goto(`${refold.url}/health`);
  await expect(page.getByRole('heading', { level: 1 })).toBeVisible();
  const health = await refold.get('/v1/health');
  await expect(page.locator('.thing')).toHaveCount(health.items.length);
  // The generated history has posts that came too late for the ranking.
  await page.getByRole('button', { name: VIEW }).click();
  await page.getByRole('button', { name: /^too late/ }).click();
  await expect(page.locator('.samples tbody tr').first()).toContainText('too late');
});

test.describe('a server that is killed and comes back', () => {
  test.use({ expected: [/ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|WebSocket connection/] });

  test('is told at once, and the page goes on by itself', async ({ page }) => {
    const refold = await Refold.start({ source: HOURS });
    try {
      await page.goto(refold.url);
      await expect(rows(page).first()).toBeVisible();
      await page.evaluate(() => ((window as any).isSamePage = true));
      await refold.kill();
      await expect(page.getByText('No connection since')).toBeVisible();
      await expect(page.locator('.live .stale')).toBeVisible();
      await expect(rows(page).first()).toBeVisible();
      const range = (await page.locator('.when').first().textContent())?.split(' – ')[0] ?? '';
      await refold.run();
      await expect(page.getByText('No connection since')).toHaveCount(0, { timeout: 60_000 });
      await expect(page.locator('.when').first()).not.toContainText(range, { timeout: 60_000 });
      await expect(page.locator('.live .stale')).toHaveCount(0);
      expect(await page.evaluate(() => (window as any).isSamePage)).toBe(true);
    } finally {
      await refold.stop();
    }
  });
});

test.describe('a server that asks for tokens', () => {
  // A refused log-in is an error to the browser, whatever the page makes of it.
  test.use({ expected: [/status of 40[13]/] });
  const tokens = { ann: ['operate', 'ann-may-operate'], bob: ['read', 'bob-may-read'] } as const;
  let refold: Refold;

  test.beforeAll(async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'refold-tokens-')), 'tokens.toml');
    const entries = Object.entries(tokens).map(([name, [role, token]]) => `[[token]]\nname = "${name}"\nrole = "${role}"\nsha256 = "${createHash('sha256').update(token).digest('hex')}"\n`);
    writeFileSync(file, entries.join('\n'), { mode: 0o600 });
    refold = await Refold.start({ source: HOURS, host: '0.0.0.0', args: ['--tokens-file', file], token: tokens.ann[1] });
  });
  test.afterAll(() => refold.stop());

  test('refuses a wrong one, in words, and takes a right one', async ({ page, context }) => {
    await page.goto(`${refold.url}/views/${VIEW}`);
    await page.getByLabel('Token').fill('wrong');
    await page.getByRole('button', { name: 'Log in' }).click();
    await expect(page.getByRole('alert')).toContainText('This is no token of this server');
    await page.getByLabel('Token').fill(tokens.ann[1]);
    await page.keyboard.press('Enter');
    await expect(page.getByRole('heading', { name: VIEW })).toBeVisible();
    await expect(page.getByText('ann · operate')).toBeVisible();
    await expect(page.getByRole('button', { name: 'Replay…' })).toBeVisible();
    const cookie = (await context.cookies()).find(found => found.name === 'refold_session');
    expect(cookie).toMatchObject({ httpOnly: true, sameSite: 'Strict' });
    expect(await page.evaluate(() => document.cookie)).toBe('');
    await page.goto(refold.url);
    await expect(rows(page).first()).toBeVisible();
    await page.getByRole('button', { name: 'Log out' }).click();
    await expect(page.getByLabel('Token')).toBeVisible();
    await page.reload();
    await expect(page.getByLabel('Token')).toBeVisible();
  });

  test('shows a reader what may be read, and offers nothing else', async ({ page }) => {
    await page.goto(`${refold.url}/views/${VIEW}`);
    await page.getByLabel('Token').fill(tokens.bob[1]);
    await page.getByRole('button', { name: 'Log in' }).click();
    await expect(page.getByText('Replays, switches, rollbacks and drops need the role operate; bob has read.')).toBeVisible();
    await expect(page.getByRole('button', { name: 'Replay…' })).toHaveCount(0);
    const status = await page.evaluate(async view => (await fetch(`/v1/admin/views/${view}/replay`, { method: 'POST', headers: { 'content-type': 'application/json', 'x-refold-request': '1' }, body: '{}' })).status, VIEW);
    expect(status).toBe(403);
  });

  test('takes no change by cookie that another page could have sent', async ({ page }) => {
    await page.goto(refold.url);
    await page.getByLabel('Token').fill(tokens.ann[1]);
    await page.getByRole('button', { name: 'Log in' }).click();
    await expect(rows(page).first()).toBeVisible();
    const status = await page.evaluate(async view => (await fetch(`/v1/admin/views/${view}/replay`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' })).status, VIEW);
    expect(status).toBe(403);
  });
});
