// The page: it shows what the engine knows, and asks it for more.

const $ = (id) => document.getElementById(id);

// --- the engine -----------------------------------------------------------------------------------------------------------------

let send;
let next = 0;
const waiting = new Map();

function receive({ id, progress, result, error, panic }) {
    if (panic) {
        // Nothing more is to be had of it.
        if (!waiting.size) fail({ name: 'Panic', message: panic });
        for (const { reject } of waiting.values()) reject(Object.assign(new Error(panic), { name: 'Panic' }));
        waiting.clear();
        send = () => {};
        return;
    }
    const one = waiting.get(id);
    if (!one) return;
    if (progress) return one.progress?.(progress);
    waiting.delete(id);
    if (error) one.reject(Object.assign(new Error(error.message), { name: error.name }));
    else one.resolve(result);
}

// The result of a call of engine.js.
function ask(call, ...args) {
    const progress = typeof args.at(-1) === 'function' ? args.pop() : undefined;
    return new Promise((resolve, reject) => {
        waiting.set(++next, { resolve, reject, progress });
        send({ id: next, call, args });
    });
}

// In a worker, where nothing that is computed holds up the page; here, where a browser has WebGPU for pages alone.
async function start() {
    const worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
    worker.onmessage = ({ data }) => receive(data);
    // What it was asked gets no answer any more.
    worker.onerror = (event) => receive({ panic: event.message || 'the engine does not start' });
    send = (message) => worker.postMessage(message);
    let seen = await ask('look');
    if (!seen.gpu && navigator.gpu) {
        worker.terminate();
        const { handle } = await import('./engine.js');
        send = (message) => handle(message, receive);
        seen = await ask('look');
    }
    return seen;
}

// --- the GPU --------------------------------------------------------------------------------------------------------------------

const browser = (() => {
    const brands = navigator.userAgentData?.brands?.filter(({ brand }) => !/not.?a.?brand/i.test(brand)) ?? [];
    const brand = brands.find(({ brand }) => brand !== 'Chromium') ?? brands[0];
    if (brand) return `${brand.brand} ${brand.version}`;
    const [, name, version] = /(Firefox|Edg|OPR|Chrome)\/([\d.]+)/.exec(navigator.userAgent) ?? /(Safari)\/([\d.]+)/.exec(navigator.userAgent) ?? [];
    return name ? `${name} ${version}` : 'a browser of unknown name';
})();

let seen;
let isOpen = false;

async function openDevice() {
    isOpen = false;
    ready();
    const software = { gpu: false, software: true }[$('kernels').value];
    try {
        const row = await ask('open', { name: seen.name, driver: browser, ...(software === undefined ? {} : { software }) });
        isOpen = true;
        $('problem').hidden = true;
        showDevice(row);
    } catch (error) {
        fail(error);
    }
    ready();
}

function showDevice(row) {
    const facts = [
        ['through', row.driver],
        ['kernels', $('kernels').value || (row.kind === 'Cpu' ? 'for software adapters' : 'for GPUs')],
        ['one binding', bytes(row.max_binding)],
        ['one buffer', bytes(row.max_buffer)],
        ['workgroup memory', bytes(row.max_workgroup_memory)],
        ['invocations of a workgroup', row.max_workgroup],
        ['f16', row.features.includes('f16') ? 'yes' : 'no'],
        ['GPU timestamps', row.features.includes('timestamps') ? 'yes' : 'no'],
    ];
    const list = element('dl', { className: 'facts' });
    for (const [term, value] of facts) list.append(element('div', {}, element('dt', {}, term), element('dd', {}, String(value))));
    $('gpu').replaceChildren(element('p', { className: 'name' }, row.name || 'A GPU that the browser does not name'), list);
}

// Says what is missing, and what would bring it.
function explainMissing() {
    const reasons = !isSecureContext
        ? ['WebGPU is there for pages that come by https, or from this machine itself (localhost). This one came otherwise.']
        : seen.gpu
          ? ['The browser has WebGPU, but offers no adapter: it takes none of this machine’s GPUs, or no driver is there.', ...SWITCHES]
          : ['This browser has no WebGPU, or it is switched off.', ...SWITCHES];
    $('gpu').replaceChildren();
    problem(seen.gpu ? 'No GPU adapter' : 'No WebGPU', reasons);
}

const SWITCHES = [
    'Chrome, Edge: 113 or newer. On Linux open chrome://flags, enable “Unsafe WebGPU Support” and “Vulkan”, and check chrome://gpu.',
    'Firefox: 141 or newer on Windows, 145 or newer on macOS. On Linux open about:config and set dom.webgpu.enabled to true.',
    'Safari: 26 or newer.',
    'Open this page again after that.',
];

