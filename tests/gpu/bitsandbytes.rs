//! NF4 and FP4 of bitsandbytes: its own vectors and checkpoints, on the CPU and on the GPU.

use crate::common::{Golden, report};
use crate::device::{families, first, one_or_both, pipelines};
use qmatmul::check::{self, NMSE_F32, compare, compare_bits};
use qmatmul::file::{Model, OpenOptions};
use qmatmul::format::recipe::FourBitConfig;
use qmatmul::kernel::{MatmulOptions, reference};
use qmatmul::{PackedTensor, Recipe, format};

/// The vectors that hold a weight, with it, read as a checkpoint.
fn vectors() -> Vec<(Golden, PackedTensor)> {
    let files = Golden::folder("bnb").into_iter().filter(|file| file.has("packed.weight"));
    let all: Vec<_> =
        files.map(|file| (read(&file.name), file)).map(|(packed, file)| (file, packed)).collect();
    assert_eq!(all.len(), 8, "a vector is missing");
    all
}

fn read(name: &str) -> PackedTensor {
    let path = crate::common::path("golden/bnb").join(format!("{name}.safetensors"));
    let model = Model::open(path, &OpenOptions::default()).expect("the vector is a valid checkpoint");
    let info = model.find("packed").expect("the module goes by its name");
    model.tensor(info).expect("its parts are there")
}

fn checkpoint() -> Model {
    Model::open(crate::common::path("golden/checkpoints/bnb-nf4-dq"), &OpenOptions::default()).expect("valid")
}

#[test]
fn cpu_decodes_bit_for_bit() {
    for (file, packed) in vectors() {
        let comparison = compare_bits(&packed.dequantize(), &file.f32s("dequant_f32"));
        assert!(comparison.passed, "{}: {comparison}", file.name);
    }
}

/// bitsandbytes rounds decoded weights to the type that they had: so do ours.
#[test]
fn weights_round_to_the_type_they_had() {
    let (file, packed) =
        vectors().into_iter().find(|(f, _)| f.name == "nf4.b64.store_bf16").expect("it is there");
    let rounded: Vec<f32> = packed.dequantize().iter().map(|w| half::bf16::from_f32(*w).to_f32()).collect();
    assert!(compare_bits(&rounded, &file.f32s("dequant_in_dtype_f32")).passed);
    assert!(!compare_bits(&packed.dequantize(), &rounded).passed, "the vector tests nothing");
}

#[test]
fn gpu_decodes_bit_for_bit() {
    let _stated = pipelines(25);
    let mut failures = vec![];
    let all = vectors();
    for variant in families() {
        for (file, packed) in &all {
            let runtime = variant.runtime();
            let got = runtime.upload(packed).and_then(|w| runtime.dequantize(&w)).expect("small tensors fit");
            let comparison = compare_bits(&got, &file.f32s("dequant_f32"));
            if !comparison.passed {
                failures.push(format!("{} on {}: {comparison}", file.name, variant.name));
            }
        }
    }
    report(&failures, all.len());
}

#[test]
fn products_are_those_of_the_vectors() {
    let _stated = pipelines(25);
    let mut failures = vec![];
    let all = vectors();
    for (file, packed) in &all {
        let (x, want) = (file.f32s("x_f32"), file.f64s("y_f64"));
        let cpu = reference::matmul(packed, &x).expect("shapes fit");
        for ((got, want), scale) in cpu.iter().zip(&want).zip(file.f64s("yabs_f64")) {
            assert!((got - want).abs() <= 1e-14 * scale, "{}: got {got}, want {want}", file.name);
        }
        for variant in families() {
            let runtime = variant.runtime();
            let got = runtime.upload(packed).and_then(|w| runtime.matmul(&w, &x)).expect("small tensors fit");
            let comparison = compare(&got, &want, NMSE_F32);
            if !comparison.passed {
                failures.push(format!("{} on {}: {comparison}", file.name, variant.name));
            }
        }
    }
    report(&failures, all.len());
}

/// A whole checkpoint as transformers saved it, scales quantized: seven layers, and what stays in
/// 16 bits.
#[test]
fn a_checkpoint_gives_the_golden_outputs() {
    let _stated = pipelines(10);
    let model = checkpoint();
    let expected =
        Golden::folder("checkpoints/bnb-nf4-dq").into_iter().find(|g| g.name == "expected").expect("there");
    let mut done = 0;
    for info in model.tensors().iter().filter(|t| t.module.is_some()) {
        let layer = info.name.strip_suffix(".weight").expect("modules are named after their codes");
        let packed = model.tensor(info).expect("its parts are there");
        let x = expected.f32s(&format!("x{}", packed.cols()));
        let want = expected.f64s(&format!("{layer}.y"));
        for variant in families() {
            let runtime = variant.runtime();
            let got =
                runtime.upload(&packed).and_then(|w| runtime.matmul(&w, &x)).expect("small tensors fit");
            let comparison = compare(&got, &want, NMSE_F32);
            assert!(comparison.passed, "{layer} on {}: {comparison}", variant.name);
        }
        let dequant = format!("{layer}.dequant");
        if expected.has(&dequant) {
            assert!(compare_bits(&packed.dequantize(), &expected.f32s(&dequant)).passed, "{layer}");
        }
        done += 1;
    }
    assert_eq!(done, 7);
    let plain: Vec<_> =
        model.tensors().iter().filter(|t| t.module.is_none()).map(|t| t.dtype.name()).collect();
    assert_eq!(plain, ["F16"; 5], "embedding, head and norms; the parts of modules are not listed");
}

