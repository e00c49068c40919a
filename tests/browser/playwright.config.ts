import { existsSync } from 'node:fs';

import { defineConfig } from '@playwright/test';

// The browser of the system: Playwright's own would have to be downloaded.
const browsers = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const executablePath = process.env['CHROMIUM'] ?? browsers.find(path => existsSync(path));
if (executablePath === undefined) throw new Error('there is no Chromium; install it (scripts/setup prove), or name one: CHROMIUM=/path/to/it');

export default defineConfig({
  testDir: '.',
  outputDir: 'results/traces',
  reporter: [['list'], ['html', { outputFolder: 'results/report', open: 'never' }]],
  // One server and one browser at a time: two cores have enough to do with that.
  workers: 1,
  fullyParallel: false,
  forbidOnly: true,
  timeout: 400_000,
  expect: { timeout: 30_000 },
  use: {
    browserName: 'chromium',
    locale: 'en-GB',
    timezoneId: 'Europe/Berlin',
    viewport: { width: 1280, height: 800 },
    trace: 'retain-on-failure',
    launchOptions: {
      executablePath,
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    },
  },
});
