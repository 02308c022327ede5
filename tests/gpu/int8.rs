//! LLM.int8: bitsandbytes' own vectors, the CPU twin, and every number of outliers.

use crate::common::{Golden, report};
use crate::device::{VARIANTS, families, is_full, open, pipelines};
use qmatmul::check::{self, NMSE_F32, compare, compare_bits};
use qmatmul::file::{Model, OpenOptions};
use qmatmul::kernel::llm_int8::Staged;
use qmatmul::kernel::{Threshold, reference};
use qmatmul::{
    Activations, Error, Linear, MatmulOptions, Options, OutlierColumns, PackedTensor, Recipe, format,
};

fn int8(threshold: f32) -> MatmulOptions {
    MatmulOptions::with(Activations::Int8(Threshold::new(threshold).expect("not negative")))
}

fn vectors() -> Vec<(Golden, PackedTensor)> {
    let read = |file: Golden| {
        let path = crate::common::path("golden/int8").join(format!("{}.safetensors", file.name));
        let model = Model::open(path, &OpenOptions::default()).expect("the vector is a valid checkpoint");
        let packed = model.tensor(model.find("packed").expect("by its name")).expect("valid");
        (file, packed)
    };
    let all: Vec<_> = Golden::folder("int8").into_iter().map(read).collect();
    assert_eq!(all.len(), 4);
    all
}

fn random(m: usize, k: usize, seed: u64) -> PackedTensor {
    let format = format::INT8;
    PackedTensor::encode("w", [m, k], &check::activations(m * k, seed), &Recipe::new(format)).expect("finite")
}

#[test]
fn weights_decode_and_encode_as_with_bitsandbytes() {
    let _stated = pipelines(10);
    for (file, packed) in vectors() {
        assert_eq!(packed.format().name, "INT8");
        assert!(compare_bits(&packed.dequantize(), &file.f32s("dequant_f32")).passed, "{}", file.name);
        for variant in families() {
            let runtime = variant.runtime();
            let got = runtime.upload(&packed).and_then(|w| runtime.dequantize(&w)).expect("small");
            assert!(
                compare_bits(&got, &file.f32s("dequant_f32")).passed,
                "{} on {}",
                file.name,
                variant.name
            );
        }
        let (rows, cols) = (packed.rows(), packed.cols());
        let ours =
            PackedTensor::encode("w", [rows, cols], &file.f32s("w_f32"), &Recipe::new(packed.format()))
                .expect("finite");
        for (ours, theirs) in ours.parts().iter().zip(packed.parts()) {
            assert_eq!(ours.bytes, theirs.bytes, "{}{}", file.name, ours.suffix);
        }
    }
}

/// Codes, absmax and outlier columns, exactly, of the twin and of the devices.
#[test]
fn activations_become_the_codes_of_bitsandbytes() {
    let _stated = pipelines(20);
    for (file, packed) in vectors() {
        let x: Vec<f32> = halves(&file, "x_f16");
        let outliers = file.tensor("outlier_cols").1;
        let want = Staged {
            codes: file.tensor("x_int8").1.iter().map(|q| *q as i8).collect(),
            absmax: file.f32s("x_absmax"),
            outliers: outliers.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as u32).collect(),
        };
        let threshold = Threshold::default();
        assert_eq!(Staged::of(&x, packed.cols(), threshold), want, "{}", file.name);
        for variant in families() {
            let runtime = variant.runtime();
            let w = runtime.upload(&packed).expect("small");
            let got = runtime.quantize_activations(&w, &x, threshold).expect("small");
            assert_eq!(got, want, "{} on {}", file.name, variant.name);
        }
    }
}

fn halves(file: &Golden, name: &str) -> Vec<f32> {
    file.tensor(name).1.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
}

