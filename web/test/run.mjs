// The tests that browsers run.   run.mjs [BROWSER...] [SUITE...]   (by scripts/web.sh, which sets CHROMIUM, FIREFOX and WEB_TOOLS)
//
// A suite is a file in suites/ that exports a function of what harness.mjs calls a test. Each has a browser of its own, so that none
// sees what another broke. The last line is `web: chromium N right, 0 wrong; firefox N right, 0 wrong`, and the exit status is 0 only
// if nothing was wrong and each suite found something right.
import { readdirSync } from 'node:fs';
import { browsers, run } from './harness.mjs';
import { serve } from './server.mjs';

const folder = new URL('suites/', import.meta.url);
const all = readdirSync(folder).filter((file) => file.endsWith('.mjs')).map((file) => file.slice(0, -4)).sort();
const names = process.argv.slice(2);
const unknown = names.filter((name) => !browsers.includes(name) && !all.includes(name));
if (unknown.length) {
    console.error(`web: neither a browser nor a suite: ${unknown.join(', ')} (browsers: ${browsers.join(', ')}; suites: ${all.join(', ')})`);
    process.exit(2);
}
const among = (some) => (some.some((name) => names.includes(name)) ? some.filter((name) => names.includes(name)) : some);

const server = await serve();
const totals = [];
for (const browser of among(browsers)) {
    const total = { right: 0, wrong: 0 };
    for (const name of among(all)) {
        const start = Date.now();
        const { right, wrong } = await run(browser, name, await import(new URL(`${name}.mjs`, folder)), server);
        console.log(`${browser} ${name}: ${right} right, ${wrong} wrong, ${((Date.now() - start) / 1000).toFixed(1)} s`);
        total.right += right;
        total.wrong += wrong;
    }
    totals.push({ browser, ...total });
}
console.log(`web: ${totals.map(({ browser, right, wrong }) => `${browser} ${right} right, ${wrong} wrong`).join('; ')}`);
process.exit(totals.every(({ right, wrong }) => right && !wrong) ? 0 : 1);
