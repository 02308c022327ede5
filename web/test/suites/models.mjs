// Every tensor of the repository's models: ten GGUFs of one model and small ones, four checkpoints, one of a LoRA's base.
import { engine, openDevice, count } from '../engine.mjs';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const timeout = 3600;

const tests = fileURLToPath(new URL('../../../tests/', import.meta.url));

export default async function (test) {
    const page = await engine(test);
    await openDevice(page);
    const ggufs = ['data', 'golden/gguf_files', 'golden/gguf_archs', 'golden/checkpoints/gguf', '../target/web-tools/made/models'].flatMap((folder) => {
        try {
            return readdirSync(tests + folder).filter((name) => name.endsWith('.gguf')).map((name) => [`${folder}/${name}`]);
        } catch {
            return [];
        }
    });
    const checkpoints = ['bnb-nf4-dq', 'bnb-int8', 'gptq-4bit-g128-sym', 'awq-gemm-g128'].map((name) =>
        readdirSync(`${tests}golden/checkpoints/${name}`)
            .filter((file) => /^(model.*|config|quantize_config)\.(safetensors|json)$/.test(file))
            .map((file) => `golden/checkpoints/${name}/${file}`),
    );
    for (const files of [...ggufs, ...checkpoints]) {
        const urls = files.map((file) => (file.startsWith('../target/web-tools/made/') ? `/made/${file.slice(25)}` : `/files/${file}`));
        const result = await page.evaluate(check, urls);
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
