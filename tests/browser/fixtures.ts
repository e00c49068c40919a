// What all tests here share: a server, and pages on which no error may appear.

import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { type Page, test as base, expect } from '@playwright/test';

import { Refold } from './refold';

const LOOKS = fileURLToPath(new URL('results/looks', import.meta.url));
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

interface Shared {
  refold: Refold;
}

interface Own {
  /** Errors that a test brings about itself, and that a browser reports without being asked. */
  expected: RegExp[];
}

export const test = base.extend<Own, Shared>({
  refold: [
    async ({}, use) => {
      const refold = await Refold.shared();
      await use(refold);
      await refold.stop();
    },
    { scope: 'worker', timeout: 400_000 },
  ],
  expected: [[], { option: true }],
  page: async ({ page, expected }, use) => {
    const errors = watch(page);
    await use(page);
    expect(errors.filter(error => !expected.some(known => known.test(error)))).toEqual([]);
  },
});

export { expect };

/** Everything that a page reports as an error from here on. */
export function watch(page: Page): string[] {
  const errors: string[] = [];
  page.on('pageerror', error => errors.push(error.message));
  page.on('console', message => {
    if (message.type() === 'error') errors.push(message.text());
  });
  return errors;
}

/** Serious faults that axe-core finds, each with the first place. */
export async function faults(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const axe = (window as any).axe;
    const found = await axe.run(document, { resultTypes: ['violations'] });
    return found.violations
      .filter((fault: any) => fault.impact === 'serious' || fault.impact === 'critical')
      .map((fault: any) => `${fault.id}: ${fault.nodes[0].html.slice(0, 200)} (${fault.nodes[0].failureSummary})`);
  });
}

/** A picture for people, kept with the results of the run. */
export async function look(page: Page, name: string): Promise<void> {
  mkdirSync(LOOKS, { recursive: true });
  await page.screenshot({ path: join(LOOKS, `${name}.png`) });
}

export const rows = (page: Page) => page.locator('[data-entry]');

/** A name that no other test uses. */
export function freshTag(word: string): string {
  return `${word}${Date.now().toString(36)}${Math.floor(Math.random() * 1000)}`;
}
