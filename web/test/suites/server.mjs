// The server that the other suites trust: ranges, whole files, foreign origins, files larger than memory.
const FILE = 'data/storybook-3.7M-Q4_K_M.gguf';

export default async function (test) {
    const page = await test.open('/test/blank.html');
    const get = (url, range) => page.evaluate(fetched, url, range);

    const whole = await get(test.url(`/whole/${FILE}`), 'bytes=0-3');
    test.equal(whole.status, 200, 'the address that knows no ranges answers with 200');
    const size = whole.size;

    for (const [host, url] of [['this origin', test.url(`/files/${FILE}`)], ['another origin', test.server.foreign(`/files/${FILE}`)]]) {
        const head = await get(url, 'bytes=0-3');
        test.equal([head.status, head.size, head.range, head.text], [206, 4, `bytes 0-3/${size}`, 'GGUF'], `the first bytes, from ${host}`);
        const last = await get(url, 'bytes=-5');
        test.equal([last.status, last.size, last.range], [206, 5, `bytes ${size - 5}-${size - 1}/${size}`], `the last bytes, from ${host}`);
        const over = await get(url, `bytes=${size - 2}-${size + 9}`);
        test.equal([over.status, over.size], [206, 2], `a range over the end, from ${host}`);
    }
    test.equal(test.server.log.at(-1)?.bytes, 2, 'the log has the last request');

    const private_ = await get(test.url(`/private/${FILE}`), 'bytes=0-3');
    test.equal([private_.status, private_.text], [206, 'GGUF'], 'a private file, from this origin');

    const url = test.url('/made/server/sparse.bin');
    const sparse = 6 * 2 ** 30;
    await test.server.make('server/sparse.bin', sparse, [{ at: 0, bytes: Buffer.from('head') }, { at: 5 * 2 ** 30, bytes: Buffer.from('far') }]);
    const far = await get(url, `bytes=${5 * 2 ** 30}-${5 * 2 ** 30 + 2}`);
    test.equal([far.range, far.text], [`bytes ${5 * 2 ** 30}-${5 * 2 ** 30 + 2}/${sparse}`, 'far'], 'a range of a sparse file of 6 GB');

    // The browser writes these into its console.
    test.tolerate(/416|404|CORS|Cross-Origin|net::ERR_FAILED/);
    test.equal((await get(url, `bytes=${sparse}-`)).status, 416, 'a range behind the end');
    test.equal((await get(test.url('/files/data/nothing.gguf'))).status, 404, 'no such file');
    test.equal((await get(test.url('/files/..%2f..%2fCargo.toml'))).status, 404, 'a file outside');
    const foreign = await get(test.server.foreign(`/private/${FILE}`), 'bytes=0-3');
    test.check(foreign.error, 'a private file cannot be read from another origin', foreign);
}

// Runs in the page.
async function fetched(url, range) {
    try {
        const response = await fetch(url, range ? { headers: { Range: range } } : {});
        const bytes = new Uint8Array(await response.arrayBuffer());
        const text = String.fromCharCode(...bytes.slice(0, 4));
        return { status: response.status, size: bytes.length, range: response.headers.get('Content-Range'), text };
    } catch (error) {
        return { error: String(error) };
    }
}