#[test]
fn products_are_those_of_the_formula_and_near_those_of_bitsandbytes() {
    let _stated = pipelines(45);
    for (file, packed) in vectors() {
        let x = halves(&file, "x_f16");
        let bias =
            if file.has("packed.bias") { halves(&file, "packed.bias") } else { vec![0.0; packed.rows()] };
        let (exact, theirs) = (file.f64s("y_exact_f64"), halves(&file, "y_bnb_f16"));
        let activations = Activations::Int8(Threshold::default());
        let with_bias = |y: f64, i: usize| y + f64::from(bias[i % packed.rows()]);
        let twin = reference::matmul_with(&packed, &x, activations).expect("shapes fit");
        for (i, (got, want)) in twin.iter().zip(&exact).enumerate() {
            // The scale of a weight is a quotient in f32.
            assert!((with_bias(*got, i) - want).abs() <= 1e-6, "{}: {got} {want}", file.name);
        }
        for variant in families() {
            let runtime = variant.runtime();
            let w = runtime.upload(&packed).expect("small");
            let y = runtime.matmul_with(&w, &x, &int8(6.0)).expect("small");
            let y: Vec<f32> = y.iter().enumerate().map(|(i, y)| with_bias(f64::from(*y), i) as f32).collect();
            let comparison = compare(&y, &exact, NMSE_F32);
            assert!(comparison.passed, "{} on {}: {comparison}", file.name, variant.name);
            for (got, want) in y.iter().zip(&theirs) {
                // Its tests allow 0.01 + 5 % of f16 results.
                assert!((got - want).abs() <= 0.01 + 0.05 * want.abs(), "{}: {got} {want}", file.name);
            }
        }
    }
}

/// A whole checkpoint as transformers saved it.
#[test]
fn a_checkpoint_gives_the_golden_outputs() {
    let _stated = pipelines(30);
    let folder = crate::common::path("golden/checkpoints/bnb-int8");
    let model = Model::open(folder, &OpenOptions::default()).expect("valid");
    let expected = Golden::folder("checkpoints/bnb-int8").into_iter().find(|g| g.name == "expected");
    let expected = expected.expect("the vectors are in the repository");
    let mut done = 0;
    for info in model.tensors().iter().filter(|t| t.module.is_some()) {
        let layer = info.name.strip_suffix(".weight").expect("modules are named after their codes");
        let packed = model.tensor(info).expect("its parts are there");
        let x = expected.f32s(&format!("x{}", packed.cols()));
        for variant in families() {
            let runtime = variant.runtime();
            let w = runtime.upload(&packed).expect("small");
            let near = |options: &MatmulOptions, name: &str, bound: f64| {
                let y = runtime.matmul_with(&w, &x, options).expect("small");
                let comparison = compare(&y, &expected.f64s(&format!("{layer}.{name}")), bound);
                assert!(comparison.passed, "{layer}.{name} on {}: {comparison}", variant.name);
            };
            near(&MatmulOptions::default(), "y", NMSE_F32);
            near(&int8(6.0), "y_int8", NMSE_F32);
        }
        done += 1;
    }
    assert_eq!(done, 7);
}

/// Activations of `n` columns, of which so many features have an outlier somewhere.
fn with_outliers(n: usize, k: usize, features: usize, seed: u64) -> Vec<f32> {
    let mut x: Vec<f32> = check::activations(n * k, seed).iter().map(|v| v.clamp(-5.5, 5.5)).collect();
    for i in 0..features {
        let feature = if features == k { i } else { (i * 7919 + 3) % k };
        x[(i % n) * k + feature] = if i % 2 == 0 { 6.0 } else { -40.0 - i as f32 };
    }
    x
}

