// Every page in light and dark, wide and narrow: without serious faults by axe-core, without a sideways scroll bar; and a picture for people.

import { expect, faults, look, rows, test } from './fixtures';
import { Refold } from './refold';

const SIZES = { wide: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };

for (const [size, viewport] of Object.entries(SIZES)) {
  for (const colorScheme of ['light', 'dark'] as const) {
    test.describe(`${size}, ${colorScheme}`, () => {
      test.use({ viewport, colorScheme, contextOptions: { reducedMotion: 'reduce' } });

      test('every page', async ({ page, refold }) => {
        const see = async (name: string): Promise<void> => {
          await look(page, `${name}-${size}-${colorScheme}`);
          expect.soft(await faults(page), name).toEqual([]);
          expect.soft(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} fits`).toBe(true);
        };
        await page.goto(refold.url);
        await expect(rows(page).first()).toBeVisible();
        await expect(page.locator('.spark').first()).toBeVisible();
        await see('live');
        const keys = await rows(page).evaluateAll(found => found.slice(0, 3).map(row => (row as HTMLElement).dataset['entry'] ?? ''));
        await page.goto(`${refold.url}/?key=${encodeURIComponent(keys[0] ?? '')}`);
        await expect(page.locator('.panel canvas')).toBeVisible();
        await expect(page.locator('.panel .chart-note')).not.toContainText('Reading');
        await see('live-panel');
        await page.goto(`${refold.url}/series`);
        await expect(page.locator('.chart canvas')).toBeVisible();
        await see('history-begin');
        await page.goto(`${refold.url}/series?${keys.map(key => `key=${encodeURIComponent(key)}`).join('&')}`);
        await expect(page.locator('.chart canvas')).toBeVisible();
        await expect(page.locator('.chart-note').first()).not.toContainText('Reading');
        await see('history');
        await page.goto(`${refold.url}/series?key=${encodeURIComponent(keys[0] ?? '')}&as=table`);
        await expect(page.locator('tbody tr').first()).toBeVisible();
        await see('history-table');
        await page.goto(`${refold.url}/views/hashtag_trends`);
        await expect(page.locator('.life').first()).toBeVisible();
        await expect(page.getByRole('table').first()).toBeVisible();
        await see('versions');
        await page.getByRole('button', { name: 'Replay…' }).click();
        await expect(page.getByRole('dialog')).toBeVisible();
        await see('replay');
        await page.goto(`${refold.url}/health`);
        await expect(page.locator('.thing').first()).toBeVisible();
        await see('health');
        await page.goto(`${refold.url}/nothing-here`);
        await see('no-page');
      });
    });
  }
}

test('a first visit and a lost connection', async ({ browser }) => {
  const refold = await Refold.start({ source: 'none' });
  try {
    for (const [size, viewport] of Object.entries(SIZES)) {
      const page = await browser.newPage({ viewport });
      await page.goto(refold.url);
      await expect(page.getByRole('heading', { name: 'No events yet' })).toBeVisible();
      await look(page, `first-visit-${size}`);
      expect.soft(await faults(page)).toEqual([]);
      await page.close();
    }
    await refold.say('#one #two', 20);
    const page = await browser.newPage();
    await page.goto(`${refold.url}/series?key=one&range=1h`);
    await expect(page.locator('.chart canvas')).toBeVisible();
    await refold.kill();
    await expect(page.getByText('No connection since')).toBeVisible();
    await look(page, 'lost-wide');
    expect.soft(await faults(page)).toEqual([]);
    await page.close();
  } finally {
    await refold.stop();
  }
});
