// Every tensor of the models of this repository, GGUFs and checkpoints, and of those below target/web-tools/made/models.
import { engine, openDevice, count } from '../engine.mjs';
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const timeout = 3600;

const tests = fileURLToPath(new URL('../../../tests/', import.meta.url));

// GGUFs, and folders with checkpoints, below a folder: the addresses of the files of each model.
function modelsBelow(folder, prefix) {
    if (!existsSync(folder)) return [];
    const entries = readdirSync(folder, { withFileTypes: true });
    const ggufs = entries.filter(({ name }) => name.endsWith('.gguf')).map(({ name }) => [`${prefix}/${name}`]);
    const checkpoints = entries.filter((entry) => entry.isDirectory()).map(({ name }) =>
        readdirSync(`${folder}/${name}`)
            .filter((file) => /\.(safetensors|json)$/.test(file) && !/expected|x256|tokenizer/.test(file))
            .map((file) => `${prefix}/${name}/${file}`),
    );
    return [...ggufs, ...checkpoints.filter((files) => files.some((file) => file.endsWith('.safetensors')))];
}

export default async function (test) {
    const page = await engine(test);
    await openDevice(page);
    const own = ['data', 'golden/gguf_files', 'golden/gguf_archs', 'golden/checkpoints'].flatMap((folder) => modelsBelow(tests + folder, `/files/${folder}`));
    // What else lies there is checked, too.
    const others = modelsBelow(`${test.server.made}/models`, '/made/models');
    for (const files of [...own, ...others].filter((files) => !/checkpoints\/(lora|gguf)/.test(files[0]) && !/llm_int8|corpus/.test(files[0]))) {
        const result = await page.evaluate(check, files);
        if (result.error) test.wrong(`${files[0]}: ${result.error}`);
        count(test, result.outcomes, files[0]);
        test.note(`${files[0]}: ${result.outcomes.length} checks`);
    }
}

// Runs in the page: all tensors of the files of a model.
async function check(urls) {
    const blobs = await Promise.all(urls.map(async (url) => (await fetch(url)).blob()));
    const checks = new engine.Checks(device, 'check');
    let error;
    try {
        const file = await engine.ModelFile.open(urls.map((url) => url.split('/').at(-1)), blobs);
        for (let i = 0; i < JSON.parse(file.tensors()).length; i++) await checks.addTensor(file, i, Uint32Array.of(1, 8), 'f32');
        file.free();
    } catch (caught) {
        error = caught.message;
    }
    return { error, outcomes: JSON.parse(checks.outcomes(0)) };
}