#[test]
fn every_number_of_outliers() {
    let _stated = pipelines(35);
    let cases = [
        (70, 256, 1, 0, "none"),
        (33, 256, 1, 1, "one in one column"),
        (70, 100, 3, 31, "one less than a chunk of the list"),
        (70, 100, 3, 32, "a chunk"),
        (33, 100, 9, 33, "one more"),
        (40, 100, 2, 100, "all"),
        (5, 4096, 1, 4096, "all of many"),
        (129, 1056, 33, 40, "tiles of several columns"),
    ];
    let (mut failures, mut done) = (vec![], 0);
    for variant in families() {
        let runtime = variant.runtime();
        for (m, k, n, features, why) in cases {
            let packed = random(m, k, 1);
            let x = with_outliers(n, k, features, 2);
            let w = runtime.upload(&packed).expect("small");
            for threshold in [6.0, 0.0, 1.0, 1e-4] {
                let limit = Threshold::new(threshold).expect("not negative");
                let staged = runtime.quantize_activations(&w, &x, limit).expect("small");
                let twin = Staged::of(&x, k, limit);
                if staged != twin {
                    let (got, want) = (&staged.outliers, &twin.outliers);
                    failures.push(format!(
                        "{why}, threshold {threshold} on {}: {got:?}, not {want:?}",
                        variant.name
                    ));
                }
                let c = check::matmul(runtime, &packed, &w, &x, &int8(threshold)).expect("small");
                // Without a decomposition the outliers' scale is everyone's, which the exact bound
                // sees.
                if !c.passed && (threshold > 0.0 || features == 0) {
                    failures.push(format!("{why}, threshold {threshold} on {}: {c}", variant.name));
                }
                done += 1;
            }
        }
    }
    report(&failures, done);
}

/// Ties from a real checkpoint of transformers and bitsandbytes: weight, largest magnitude of its
/// row, code. Each weight is an exact half of a step, which the roundings of 127 * (1 / absmax)
/// push to one side.
#[test]
fn ties_fall_as_with_bitsandbytes() {
    let _stated = pipelines(10);
    let ties = [
        (0.109_863_28, 0.219_726_56, 64),
        (-0.099_182_13, 0.198_364_26, -63),
        (0.170_166_02, 0.340_332_03, 64),
        (-0.147_827_15, 0.295_654_3, -64),
        (0.022_216_797, 0.806_152_34, 3),
        (-0.288_818_36, 0.806_152_34, -45),
    ];
    let format = format::INT8;
    let x: Vec<f32> = ties.iter().flat_map(|(w, top, _)| [*w, *top]).collect();
    let codes: Vec<i8> = ties.iter().flat_map(|(_, _, q)| [*q, 127]).collect();
    let packed = PackedTensor::encode("w", [ties.len(), 2], &x, &Recipe::new(format)).expect("finite");
    assert_eq!(packed.parts()[0].bytes.iter().map(|q| *q as i8).collect::<Vec<_>>(), codes);
    let none = Threshold::new(0.0).expect("0 is one");
    for variant in families() {
        let runtime = variant.runtime();
        let w = runtime.upload(&packed).expect("small");
        let staged = runtime.quantize_activations(&w, &x, none).expect("small");
        assert_eq!(staged.codes, codes, "{}", variant.name);
    }
}

/// Every scale that f16 can have: 127 times the reciprocal of absmax is the CPU's, to the bit.
#[test]
fn every_scale_gives_the_codes_of_the_cpu() {
    let _stated = pipelines(5);
    let bits: Vec<u16> = (1..0x7c00).collect();
    let fractions = check::activations(7 * bits.len(), 4);
    let row = |(bits, f): (&u16, &[f32])| {
        let top = half::f16::from_bits(*bits).to_f32();
        let rest = f.iter().map(move |f| top * f.clamp(-1.0, 1.0));
        std::iter::once(top).chain(rest).collect::<Vec<_>>()
    };
    let x: Vec<f32> = bits.iter().zip(fractions.chunks(7)).flat_map(row).collect();
    let packed = random(4, 8, 1);
    let none = Threshold::new(0.0).expect("0 is one");
    let want = Staged::of(&x, 8, none);
    for variant in [&VARIANTS[0], &VARIANTS[3]] {
        let runtime = variant.runtime();
        let w = runtime.upload(&packed).expect("small");
        let got = runtime.quantize_activations(&w, &x, none).expect("fits");
        let wrong = got.codes.iter().zip(&want.codes).position(|(a, b)| a != b);
        assert_eq!(
            wrong.map(|i| (x[i / 8 * 8], x[i], got.codes[i], want.codes[i])),
            None,
            "{}",
            variant.name
        );
        assert_eq!(got.absmax, want.absmax, "{}", variant.name);
    }
}