/// Rows, columns, block and batch, with a reason.
const LAYOUTS: &[(usize, usize, usize, usize, &str)] = &[
    (3, 64, 32, 1, "two blocks a row, one for each chunk"),
    (70, 96, 64, 3, "rows start in the middle of a block"),
    (33, 160, 128, 9, "rows start at four places of a block"),
    (5, 33, 32, 2, "blocks end inside chunks; an odd number of weights, so rows start inside bytes"),
    (7, 63, 64, 1, "rows a weight shorter than a block: every place in a block"),
    (9, 65, 64, 5, "a weight longer"),
    (300, 1, 64, 4, "blocks of many rows"),
    (3, 66, 128, 33, "a block that ends behind the last row"),
    (2, 4100, 4096, 1, "the largest block, and the same with a short second one"),
    (2, 8192, 4096, 9, "two of the largest blocks a row"),
    (40, 1056, 512, 17, "33 chunks"),
];

#[test]
fn every_layout_of_blocks_on_every_kernel() {
    let _stated = pipelines(60);
    let (mut failures, mut done) = (vec![], 0);
    for (i, &(m, k, block, n, why)) in LAYOUTS.iter().enumerate() {
        let config = FourBitConfig { block, double: i % 2 == 1, ..FourBitConfig::default() };
        let weights = check::activations(m * k, i as u64);
        // Layouts with and without double quantization take turns in pairs, so that each format has
        // both.
        let names = if i / 2 % 2 == 0 { ["NF4", "FP4"] } else { ["FP4", "NF4"] };
        for &name in first(&names, 1) {
            let format = format::by_name(name).expect("a format of the table");
            let packed = PackedTensor::encode("w", [m, k], &weights, &Recipe::four_bit(format, config))
                .expect("finite");
            for variant in one_or_both(i) {
                let options = MatmulOptions::default();
                let outcomes = check::tensor(variant.runtime(), &packed, &[n], &options, 3).expect("small");
                let bad = outcomes.iter().filter(|o| !o.comparison.passed);
                let line = |o: &check::Outcome| {
                    format!(
                        "{name} {m}x{k} by {block} ({why}), {}: {} {}",
                        variant.name, o.operation, o.comparison
                    )
                };
                failures.extend(bad.map(line));
                done += outcomes.len();
            }
        }
    }
    report(&failures, done);
}

/// Rows of one tensor, and rows of several, where blocks run on from row to row.
#[test]
fn rows_are_picked_and_stacked() {
    let _stated = pipelines(10);
    let format = format::NF4;
    let make = |seed, m: usize| {
        let weights = check::activations(m * 80, seed);
        PackedTensor::encode(format!("w{seed}"), [m, 80], &weights, &Recipe::new(format)).expect("finite")
    };
    let (a, b) = (make(1, 5), make(2, 7));
    let stacked = PackedTensor::stack("ab", &[&a, &b]).expect("the same book");
    let want = [a.dequantize(), b.dequantize()].concat();
    assert_eq!(stacked.dequantize(), want);
    let picked = stacked.select_rows(&[11, 0, 6]).expect("there are 12");
    for variant in families() {
        let runtime = variant.runtime();
        let got = runtime.upload(&stacked).and_then(|w| runtime.dequantize(&w)).expect("small");
        assert_eq!(got, want, "{}", variant.name);
        let got = runtime.upload(&picked).and_then(|w| runtime.dequantize(&w)).expect("small");
        assert_eq!(got, [&want[880..960], &want[..80], &want[480..560]].concat(), "{}", variant.name);
    }
    let config = FourBitConfig { block: 128, ..FourBitConfig::default() };
    let other =
        PackedTensor::encode("c", [1, 80], &[1.0; 80], &Recipe::four_bit(format, config)).expect("finite");
    let error = PackedTensor::stack("ac", &[&a, &other]).expect_err("other blocks");
    assert!(error.to_string().contains("block size"), "{error}");
}

/// Sixteen numbers of the user's own are looked up, not those that the format's name stands for.
#[test]
fn a_codebook_of_the_users_own_is_looked_up() {
    let _stated = pipelines(25);
    let golden = Golden::folder("bnb").into_iter().find(|g| g.name == "nf4.b64.dq").expect("it is there");
    let theirs = golden.tensor("packed.weight.quant_map").1;
    let ours: Vec<u8> = (0..16).flat_map(|i| ((i as f32 - 7.0) / 8.0).to_le_bytes()).collect();
    let mut file = std::fs::read(crate::common::path("golden/bnb/nf4.b64.dq.safetensors")).expect("a file");
    let at = file.windows(theirs.len()).position(|bytes| bytes == theirs).expect("its bytes lie together");
    file[at..][..ours.len()].copy_from_slice(&ours);
    let model = Model::from_bytes("own.safetensors", file).expect("any sixteen numbers will do");
    let packed = model.find("packed").and_then(|info| model.tensor(info)).expect("its parts are there");
    assert!(packed.dequantize() != golden.f32s("dequant_f32"), "another codebook gives other weights");
    for variant in families() {
        let options = MatmulOptions::default();
        for o in check::tensor(variant.runtime(), &packed, &[1, 9], &options, 3).expect("small") {
            assert!(o.comparison.passed, "{}: {} {}", variant.name, o.operation, o.comparison);
        }
    }
}
