// What the page asks of qmatmul's wasm: a device, a file, checks, times. Each call is a message
// { id, call, args }; answers are { id, progress }, and in the end { id, result } or { id, error }.
import init, { Bench, Checks, Device, ModelFile, memoryBytes } from './qmatmul_web.js';

let loaded;
let device;
let file;
// What is being done, until it is done: checks or times, of which the report is made.
let work;
let stopped = false;
let isInterrupted = false;

// Seconds that a case of a bench takes at least, and each figure of the device's peak.
const BENCH_SECONDS = 0.2;
const PEAK_SECONDS = 0.1;

const calls = {
    // What there is, without a device.
    async look() {
        const gpu = navigator.gpu;
        const adapter = await gpu?.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
        if (!adapter) return { gpu: Boolean(gpu), adapter: false };
        const { vendor, architecture, device: model, description } = adapter.info ?? {};
        return { gpu: true, adapter: true, name: description || [vendor, architecture, model].filter(Boolean).join(' ') };
    },

    async open(wishes) {
        device?.free();
        device = undefined;
        device = await Device.open(JSON.stringify(wishes));
        return JSON.parse(device.row());
    },

    alive() {
        device?.check();
    },

    memory: () => memoryBytes(),

    stop() {
        stopped = true;
    },

    async checkBrowser({ activations, batches }, progress) {
        begin(new Checks(device, `check --activations ${activations} -n ${batches}`));
        const formats = JSON.parse(Checks.formats());
        return each(formats, (format) => format, progress, async (format) => {
            for (const shape of JSON.parse(Checks.shapes())) await work.addRandom(JSON.stringify({ format, shape, batches, activations }));
        });
    },

    async openFiles(files) {
        file?.free();
        file = undefined;
        file = await ModelFile.open(files.map((one) => one.name), files);
        return described();
    },

    async openAddress(url) {
        file?.free();
        file = undefined;
        file = await ModelFile.openUrl(url);
        return described();
    },

    async checkFile({ activations, batches }, progress) {
        begin(new Checks(device, `check ${quoted(file.label())} --activations ${activations} -n ${batches}`));
        const tensors = JSON.parse(file.tensors());
        work.expect(tensors.length);
        return each(tensors, ({ name }) => name, progress, async ({ name }, index) => {
            await work.addTensor(file, index, Uint32Array.from(batches), activations);
        });
    },

    async benchFile({ activations, batches }, progress) {
        begin(new Bench(device, `bench ${quoted(file.label())} --activations ${activations} -n ${batches}`));
        progress({ done: 0, all: 1, doing: 'what the device can do at best' });
        await work.peak(PEAK_SECONDS);
        const shapes = JSON.parse(file.shapes());
        const cases = shapes.flatMap((shape) => batches.map((n) => ({ ...shape, n })));
        return each(cases, ({ format, m, k, n }) => `${format} ${m} × ${k}, n = ${n}`, progress, async (one) => {
            await work.measure(JSON.stringify({ ...one, activations, seconds: BENCH_SECONDS }));
        });
    },

    // The report of what was done last.
    report: () => work.report(new Date().toISOString().replace(/\.\d+Z$/, 'Z'), isInterrupted),
};

function begin(next) {
    work?.free();
    work = next;
    stopped = false;
}

function described() {
    return { ...JSON.parse(file.summary()), table: JSON.parse(file.table()) };
}

// Does something with each of `all` until it is stopped, and tells what is known after each.
async function each(all, named, progress, run) {
    let failure;
    for (const [index, one] of all.entries()) {
        if (stopped) break;
        progress({ done: index, all: all.length, doing: named(one), wrong: work.wrongCount() });
        try {
            await run(one, index);
        } catch (error) {
            if (!(error instanceof Error) || error instanceof WebAssembly.RuntimeError) throw error;
            if (error.name === 'DeviceLost') {
                failure = told(error);
                break;
            }
            work.fail(named(one), error.message);
        }
        // A turn for the message that says to stop.
        await new Promise((next) => setTimeout(next));
    }
    isInterrupted = stopped || Boolean(failure);
    return {
        failure,
        table: JSON.parse(work.table()),
        wrong: JSON.parse(work.wrong()),
        verdict: JSON.parse(work.verdict(isInterrupted)),
        picture: work.picture?.(),
    };
}

function told(error) {
    return { name: error?.name ?? 'Error', message: error?.message ?? String(error) };
}

// As a shell takes it.
function quoted(text) {
    return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

export async function handle({ id, call, args }, post) {
    globalThis.onQmatmulPanic = (message) => post({ panic: message });
    try {
        await (loaded ??= init());
        post({ id, result: await calls[call](...args, (progress) => post({ id, progress })) });
    } catch (error) {
        post({ id, error: told(error) });
    }
}