#[test]
fn columns_of_zeros_and_of_more_than_halves_hold() {
    let _stated = pipelines(30);
    let packed = random(9, 64, 1);
    let mut x = vec![0.0; 3 * 64];
    x[64..128].fill(1e30);
    x[128] = -70_000.0;
    x[130] = 1.0;
    for variant in families() {
        let runtime = variant.runtime();
        let w = runtime.upload(&packed).expect("small");
        for threshold in [6.0, 0.0] {
            let threshold = Threshold::new(threshold).expect("not negative");
            let want = Staged::of(&x, 64, threshold);
            assert_eq!(
                runtime.quantize_activations(&w, &x, threshold).expect("small"),
                want,
                "{}",
                variant.name
            );
        }
        let y = runtime.matmul_with(&w, &x, &int8(6.0)).expect("small");
        assert!(y[..9].iter().all(|y| *y == 0.0) && y.iter().all(|y| y.is_finite()), "{y:?}");
        let c = check::matmul(runtime, &packed, &w, &x, &int8(6.0)).expect("small");
        assert!(c.passed, "{}: {c}", variant.name);
    }
}

/// The whole batch decides which features are outliers, also where it is cut.
#[test]
fn small_limits() {
    let _stated = pipelines(35);
    let limits = [
        Options { max_binding: Some(16 << 10), ..Options::default() },
        Options { max_groups: Some(3), ..Options::default() },
        Options { max_loops: Some(120), ..Options::default() },
    ];
    let (mut failures, mut done) = (vec![], 0);
    for software in [true, false] {
        let taken = |(i, _): &(usize, &Options)| (i % 2 == 0) == software || is_full();
        for (i, limit) in limits.iter().enumerate().filter(taken) {
            let runtime = open(&Options { software: Some(software), ..limit.clone() });
            // One column takes nine workgroups at most.
            let rows = if i == 1 { 16 } else { 150 };
            let (packed, x) = (random(rows, 288, 1), with_outliers(41, 288, 60, 2));
            let w = runtime.upload(&packed).expect("fits");
            let c = check::matmul(&runtime, &packed, &w, &x, &int8(6.0)).expect("fits");
            if !c.passed {
                failures.push(format!("limit {i}, software = {software}: {c}"));
            }
            done += 1;
        }
    }
    report(&failures, done);
}

#[test]
fn what_int8_does_not_apply_to_is_named() {
    let _stated = pipelines(5);
    let q8_0 = format::Q8_0;
    let packed = check::random_tensor("w", q8_0, 4, 64, 1).expect("fits");
    let runtime = VARIANTS[0].runtime();
    let w = runtime.upload(&packed).expect("small");
    let error = runtime.matmul_with(&w, &[1.0; 64], &int8(6.0)).expect_err("no INT8");
    assert!(error.to_string().contains("INT8") && error.to_string().contains("Q8_0"), "{error}");
    for value in [-1.0, f32::NAN, f32::INFINITY] {
        assert!(matches!(Threshold::new(value), Err(Error::Argument(_))));
    }
}

/// A real layer whose activations have outliers (`tests/data/llm_int8/README.md`): weight
/// `[1536, 384]` and x `[256, 384]`.
fn real_layer() -> (PackedTensor, Vec<f32>) {
    let path = crate::common::path("data/llm_int8/minilm_l3_ffn_up.safetensors");
    let model = Model::open(path, &OpenOptions::default()).expect("valid");
    let tensor = |name: &str| model.find(name).and_then(|info| model.tensor(info)).expect("valid");
    (tensor("weight"), tensor("x").dequantize())
}