function problem(title, lines, ...more) {
    const card = element('div', { className: 'card bad' }, element('p', { className: 'name' }, title));
    lines.forEach((line) => card.append(element('p', {}, line)));
    card.append(...more);
    $('problem').replaceChildren(card);
    $('problem').hidden = false;
}

function fail(error) {
    if (error.name === 'DeviceLost') {
        isOpen = false;
        const again = element('button', { type: 'button', id: 'again' }, 'Open the device again');
        again.addEventListener('click', openDevice);
        problem('The device is lost', [sentence(error.message), 'What was found until then stands below.'], element('p', {}, again));
    } else if (error.name === 'Panic') {
        isOpen = false;
        problem('This page has a fault', [sentence(error.message), 'Please report it with this text, and load the page again.']);
    } else if (error.name === 'NoAdapter') {
        explainMissing();
    } else {
        problem('That did not work', [sentence(error.message)]);
    }
    ready();
}

// A device may be lost while nothing uses it.
setInterval(() => {
    if (isOpen && !isRunning && !document.hidden) ask('alive').catch(fail);
}, 1000);

// --- a file ---------------------------------------------------------------------------------------------------------------------

let hasFile = false;
// Rows of a file's table that are shown at first.
const FEW_ROWS = 30;

async function openFile(what, call, ...args) {
    if (isRunning) return problem('Something runs', ['A file can be opened when it has ended, or was stopped.']);
    hasFile = false;
    $('file').replaceChildren(element('p', { className: 'quiet' }, `Opening ${what} …`));
    try {
        showFile(await ask(call, ...args));
        hasFile = true;
    } catch (error) {
        $('file').replaceChildren(
            element('div', { className: 'card bad', role: 'alert' }, element('p', { className: 'name' }, `${what} cannot be opened`), element('p', {}, sentence(error.message))),
        );
    }
    ready();
}

function showFile({ label, kind, bytes: size, tensors, formats, table }) {
    const check = element('button', { type: 'button', id: 'check-file' }, 'Check its tensors');
    const bench = element('button', { type: 'button', id: 'bench-file' }, 'Time its shapes');
    check.addEventListener('click', () => run('checkFile'));
    bench.addEventListener('click', () => run('benchFile'));
    const details = element('details', {}, element('summary', {}, 'What is in it'));
    details.addEventListener('toggle', () => details.childElementCount === 1 && details.append(...listed(table)), { once: true });
    $('file').replaceChildren(
        element('p', { className: 'name' }, label),
        element('p', {}, `${kind}, ${bytes(size)}, ${tensors} tensors: ${formats.map(({ format, count }) => `${count} ${format}`).join(', ')}`),
        element('p', { className: 'row' }, check, bench),
        details,
    );
}

// A table, and a button for the rest of its rows if they are many.
function listed({ columns, rows }) {
    const scroll = element('div', { className: 'scroll', tabIndex: 0, role: 'region', ariaLabel: 'Tensors' }, tableOf({ columns, rows: rows.slice(0, FEW_ROWS) }));
    if (rows.length <= FEW_ROWS) return [scroll];
    const more = element('button', { type: 'button', className: 'plain' }, `Show all ${rows.length}`);
    more.addEventListener('click', () => {
        scroll.replaceChildren(tableOf({ columns, rows }));
        more.remove();
    });
    return [scroll, more];
}

// --- work -----------------------------------------------------------------------------------------------------------------------

let isRunning = false;

function options() {
    const batches = $('batches').value.split(',').map((text) => Number(text.trim()));
    if (!batches.every((n) => Number.isInteger(n) && n >= 1 && n <= 512)) {
        throw Object.assign(new Error(`“${$('batches').value}” is no list of numbers of tokens from 1 to 512`), { name: 'Options' });
    }
    return { activations: $('activations').value, batches };
}

async function run(call) {
    if (isRunning || !isOpen) return;
    let chosen;
    try {
        chosen = options();
    } catch (error) {
        return fail(error);
    }
    $('problem').hidden = true;
    isRunning = true;
    ready();
    for (const id of ['verdict', 'wrong', 'table', 'picture', 'taken']) $(id).replaceChildren();
    $('verdict').className = 'verdict';
    $('picture').hidden = $('take').hidden = true;
    $('work').hidden = $('running').hidden = false;
    $('work').scrollIntoView({ block: 'nearest' });
    try {
        const result = await ask(call, chosen, ({ done, all, doing, wrong }) => {
            $('progress').max = all;
            $('progress').value = done;
            $('doing').textContent = `${done} of ${all}: ${doing}${wrong ? `; ${wrong} wrong` : ''}`;
        });
        show(result);
        if (result.failure) fail(result.failure);
    } catch (error) {
        $('work').hidden = true;
        fail(error);
    }
    isRunning = false;
    $('running').hidden = true;
    ready();
}

