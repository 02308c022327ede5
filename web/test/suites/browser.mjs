// “Check this browser”, to its end.
import { finished, ready } from './page.mjs';

export const timeout = 3600;

export default async function (test) {
    const page = await test.open('/', { width: 1280, height: 844 });
    await ready(page);
    await page.click('#options-title');
    await page.$eval('#batches', (input) => (input.value = '1'));
    await page.click('#check');
    await finished(page);
    const verdict = await page.$eval('#verdict', (element) => element.innerText);
    // Three shapes of each of 48 formats: decoded, looked up, multiplied.
    const [, checks, tensors] = /^OK (\d+) checks on (\d+) tensors/.exec(verdict) ?? [];
    test.check(Number(checks) >= 3 * Number(tensors) && Number(tensors) >= 144, 'every format is right', verdict);
    const rows = await page.$$eval('#table tbody tr', (all) => all.length);
    test.check(rows >= 144, 'a row for each format and operation', rows);
    test.note(verdict);
    await test.shot(page, 'browser-1280');
}