/// Columns of a weight as they are.
fn kept(weight: &PackedTensor, columns: &[u32]) -> OutlierColumns {
    let f16 = format::F16;
    let values = weight.dequantize();
    let row = |row: &[f32]| columns.iter().map(|column| row[*column as usize]).collect::<Vec<_>>();
    let values: Vec<f32> = values.chunks(weight.cols()).flat_map(row).collect();
    let packed = PackedTensor::encode("kept", [weight.rows(), columns.len()], &values, &Recipe::new(f16))
        .expect("finite");
    OutlierColumns::new(columns.to_vec(), packed).expect("in order")
}

/// `sqrt(Σ (got − want)² / Σ want²)` in percent.
fn percent<T: Copy + Into<f64>>(got: &[T], want: &[f64]) -> f64 {
    let off: f64 = got.iter().zip(want).map(|(got, want)| ((*got).into() - want).powi(2)).sum();
    100.0 * (off / want.iter().map(|want| want * want).sum::<f64>()).sqrt()
}

/// What LLM.int8 is for, in numbers: computed apart from this crate, with the same formulas in
/// NumPy.
#[test]
fn a_real_layer_is_off_by_what_it_should_be() {
    let _stated = pipelines(25);
    let (weight, x) = real_layer();
    let exact = reference::matmul(&weight, &x).expect("shapes fit");
    let format = format::INT8;
    let packed =
        PackedTensor::encode("w", [weight.rows(), weight.cols()], &weight.dequantize(), &Recipe::new(format))
            .expect("finite");
    let linear = Linear::new(packed.clone()).with_kept(kept(&weight, &[63, 99, 157, 223])).expect("fits");
    for variant in families() {
        let runtime = variant.runtime();
        let (w, layer) = (runtime.upload(&packed), runtime.upload_layer(&linear));
        let (w, layer) = (w.expect("small"), layer.expect("small"));
        let threshold = Threshold::default();
        let outliers = runtime.quantize_activations(&w, &x, threshold).expect("small").outliers;
        assert_eq!(outliers, [63, 99, 157, 223], "{}", variant.name);
        let plain = |o: MatmulOptions| percent(&runtime.matmul_with(&w, &x, &o).expect("small"), &exact);
        let kept = |o: MatmulOptions| percent(&runtime.matmul_layer(&layer, &x, &o).expect("small"), &exact);
        let near = |got: f64, want: f64| assert!((got - want).abs() < 0.005, "{}: {got} %", variant.name);
        near(plain(MatmulOptions::default()), 0.612);
        near(plain(int8(0.0)), 1.782);
        near(plain(int8(6.0)), 1.219);
        near(kept(int8(6.0)), 0.846);
        near(kept(int8(0.0)), 0.846);
    }
}

/// Products with kept columns against the CPU, for all kinds of activations.
#[test]
fn kept_columns_are_added_on_every_variant() {
    let _stated = pipelines(45);
    let cases: &[(usize, usize, usize, &[u32], &str)] = &[
        (33, 256, 1, &[7], "one"),
        (70, 100, 3, &[0, 31, 32, 99], "the first and the last"),
        (5, 33, 9, &[32], "a column of its own chunk"),
        (129, 288, 40, &[1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233], "tiles of several columns"),
        (9, 1, 2, &[0], "all there is"),
    ];
    let (mut failures, mut done) = (vec![], 0);
    for (v, variant) in families().into_iter().enumerate() {
        let runtime = variant.runtime();
        // Half of them on each family.
        let here = cases.iter().enumerate().filter(|(i, _)| i % 2 == v % 2 || is_full());
        for (_, &(m, k, n, columns, why)) in here {
            let mut x = with_outliers(n, k, 1, 2);
            x.chunks_mut(k).for_each(|x| columns.iter().for_each(|c| x[*c as usize] *= 20.0));
            let original = check::random_tensor("w", format::F32, m, k, 1);
            let linear = Linear::new(random(m, k, 1))
                .with_kept(kept(&original.expect("fits"), columns))
                .expect("fits");
            let layer = runtime.upload_layer(&linear).expect("small");
            assert_eq!(layer.kept_columns(), columns.len());
            let kinds =
                [MatmulOptions::default(), MatmulOptions::with(Activations::F16), int8(6.0), int8(0.0)];
            for options in kinds {
                let c = check::layer(runtime, &linear, &layer, &x, &options).expect("small");
                if !c.passed {
                    failures.push(format!("{why}, {:?} on {}: {c}", options.activations, variant.name));
                }
                done += 1;
            }
        }
    }
    report(&failures, done);
}

