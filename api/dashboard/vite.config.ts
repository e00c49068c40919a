import { defineConfig } from 'vite';

// `npm run dev` serves the sources over a refold that runs elsewhere, by default at the address of `refold up`.
declare const process: { env: Record<string, string | undefined> };
const refold = process.env['REFOLD_URL'] ?? 'http://127.0.0.1:7070';

export default defineConfig({
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  build: {
    target: 'es2022',
    outDir: 'dist',
    assetsDir: 'assets',
    // One file each: together they are smaller than the round trips that more of them would take.
    cssCodeSplit: false,
    modulePreload: { polyfill: false },
    // Everything is a file with a content hash. Data URLs would need a wider Content-Security-Policy.
    assetsInlineLimit: 0,
    reportCompressedSize: true,
  },
  server: { proxy: { '/v1': { target: refold, ws: true } } },
});
