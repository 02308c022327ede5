// A static server on two ports of this machine, so that one is a foreign host to pages of the other.
//
//   /           target/web, the page that is tested
//   /test/      web/test/pages, pages of the tests' own
//   /files/     tests/ of the repository (/files/data/storybook-3.7M-Q4_K_M.gguf), with byte ranges; other origins may read them
//   /made/      the same for files that suites make below target/web-tools/made
//   /whole/     as /files/, but ranges are ignored: each answer is the whole file
//   /private/   as /files/, but other origins may not read them
import { createReadStream } from 'node:fs';
import { mkdir, open, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const project = fileURLToPath(new URL('../..', import.meta.url));
const made = join(process.env.WEB_TOOLS, 'made');
const SITES = [
    { prefix: '/files/', folder: join(project, 'tests'), ranges: true, foreign: true },
    { prefix: '/made/', folder: made, ranges: true, foreign: true },
    { prefix: '/whole/', folder: join(project, 'tests'), ranges: false, foreign: true },
    { prefix: '/private/', folder: join(project, 'tests'), ranges: true, foreign: false },
    { prefix: '/test/', folder: join(project, 'web/test/pages'), ranges: false, foreign: false },
    { prefix: '/', folder: join(project, 'target/web'), ranges: false, foreign: false },
];
const TYPES = {
    '.html': 'text/html; charset=utf-8',
    '.css': 'text/css; charset=utf-8',
    '.js': 'text/javascript; charset=utf-8',
    '.mjs': 'text/javascript; charset=utf-8',
    '.json': 'application/json',
    '.svg': 'image/svg+xml',
    '.png': 'image/png',
    '.wasm': 'application/wasm',
};

// `bytes=FROM-[TO]` or `bytes=-LAST`: { from, to } inclusive, null if there is no such header, or 'wrong'.
export function range(header, size) {
    if (!header) return null;
    const match = /^bytes=(\d*)-(\d*)$/.exec(header);
    if (!match || (match[1] === '' && match[2] === '')) return 'wrong';
    const from = match[1] === '' ? Math.max(0, size - Number(match[2])) : Number(match[1]);
    const to = match[1] === '' || match[2] === '' ? size - 1 : Math.min(Number(match[2]), size - 1);
    return from <= to ? { from, to } : 'wrong';
}

async function answer(request, response, log) {
    const path = decodeURIComponent(new URL(request.url, 'http://any').pathname);
    const site = SITES.find(({ prefix }) => path.startsWith(prefix));
    let file = join(site.folder, normalize('/' + path.slice(site.prefix.length)));
    const headers = { 'Cache-Control': 'no-store' };
    if (site.foreign) {
        headers['Access-Control-Allow-Origin'] = '*';
        headers['Access-Control-Allow-Headers'] = 'Range, If-Range';
        headers['Access-Control-Expose-Headers'] = 'Accept-Ranges, Content-Length, Content-Range, ETag';
    }
    if (request.method === 'OPTIONS') return response.writeHead(site.foreign ? 204 : 403, headers).end();
    let found = await stat(file).catch(() => null);
    if (found?.isDirectory()) found = await stat((file = join(file, 'index.html'))).catch(() => null);
    if (!found?.isFile()) return response.writeHead(404, { ...headers, 'Content-Type': 'text/plain' }).end('not found\n');
    headers['Content-Type'] = TYPES[extname(file)] ?? 'application/octet-stream';
    headers.ETag = `"${found.size.toString(16)}-${found.mtimeMs.toString(16)}"`;
    let part = null;
    if (site.ranges) {
        headers['Accept-Ranges'] = 'bytes';
        const changed = request.headers['if-range'] && request.headers['if-range'] !== headers.ETag;
        part = changed ? null : range(request.headers.range, found.size);
    }
    if (part === 'wrong') return response.writeHead(416, { ...headers, 'Content-Range': `bytes */${found.size}` }).end();
    const { from, to } = part ?? { from: 0, to: found.size - 1 };
    headers['Content-Length'] = to - from + 1;
    if (part) headers['Content-Range'] = `bytes ${from}-${to}/${found.size}`;
    response.writeHead(part ? 206 : 200, headers);
    log.push({ method: request.method, path, range: request.headers.range ?? null, bytes: request.method === 'HEAD' ? 0 : to - from + 1 });
    if (request.method === 'HEAD' || found.size === 0) return response.end();
    createReadStream(file, { start: from, end: to }).on('error', () => response.destroy()).pipe(response);
}

function listen(log) {
    const server = createServer((request, response) => {
        answer(request, response, log).catch(() => (response.headersSent ? response.destroy() : response.writeHead(500).end()));
    });
    return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
}

// { url(path), foreign(path), log, make(name, size, parts) }
export async function serve() {
    // What was asked for, in order: { method, path, range, bytes }. Suites may empty it.
    const log = [];
    const [own, other] = [await listen(log), await listen(log)];
    return {
        log,
        // The folder of /made/.
        made,
        url: (path) => `http://127.0.0.1:${own}${path}`,
        foreign: (path) => `http://127.0.0.1:${other}${path}`,
        // A file of `size` bytes, zeros but for `parts` ([{ at, bytes }]), which takes no more room than they do. Its path; its URL
        // is /made/NAME.
        async make(name, size, parts = []) {
            const path = join(made, name);
            await mkdir(dirname(path), { recursive: true });
            const file = await open(path, 'w');
            try {
                await file.truncate(size);
                for (const { at, bytes } of parts) await file.write(bytes, 0, bytes.length, at);
            } finally {
                await file.close();
            }
            return path;
        },
    };
}