/// Windows of x and of what is put side by side.
#[test]
fn kept_columns_at_small_limits() {
    let _stated = pipelines(40);
    let limits = [
        Options { max_binding: Some(16 << 10), ..Options::default() },
        Options { max_groups: Some(3), ..Options::default() },
    ];
    for software in [true, false] {
        let taken = |(i, _): &(usize, &Options)| (i % 2 == 1) == software || is_full();
        for (_, limit) in limits.iter().enumerate().filter(taken) {
            let runtime = open(&Options { software: Some(software), ..limit.clone() });
            let (packed, x) = (random(16, 288, 1), with_outliers(41, 288, 60, 2));
            let linear = Linear::new(packed.clone()).with_kept(kept(&packed, &[3, 99, 287])).expect("fits");
            let layer = runtime.upload_layer(&linear).expect("fits");
            for options in [MatmulOptions::default(), int8(6.0)] {
                let c = check::layer(&runtime, &linear, &layer, &x, &options).expect("fits");
                assert!(c.passed, "software = {software}: {c}");
            }
        }
    }
}

#[test]
fn kept_columns_that_do_not_fit_are_named() {
    let packed = random(4, 64, 1);
    let keep = |columns: &[u32]| kept(&packed, columns);
    let new = |columns: &[u32], count: usize| {
        let f16 = format::F16;
        let weight = PackedTensor::encode("kept", [4, count], &vec![0.0; 4 * count], &Recipe::new(f16))
            .expect("finite");
        OutlierColumns::new(columns.to_vec(), weight).map(drop).expect_err("refused").to_string()
    };
    assert!(new(&[], 0).contains("none"));
    assert!(new(&[5, 3], 2).contains("5 comes before 3"));
    assert!(new(&[5, 5], 2).contains("5 comes before 5"));
    assert!(new(&[5], 2).contains("`kept`"));
    let error = |linear: Result<Linear, Error>| linear.map(drop).expect_err("refused").to_string();
    let other = random(5, 64, 1);
    assert!(error(Linear::new(other).with_kept(keep(&[3]))).contains("5, as `w` has"));
    assert!(error(Linear::new(random(4, 3, 1)).with_kept(keep(&[3]))).contains("below 3"));
    let twice = Linear::new(packed.clone()).with_kept(keep(&[3])).and_then(|l| l.with_kept(keep(&[4])));
    assert!(error(twice).contains("already"));
    let q8_0 = format::Q8_0;
    let blocks = check::random_tensor("w", q8_0, 4, 64, 1).expect("fits");
    assert!(error(Linear::new(blocks).with_kept(keep(&[3]))).contains("Q8_0"));
    // Rows that were picked lose their columns, too.
    let picked = packed.select_rows(&[2, 0, 3, 1]).expect("there");
    let without = picked.without_columns(&[63]).expect("INT8").dequantize();
    assert!(without.chunks(64).all(|row| row[63] == 0.0) && without[..63] == picked.dequantize()[..63]);
}