function show({ table, wrong, verdict, picture }) {
    $('verdict').textContent = verdict.line;
    $('verdict').classList.add(verdict.ok ? 'good' : 'wrong');
    if (wrong.length) $('wrong').replaceChildren(element('div', { className: 'card bad' }, ...wrong.map((line) => element('p', {}, line))));
    if (picture) {
        const image = element('img', { alt: 'Speed of each case under the ceilings of this device', src: `data:image/svg+xml,${encodeURIComponent(picture)}` });
        $('picture').replaceChildren(image);
        $('picture').hidden = false;
    }
    $('table').replaceChildren(tableOf(table));
    $('take').hidden = false;
}

$('copy').addEventListener('click', async () => {
    const text = await ask('report');
    await navigator.clipboard.writeText(text).then(
        () => ($('taken').textContent = 'Copied.'),
        () => ($('taken').textContent = 'The browser does not let this page copy: save the report instead.'),
    );
});
$('save').addEventListener('click', async () => {
    const link = element('a', { href: URL.createObjectURL(new Blob([await ask('report')], { type: 'application/json' })), download: 'qmatmul-report.json' });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    $('taken').textContent = 'Saved as qmatmul-report.json.';
});
$('stop').addEventListener('click', () => {
    $('doing').textContent = 'Stopping …';
    ask('stop');
});
$('check').addEventListener('click', () => run('checkBrowser'));
$('kernels').addEventListener('change', openDevice);
$('address').addEventListener('submit', (event) => {
    event.preventDefault();
    const url = $('url').value.trim();
    openFile(url, 'openAddress', url);
});
$('picker').addEventListener('change', ({ target }) => choose([...target.files]));

const drop = $('drop');
for (const type of ['dragenter', 'dragover']) {
    document.addEventListener(type, (event) => {
        event.preventDefault();
        drop.classList.add('over');
    });
}
document.addEventListener('dragleave', (event) => event.relatedTarget || drop.classList.remove('over'));
document.addEventListener('drop', (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    choose([...(event.dataTransfer?.files ?? [])]);
});

function choose(files) {
    if (files.length) openFile(files.length === 1 ? files[0].name : `${files.length} files`, 'openFiles', files);
}

// What can be asked for now.
function ready() {
    $('check').disabled = !isOpen || isRunning;
    $('kernels').disabled = isRunning;
    for (const id of ['check-file', 'bench-file']) if ($(id)) $(id).disabled = !isOpen || isRunning || !hasFile;
}

// --- elements -------------------------------------------------------------------------------------------------------------------

function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
}

// { columns: [{ title, number }], rows: [[{ text, is }]] }, where `is` says `right` or `wrong`.
function tableOf({ columns, rows }) {
    const head = element('tr', {}, ...columns.map(({ title, number }) => element('th', { scope: 'col', className: number ? 'number' : '' }, title)));
    const body = rows.map((row) =>
        element('tr', {}, ...row.map(({ text, is }, i) => element('td', { className: [columns[i].number ? 'number' : '', is ?? '', text.length > 40 ? 'wide' : ''].join(' ').trim() }, text))),
    );
    return element('table', {}, element('thead', {}, head), element('tbody', {}, ...body));
}

function bytes(count) {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    const power = Math.min(Math.floor(Math.log2(Math.max(count, 1)) / 10), 4);
    return power ? `${(count / 1024 ** power).toFixed(1)} ${units[power]}` : `${count} B`;
}

function sentence(text) {
    const trimmed = text.trim();
    // The name of a file stays as it is.
    const [word] = trimmed.split(/[ :]/);
    const first = /[./\\]/.test(word) ? trimmed.charAt(0) : trimmed.charAt(0).toUpperCase();
    return `${first}${trimmed.slice(1)}${/[.!?]$/.test(trimmed) ? '' : '.'}`;
}

// --- begin ----------------------------------------------------------------------------------------------------------------------

try {
    seen = await start();
    if (seen.adapter) await openDevice();
    else explainMissing();
} catch (error) {
    $('gpu').replaceChildren();
    fail(error);
}
document.documentElement.dataset.ready = 'yes';
