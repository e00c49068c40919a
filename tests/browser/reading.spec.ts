// What a reader does: sees what is trending, and how it got there.

import { expect, freshTag, rows, test } from './fixtures';
import { Refold } from './refold';

test('the ranking moves while posts flow', async ({ page, refold }) => {
  await page.goto(refold.url);
  await expect(rows(page).first()).toBeVisible();
  await page.evaluate(() => ((window as any).isSamePage = true));
  const tag = freshTag('moves');
  await refold.say(`look at #${tag}`, 600);
  await expect(rows(page).first()).toHaveAttribute('data-entry', tag, { timeout: 90_000 });
  await expect(page.locator(`[data-label="${tag}"] .move`)).toHaveText('new');
  await expect(page.locator(`[data-label="${tag}"] .amount`)).toHaveText('600');
  expect(await page.evaluate(() => (window as any).isSamePage)).toBe(true);
});

test('the places, values and surges of the ranking are those of the rows', async ({ page, refold }) => {
  await page.goto(refold.url);
  await expect(rows(page).first()).toBeVisible();
  await page.keyboard.press('p');
  await expect(page.getByRole('button', { name: 'Go on' })).toBeVisible();
  const shown = await page.locator('.entry').evaluateAll(found =>
    found.map(row => ({ label: (row as HTMLElement).dataset['label'], place: Number(row.querySelector('.place')?.textContent), value: Number(row.querySelector('.amount')?.textContent?.replaceAll(',', '')) })),
  );
  const valueText = await page.getByRole('slider', { name: 'Window' }).inputValue();
  const start = new Date(Number(valueText)).toISOString();
  const answer = await refold.get(`/v1/views/hashtag_trends/rows?slot=${encodeURIComponent(start)}&limit=100`);
  // Paused after it was drawn, the slider may be one window ahead of what is shown.
  const before = await refold.get(`/v1/views/hashtag_trends/rows?slot=${encodeURIComponent(new Date(Number(valueText) - 10_000).toISOString())}&limit=100`);
  const of = (rows: any[]) => rows.map(row => ({ label: row.hashtag, place: row.rank, value: row.occurrences }));
  expect([of(answer.rows), of(before.rows)]).toContainEqual(shown);
});

test('paused, nothing moves; gone on, it is at the newest window at once', async ({ page, refold }) => {
  await page.goto(refold.url);
  await expect(rows(page).first()).toBeVisible();
  await page.getByRole('button', { name: 'Pause' }).click();
  const when = page.locator('.when').first();
  const range = (await when.textContent())?.split(' – ')[0];
  await expect(when).toContainText('newer window', { timeout: 60_000 });
  expect((await when.textContent())?.split(' – ')[0]).toBe(range);
  await page.getByRole('button', { name: 'Go on' }).click();
  await expect(when).not.toContainText(range ?? '');
});

test('the slider goes back through windows, and to the newest again', async ({ page, refold }) => {
  await page.goto(refold.url);
  await expect(rows(page).first()).toBeVisible();
  const now = await rows(page).evaluateAll(found => found.map(row => (row as HTMLElement).dataset['entry']));
  await page.getByRole('button', { name: 'Back by 10 minutes' }).click();
  for (let step = 0; step < 5; step += 1) await page.getByRole('button', { name: 'Back by 10 minutes' }).click();
  await expect(page.locator('.when').first()).toContainText('an earlier window');
  await expect.poll(() => rows(page).evaluateAll(found => found.map(row => (row as HTMLElement).dataset['entry']))).not.toEqual(now);
  await page.getByRole('button', { name: 'Newest' }).click();
  await expect(page.locator('.when').first()).toContainText(/closed|still open/);
});

test('an entry opens its history beside the ranking, by pointer and by keys', async ({ page, refold }) => {
  await page.goto(refold.url);
  await expect(rows(page).first()).toBeVisible();
  await page.keyboard.press('p');
  await rows(page).nth(1).click();
  const label = await rows(page).nth(1).getAttribute('data-entry');
  await expect(page.locator('.panel h2')).toHaveText(label ?? '');
  await expect(page.locator('.panel canvas')).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.locator('.panel')).toHaveCount(0);
  await page.locator('body').click({ position: { x: 5, y: 400 } });
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  await page.keyboard.press('k');
  await expect(rows(page).nth(0)).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(page.locator('.panel h2')).toHaveText((await rows(page).nth(0).getAttribute('data-entry')) ?? '');
  expect(new URL(page.url()).searchParams.get('key')).toBe(await rows(page).nth(0).getAttribute('data-entry'));
});

test('the keys are listed by ? and a search is begun by / from any page', async ({ page, refold }) => {
  await page.goto(`${refold.url}/health`);
  await expect(page.getByRole('heading', { level: 1 })).toBeVisible();
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Keys' })).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await page.keyboard.press('/');
  await expect(page).toHaveURL(/\/series/);
  await expect(page.getByRole('combobox')).toBeFocused();
});

test("a key's history grows while one looks at it", async ({ page, refold }) => {
  const tag = freshTag('grows');
  await refold.say(`#${tag}`, 3);
  await page.goto(`${refold.url}/series?key=${tag}&range=1h&as=table`);
  const total = async (): Promise<number> => {
    const cells = await page.locator('tbody td.right').allTextContents();
    return cells.reduce((sum, text) => sum + (Number(text) || 0), 0);
  };
  await expect.poll(total).toBe(3);
  await refold.say(`#${tag}`, 4);
  await expect.poll(total).toBe(7);
  await page.getByRole('button', { name: 'Chart' }).click();
  await expect(page.locator('.chart canvas')).toBeVisible();
  await expect(page).not.toHaveURL(/as=table/);
});

test('keys are found as one types, six at most are shown, and the address brings them back', async ({ page, refold }) => {
  const tag = freshTag('found');
  await refold.say(`#${tag}a #${tag}b`, 2);
  await page.goto(`${refold.url}/series`);
  const search = page.getByRole('combobox');
  await search.fill(tag);
  await expect(page.getByRole('option')).toHaveText([`${tag}a`, `${tag}b`]);
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await search.fill(tag);
  await page.getByRole('option', { name: `${tag}a` }).click();
  await expect(page.locator('.chip bdi')).toHaveText([`${tag}b`, `${tag}a`]);
  await page.reload();
  await expect(page.locator('.chip bdi')).toHaveText([`${tag}b`, `${tag}a`]);
  for (const key of ['c', 'd', 'e', 'f']) {
    await search.fill(`${tag}${key}`);
    await page.keyboard.press('Enter');
  }
  await expect(page.locator('.chip')).toHaveCount(6);
  await expect(search).toBeDisabled();
});

test('a brush zooms in, Escape goes back, and presets choose coarser steps', async ({ page, refold }) => {
  await page.goto(refold.url);
  await expect(rows(page).first()).toBeVisible();
  const key = await rows(page).first().getAttribute('data-entry');
  await page.goto(`${refold.url}/series?key=${encodeURIComponent(key ?? '')}`);
  const area = page.locator('.u-over');
  await expect(area).toBeVisible();
  const box = await area.boundingBox();
  if (box === null) throw new Error('the chart has no area');
  await page.mouse.move(box.x + box.width * 0.4, box.y + 50);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.6, box.y + 60, { steps: 5 });
  await page.mouse.up();
  await expect(page).toHaveURL(/from=.*to=/);
  await page.keyboard.press('Escape');
  await expect(page).not.toHaveURL(/from=/);
  await page.getByRole('button', { name: '7 d' }).click();
  await expect(page.locator('.chart-note')).toContainText('Sums of 30 minutes');
  await expect(page).toHaveURL(/range=7d/);
});

test('values are shown at the pointer, and are downloaded as CSV', async ({ page, refold }) => {
  const tag = freshTag('csv');
  await refold.say(`#${tag}`, 5);
  await page.goto(`${refold.url}/series?key=${tag}&range=1h`);
  const chart = page.locator('.chart [role=img]');
  await expect(chart).toBeVisible();
  await expect(page.locator('.chart-note')).not.toContainText('No rows');
  await chart.focus();
  await page.keyboard.press('End');
  await expect(page.locator('.chart-tip')).toContainText(tag);
  await expect(page.locator('.chart-tip')).toContainText('UTC');
  const waiting = page.waitForEvent('download');
  await page.getByRole('button', { name: 'CSV', exact: true }).click();
  const download = await waiting;
  const chunks: Buffer[] = [];
  for await (const chunk of await download.createReadStream()) chunks.push(chunk as Buffer);
  const lines = Buffer.concat(chunks).toString('utf8').replace('\uFEFF', '').trim().split('\r\n');
  expect(lines[0]).toBe(`slot,${tag}`);
  expect(lines.slice(1).reduce((sum, line) => sum + Number(line.split(',')[1]), 0)).toBe(5);
});

test('names in any script, direction and length stay in their place', async ({ page, refold }) => {
  const long = freshTag('sehr').padEnd(120, 'lang');
  const arabic = `العربية${Date.now()}`;
  await refold.say(`#${long} #${arabic}`, 700);
  await page.goto(refold.url);
  for (const tag of [long, arabic]) await expect(page.locator(`[data-entry="${tag}"]`)).toBeVisible({ timeout: 90_000 });
  for (const width of [1280, 390]) {
    await page.setViewportSize({ width, height: 800 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
    const heights = await page.locator('.entry').evaluateAll(found => found.map(row => Math.round(row.getBoundingClientRect().height)));
    // The last has no line under it.
    expect(Math.max(...heights) - Math.min(...heights)).toBeLessThanOrEqual(1);
  }
});

test('the first view comes, and how fast is said', async ({ browser, refold }) => {
  const taken: number[] = [];
  for (let attempt = 0; attempt < 5; attempt += 1) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(refold.url, { waitUntil: 'commit' });
    await rows(page).first().waitFor();
    taken.push(await page.evaluate(() => performance.now()));
    await context.close();
  }
  test.info().annotations.push({ type: 'first view, ms', description: taken.map(Math.round).join(', ') });
  // The goal is a second. Other tests and services share the machine, so that only a view that hangs fails here.
  console.log(`first view: ${taken.map(Math.round).join(', ')} ms`);
  expect(Math.min(...taken)).toBeLessThan(20_000);
});

test('a first visit says how to bring events, and goes on by itself when they arrive', async ({ page }) => {
  const empty = await Refold.start({ source: 'none' });
  try {
    await page.goto(empty.url);
    await expect(page.getByRole('heading', { name: 'No events yet' })).toBeVisible();
    await expect(page.locator('.command')).toHaveCount(3);
    await empty.say('the #first', 10);
    await expect(page.getByRole('heading', { name: 'No events yet' })).toHaveCount(0, { timeout: 60_000 });
    await page.goto(`${empty.url}/series?key=first&range=1h&as=table`);
    await expect(page.locator('tbody td.right').filter({ hasText: '10' })).toBeVisible();
  } finally {
    await empty.stop();
  }
});
