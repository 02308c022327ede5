//! GPTQ, AWQ and compressed-tensors with integers: vectors and checkpoints by other packages, every
//! layout, and files that lie.

use crate::common::{Golden, report};
use crate::device::{VARIANTS, families, is_full, one_or_both, pipelines};
use qmatmul::Error;
use qmatmul::check::{self, NMSE_F32, compare, compare_bits};
use qmatmul::file::{Model, OpenOptions};
use qmatmul::kernel::{MatmulOptions, reference};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::json;
use tempfile::TempDir;

/// A vector of another package, as a checkpoint with the settings it was made with.
fn open(folder: &str, name: &str, settings: &serde_json::Value) -> (TempDir, Model) {
    let dir = TempDir::new().expect("a temporary folder");
    let from = crate::common::path(&format!("golden/{folder}/{name}.safetensors"));
    std::fs::copy(from, dir.path().join("model.safetensors")).expect("room");
    let config = json!({"model_type": "llama", "quantization_config": settings}).to_string();
    std::fs::write(dir.path().join("config.json"), config).expect("room");
    let model = Model::open(dir.path(), &OpenOptions::default()).expect("a valid checkpoint");
    (dir, model)
}

/// Vectors, with their settings and the format that they must be.
fn vectors() -> Vec<(&'static str, &'static str, serde_json::Value, &'static str)> {
    let gptq = |bits: u64, group: i64, sym: bool, act: bool, format: &str| json!({"quant_method": "gptq", "bits": bits, "group_size": group, "sym": sym, "desc_act": act, "checkpoint_format": format});
    let awq = |version: &str| json!({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true, "version": version});
    let weights =
        json!({"num_bits": 4, "type": "int", "symmetric": true, "strategy": "group", "group_size": 128});
    let ct = json!({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {"weights": weights, "targets": ["Linear"]}}});
    vec![
        ("gptq", "b3.g128.sym.v1", gptq(3, 128, true, false, "gptq"), "INT3"),
        ("gptq", "b4.g128.sym.v1", gptq(4, 128, true, false, "gptq"), "INT4"),
        ("gptq", "b4.g32.asym.v1", gptq(4, 32, false, false, "gptq"), "UINT4"),
        ("gptq", "b4.g64.asym.act.v2", gptq(4, 64, false, true, "gptq_v2"), "UINT4"),
        ("gptq", "b4.zero15_wrap.v1", gptq(4, 64, false, false, "gptq"), "UINT4"),
        ("awq", "gemm.g128", awq("gemm"), "UINT4"),
        ("awq", "gemv.g128", awq("gemv"), "UINT4"),
        ("ct", "pack_int4.g128.sym", ct, "INT4"),
    ]
}

fn golden(folder: &str, name: &str) -> Golden {
    Golden::folder(folder).into_iter().find(|g| g.name == name).expect("the vector is in the repository")
}

#[test]
fn vectors_decode_bit_for_bit_and_multiply_within_the_bound() {
    let _stated = pipelines(25);
    let (mut failures, mut done) = (vec![], 0);
    for (i, (folder, name, settings, format)) in vectors().into_iter().enumerate() {
        let file = golden(folder, name);
        let (_dir, model) = open(folder, name, &settings);
        let info = model.find("packed").expect("by the module's name");
        let packed = model.tensor(info).expect("valid");
        assert_eq!((info.dtype.name(), packed.format().name), (format, format), "{name}");
        let comparison = compare_bits(&packed.dequantize(), &file.f32s("dequant_f32"));
        assert!(comparison.passed, "{folder} {name}: {comparison}");
        let (x, want) = (file.f32s("x_f32"), file.f64s("y_f64"));
        let cpu = reference::matmul(&packed, &x).expect("shapes fit");
        for ((got, want), scale) in cpu.iter().zip(&want).zip(file.f64s("yabs_f64")) {
            assert!((got - want).abs() <= 1e-13 * scale, "{folder} {name}: got {got}, want {want}");
        }
        for variant in one_or_both(i) {
            let runtime = variant.runtime();
            let w = runtime.upload(&packed).expect("small");
            let bits = compare_bits(&runtime.dequantize(&w).expect("small"), &file.f32s("dequant_f32"));
            let y = compare(&runtime.matmul(&w, &x).expect("small"), &want, NMSE_F32);
            for (what, comparison) in [("dequantize", bits), ("matmul", y)] {
                done += 1;
                if !comparison.passed {
                    failures.push(format!("{folder} {name} on {}: {what}: {comparison}", variant.name));
                }
            }
        }
    }
    report(&failures, done);
}

/// The stored zero that loaders disagree about: as exllama and vLLM, not as auto-gptq's own kernel.
#[test]
fn a_zero_of_all_ones_wraps() {
    let file = golden("gptq", "b4.zero15_wrap.v1");
    assert!(!compare_bits(&file.f32s("dequant_f32"), &file.f32s("dequant_nowrap_f32")).passed);
}

/// What tells one scheme from the other without settings.
#[test]
fn shapes_suffice_where_they_can() {
    for (folder, name, settings, _) in vectors() {
        // Versions, and groups of the gemv packing other than 128, are nowhere but in the settings.
        if settings["checkpoint_format"] == "gptq_v2" {
            continue;
        }
        let path = crate::common::path(&format!("golden/{folder}/{name}.safetensors"));
        let model = Model::open(path, &OpenOptions::default()).expect("a valid checkpoint");
        let packed = model.find("packed").and_then(|info| model.tensor(info)).expect("valid");
        let want = golden(folder, name).f32s("dequant_f32");
        // Without `sym` the zeros are read, which changes no weight.
        assert_eq!(packed.dequantize(), want, "{folder} {name}");
    }
}

#[test]
fn whole_checkpoints_give_the_golden_outputs() {
    let _stated = pipelines(10);
    for folder in ["gptq-4bit-g128-sym", "awq-gemm-g128"] {
        let model = Model::open(
            crate::common::path(&format!("golden/checkpoints/{folder}")),
            &OpenOptions::default(),
        );
        let model = model.expect("valid");
        let expected = golden(&format!("checkpoints/{folder}"), "expected");
        let mut done = 0;
        for info in model.tensors().iter().filter(|t| t.module.is_some()) {
            let layer = info.name.strip_suffix(".weight").expect("weights are named so");
            let packed = model.tensor(info).expect("valid");
            let (x, want) =
                (expected.f32s(&format!("x{}", packed.cols())), expected.f64s(&format!("{layer}.y")));
            for variant in families() {
                let runtime = variant.runtime();
                let y = runtime.upload(&packed).and_then(|w| runtime.matmul(&w, &x)).expect("small");
                let comparison = compare(&y, &want, NMSE_F32);
                assert!(comparison.passed, "{folder} {layer} on {}: {comparison}", variant.name);
            }
            let dequant = format!("{layer}.dequant");
            if expected.has(&dequant) {
                assert!(
                    compare_bits(&packed.dequantize(), &expected.f32s(&dequant)).passed,
                    "{folder} {layer}"
                );
            }
            done += 1;
        }
        assert_eq!(done, 7, "{folder}");
    }
}

/// Tensors of a synthetic checkpoint.
type Tensors = Vec<(&'static str, Dtype, Vec<usize>, Vec<u8>)>;

fn words(count: usize, seed: u64) -> Vec<u8> {
    let mut random = check::Random::new(seed);
    (0..count).flat_map(|_| (random.next_u64() as u32).to_le_bytes()).collect()
}

fn halves(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| half::f16::from_f32(0.01 + i as f32 * 1e-4).to_le_bytes()).collect()
}

fn i32s(values: impl Iterator<Item = usize>) -> Vec<u8> {
    values.flat_map(|v| (v as i32).to_le_bytes()).collect()
}

/// GPTQ of any bits and groups: `m` outputs, `k` inputs, and the group of each column.
fn gptq(bits: usize, m: usize, k: usize, groups: usize, order: Vec<usize>) -> Tensors {
    vec![
        ("a.qweight", Dtype::I32, vec![k * bits / 32, m], words(k * bits / 32 * m, 1)),
        ("a.qzeros", Dtype::I32, vec![groups, m * bits / 32], words(groups * m * bits / 32, 2)),
        ("a.scales", Dtype::F16, vec![groups, m], halves(groups * m)),
        ("a.g_idx", Dtype::I32, vec![k], i32s(order.into_iter())),
    ]
}

fn checkpoint(tensors: &Tensors, settings: &serde_json::Value) -> Result<Model, Error> {
    configured(tensors, &json!({"quantization_config": settings}))
}

fn configured(tensors: &Tensors, config: &serde_json::Value) -> Result<Model, Error> {
    let dir = TempDir::new().expect("a temporary folder");
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("lengths fit"))
    });
    std::fs::write(dir.path().join("model.safetensors"), serialize(views, None).expect("valid"))
        .expect("room");
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("room");
    Model::open(dir.path(), &OpenOptions { mmap: true })
}

/// The formula, number by number, from the words of the file.
fn by_hand(tensors: &Tensors, bits: usize, version: usize) -> Vec<f32> {
    let word = |t: usize, i: usize| {
        let bytes = &tensors[t].3[4 * i..4 * i + 4];
        u64::from(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    };
    let (m, k) = (tensors[0].2[1], tensors[0].2[0] * 32 / bits);
    let mask = (1u64 << bits) - 1;
    let mut w = vec![0.0; m * k];
    for row in 0..m {
        for col in 0..k {
            let at = |t: usize, bit: usize, step: usize, base: usize, last: usize| {
                let low = word(t, base + bit / 32 * step);
                let high = if bit / 32 + 1 < last { word(t, base + (bit / 32 + 1) * step) } else { 0 };
                (low | high << 32) >> (bit % 32) & mask
            };
            let q = at(0, col * bits, m, row, tensors[0].2[0]);
            let g = word(3, col) as usize;
            let zero_words = tensors[1].2[1];
            let z = at(1, row * bits, 1, g * zero_words, zero_words);
            let z = (z + if version == 1 { 1 } else { 0 }) & mask;
            let i = 2 * (g * m + row);
            let s = half::f16::from_le_bytes([tensors[2].3[i], tensors[2].3[i + 1]]).to_f32();
            w[row * k + col] = (q as f32 - z as f32) * s;
        }
    }
    w
}

/// Every number of bits, versions, groups in order, shuffled, and of unequal sizes.
#[test]
fn every_layout_of_gptq() {
    let _stated = pipelines(45);
    let shuffled = |k: usize, group: usize| (0..k).map(|i| (i * 37 % k) / group).collect::<Vec<_>>();
    let unequal = |k: usize, groups: usize| (0..k).map(|i| i * i % groups).collect::<Vec<_>>();
    // Bits, rows, columns, groups, the group of each column, the group size of the settings, the
    // batch.
    type Case = (usize, usize, usize, usize, Vec<usize>, i64, usize, &'static str);
    let cases: Vec<Case> = vec![
        (2, 64, 128, 2, (0..128).map(|i| i / 64).collect(), 64, 3, "2 bits"),
        (3, 64, 96, 3, (0..96).map(|i| i / 32).collect(), 32, 1, "3 bits"),
        (8, 32, 64, 1, vec![0; 64], -1, 9, "8 bits, one group"),
        (4, 40, 256, 2, shuffled(256, 128), 128, 2, "act-order"),
        (4, 40, 256, 2, shuffled(256, 128), 128, 33, "act-order, tiles"),
        (8, 32, 96, 3, shuffled(96, 32), 32, 1, "8 bits, act-order"),
        (3, 32, 64, 4, shuffled(64, 16), 16, 4, "3 bits, act-order, two groups a chunk"),
        (4, 32, 72, 3, unequal(72, 3), 24, 5, "groups of any size: each weight asks"),
        (4, 16, 200, 2, (0..200).map(|i| i / 128).collect(), 128, 1, "a short last group"),
    ];
    let (mut failures, mut done) = (vec![], 0);
    for (i, (bits, m, k, groups, order, group, n, why)) in cases.into_iter().enumerate() {
        let version = 1 + i % 2;
        let tensors = gptq(bits, m, k, groups, order);
        let format = if version == 1 { "gptq" } else { "gptq_v2" };
        let settings = json!({"quant_method": "gptq", "bits": bits, "group_size": group, "sym": false, "checkpoint_format": format});
        let model = checkpoint(&tensors, &settings).unwrap_or_else(|e| panic!("{why}: {e}"));
        let packed = model.find("a").and_then(|info| model.tensor(info)).expect(why);
        assert_eq!(packed.dequantize(), by_hand(&tensors, bits, version), "{why}");
        for variant in one_or_both(i) {
            let outcomes =
                check::tensor(variant.runtime(), &packed, &[n], &MatmulOptions::default(), 3).expect(why);
            done += outcomes.len();
            let bad = outcomes.iter().filter(|o| !o.comparison.passed);
            failures
                .extend(bad.map(|o| format!("{why} on {}: {} {}", variant.name, o.operation, o.comparison)));
        }
    }
    report(&failures, done);
}

/// GPTQModel's settings for single modules: the settings of all others are not theirs.
#[test]
fn gptq_with_settings_of_its_own() {
    for (bits, groups, group) in [(3, 3, 32), (8, 1, 96)] {
        let tensors = gptq(bits, 64, 96, groups, (0..96).map(|i| i / group).collect());
        let dynamic = json!({"+:a": {"bits": bits, "group_size": group, "sym": false}});
        let settings =
            json!({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": true, "dynamic": dynamic});
        let model = checkpoint(&tensors, &settings).expect("valid");
        let packed = model.find("a").and_then(|info| model.tensor(info)).expect("valid");
        assert_eq!(packed.dequantize(), by_hand(&tensors, bits, 1));
    }
}

#[track_caller]
fn refused(tensors: &Tensors, settings: &serde_json::Value, words: &[&str]) {
    let load = || {
        let model = checkpoint(tensors, settings)?;
        model.tensor(model.find("a").or_else(|error| model.find("weight").map_err(|_| error))?)
    };
    let text = load().map(|_| ()).expect_err("a lie").to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}: {words:?}");
}

fn change(tensors: &Tensors, name: &str, dtype: Dtype, shape: Vec<usize>) -> Tensors {
    let size = shape.iter().product::<usize>() * dtype.bitsize() / 8;
    let mut all = tensors.clone();
    let tensor = all.iter_mut().find(|t| t.0 == name).expect("it is there");
    (tensor.1, tensor.2) = (dtype, shape);
    tensor.3.resize(size, 0);
    all
}

/// Codes less their zero are 1 and the scales of group `g` are `g + 1`, so that a weight names its
/// group.
mod numbered {
    use super::*;

    fn words(count: usize, word: u32) -> Vec<u8> {
        word.to_le_bytes().repeat(count)
    }

    fn scales(groups: usize) -> impl Iterator<Item = u8> + Clone {
        (0..groups).flat_map(|g| half::f16::from_f32(g as f32 + 1.0).to_le_bytes())
    }

    pub fn gptq(k: usize, groups: usize) -> Tensors {
        let of_group = |g: usize| half::f16::from_f32(g as f32 + 1.0).to_le_bytes().repeat(8);
        vec![
            ("a.qweight", Dtype::I32, vec![k / 8, 8], words(k, 0x9999_9999)),
            ("a.qzeros", Dtype::I32, vec![groups, 1], words(groups, 0x7777_7777)),
            ("a.scales", Dtype::F16, vec![groups, 8], (0..groups).flat_map(of_group).collect()),
        ]
    }

    pub fn gemm(k: usize, groups: usize) -> Tensors {
        let mut all = gptq(k, groups);
        all[0] = ("a.qweight", Dtype::I32, vec![k, 1], words(k, 0x9999_9999));
        all[1].3 = words(groups, 0x8888_8888);
        all
    }

    pub fn gemv(k: usize, groups: usize, width: usize) -> Tensors {
        let row = scales(groups).chain(std::iter::repeat_n(0, 2 * (8 * width - groups)));
        vec![
            ("a.qweight", Dtype::I32, vec![8, k / 8], words(k, 0x9999_9999)),
            ("a.qzeros", Dtype::I32, vec![8, width], words(8 * width, 0x8888_8888)),
            ("a.scales", Dtype::F16, vec![8, 8 * width], row.collect::<Vec<_>>().repeat(8)),
        ]
    }

    pub fn packed(k: usize, groups: usize) -> Tensors {
        let dims = [4i64, k as i64].iter().flat_map(|d| d.to_le_bytes()).collect();
        vec![
            ("a.weight_packed", Dtype::I32, vec![4, k.div_ceil(8)], words(4 * k.div_ceil(8), 0x9999_9999)),
            ("a.weight_scale", Dtype::F16, vec![4, groups], scales(groups).collect::<Vec<_>>().repeat(4)),
            ("a.weight_shape", Dtype::I64, vec![2], dims),
        ]
    }

    pub fn with_order(mut tensors: Tensors, name: &'static str, order: Vec<i32>) -> Tensors {
        let bytes = order.iter().flat_map(|g| g.to_le_bytes()).collect();
        tensors.push((name, Dtype::I32, vec![order.len()], bytes));
        tensors
    }

    /// How many columns of the first row each group has.
    pub fn runs(tensors: &Tensors, settings: &serde_json::Value) -> Result<Vec<usize>, Error> {
        let packed = checkpoint(tensors, settings).and_then(|m| m.tensor(m.find("a")?))?;
        let row = &packed.dequantize()[..packed.cols()];
        Ok(row.chunk_by(|a, b| a == b).map(<[f32]>::len).collect())
    }
}

fn ways(ways: &[serde_json::Value]) -> serde_json::Value {
    let groups = ways.iter().enumerate().map(|(i, way)| (format!("g{i}"), json!({"weights": way})));
    let groups: serde_json::Map<_, _> = groups.collect();
    json!({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups})
}

/// A last group that is short shows whose sizes were believed: 160 columns in groups of 64 are no
/// three groups of 54.
#[test]
fn groups_are_those_that_are_said() {
    use numbered::*;
    let gptq_said = |more: serde_json::Value| {
        let mut all = json!({"quant_method": "gptq", "bits": 4, "group_size": 64});
        more.as_object().expect("an object").iter().for_each(|(k, v)| all[k] = v.clone());
        all
    };
    let awq_said = |version: &str, size: i64| json!({"quant_method": "awq", "bits": 4, "group_size": size, "version": version});
    let way = |bits: u64, size: i64| json!({"num_bits": bits, "group_size": size, "strategy": "group"});
    let short = vec![64, 64, 32];
    let half = |k: i32| (0..k).map(|i| i / 64).collect::<Vec<_>>();
    let cases = [
        (gptq(160, 3), gptq_said(json!({})), short.clone(), "GPTQ"),
        (
            gptq(160, 3),
            gptq_said(json!({"dynamic": {"-:lm_head": {}}})),
            short.clone(),
            "GPTQ, some modules left out",
        ),
        (
            gptq(160, 3),
            gptq_said(json!({"dynamic": {"+:b": {"bits": 8}}})),
            short.clone(),
            "GPTQ, some modules otherwise",
        ),
        (
            gptq(160, 2),
            gptq_said(json!({"dynamic": {"+:a": {"group_size": 96}}})),
            vec![96, 64],
            "GPTQ, this module otherwise",
        ),
        (
            gptq(128, 4),
            gptq_said(json!({"dynamic": {"+:a": {"bits": 4}}})),
            vec![32; 4],
            "GPTQ, powers of two are believed",
        ),
        (gptq(128, 2), json!(null), vec![64; 2], "GPTQ without settings"),
        (gptq(160, 1), json!(null), vec![160], "GPTQ without settings, one group"),
        (
            with_order(gptq(128, 2), "a.g_idx", vec![0; 128]),
            gptq_said(json!({})),
            vec![64; 2],
            "g_idx of zeros is no order",
        ),
        (
            with_order(gptq(128, 2), "a.g_idx", vec![-1; 128]),
            gptq_said(json!({})),
            vec![64; 2],
            "nor is one of -1",
        ),
        (with_order(gptq(160, 3), "a.g_idx", half(160)), json!(null), short.clone(), "g_idx tells"),
        (gemm(160, 3), awq_said("gemm", 64), short.clone(), "AWQ gemm"),
        (
            gemm(160, 3),
            json!({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}),
            short.clone(),
            "llm-awq",
        ),
        (gemv(160, 3, 2), awq_said("gemv", 64), short.clone(), "AWQ gemv"),
        (gemv(256, 8, 4), awq_said("gemv", 32), vec![32; 8], "AWQ gemv, groups of 32"),
        (gemv(256, 1, 1), awq_said("gemv", -1), vec![256], "AWQ gemv, one group"),
        (
            gemv(256, 2, 1),
            json!({"quant_method": "awq", "version": "gemv"}),
            vec![128; 2],
            "AWQ gemv, as it is by default",
        ),
        (packed(160, 3), ways(&[way(4, 64)]), short.clone(), "compressed-tensors"),
        (packed(160, 3), ways(&[way(4, 64), way(8, 128)]), short.clone(), "the way of these bits"),
        (packed(160, 3), ways(&[way(4, 128), way(4, 64)]), short, "the way that fits"),
        (packed(8, 1), ways(&[way(4, -1), way(8, -1)]), vec![8], "bits that are said"),
    ];
    for (tensors, settings, want, why) in cases {
        assert_eq!(
            numbered::runs(&tensors, &settings).unwrap_or_else(|e| panic!("{why}: {e}")),
            want,
            "{why}"
        );
    }
}

/// Where settings and shapes leave a doubt, or contradict each other, nothing is guessed.
#[test]
fn doubts_and_contradictions_are_refused() {
    use numbered::*;
    let gptq_said = |more: serde_json::Value| {
        let mut all = json!({"quant_method": "gptq", "bits": 4});
        more.as_object().expect("an object").iter().for_each(|(k, v)| all[k] = v.clone());
        all
    };
    let awq_said = |version: &str, size: i64| json!({"quant_method": "awq", "bits": 4, "group_size": size, "version": version});
    let way = |bits: u64, size: i64| json!({"num_bits": bits, "group_size": size, "strategy": "group"});
    let mut version_2 = gptq(128, 2);
    version_2[1].3 = 0x8888_8888u32.to_le_bytes().repeat(2);
    let thin: Tensors = vec![
        ("a.qweight", Dtype::I32, vec![3, 10], vec![1; 120]),
        ("a.qzeros", Dtype::I32, vec![1, 1], vec![1; 4]),
        ("a.scales", Dtype::F16, vec![1, 10], vec![1; 20]),
    ];
    let none = change(&packed(32, 1), "a.weight_scale", Dtype::F16, vec![4, 0]);
    let mut negative = packed(32, 1);
    negative[2].3 = [4i64, -5].iter().flat_map(|d| d.to_le_bytes()).collect();
    let eight = change(&packed(256, 4), "a.weight_packed", Dtype::I32, vec![4, 64]);
    let dynamic = |size: u64| json!({"group_size": 64, "dynamic": {"+:a": {"group_size": size}}});
    type Lies = Vec<(Tensors, serde_json::Value, &'static [&'static str])>;
    let lies: Lies = vec![
        // Sizes of groups.
        (gptq(160, 3), json!(null), &["a.scales", "nothing says", "160 columns", "3 scales"]),
        (gptq(160, 3), gptq_said(json!({})), &["a.scales", "160 columns", "3 scales"]),
        (gptq(160, 3), gptq_said(dynamic(60)), &["a.scales", "groups of 60 or of 64"]),
        (gemm(160, 3), json!(null), &["a.scales", "160 columns", "3 scales"]),
        (gemv(256, 4, 2), awq_said("gemv", 128), &["a.scales", "groups of 128", "[8, 8]", "[8, 16]"]),
        (
            gemv(256, 4, 2),
            json!({"quant_method": "awq", "version": "gemv"}),
            &["a.scales", "[8, 8]", "[8, 16]"],
        ),
        (gemv(256, 4, 2), awq_said("gemv", 48), &["a.scales", "32, 64, or 128", "48"]),
        (
            change(&gemv(256, 4, 2), "a.qzeros", Dtype::I32, vec![8, 1]),
            awq_said("gemv", 64),
            &["a.qzeros", "[8, 2]", "[8, 1]"],
        ),
        (packed(160, 3), json!(null), &["a.weight_scale", "160 columns", "3 scales"]),
        (packed(160, 3), ways(&[way(4, 60), way(4, 64)]), &["a.weight_scale", "groups of 60 or of 64"]),
        (packed(256, 1), ways(&[way(4, 64)]), &["a.weight_scale", "groups of 64 need 4", "got 1"]),
        (
            packed(256, 4),
            ways(&[json!({"num_bits": 4, "strategy": "channel"})]),
            &["groups of 256 need 1", "got 4"],
        ),
        (none.clone(), json!(null), &["a.weight_scale", "0 groups"]),
        (none, ways(&[way(4, 32)]), &["a.weight_scale", "0 groups"]),
        // Orders.
        (
            gptq(128, 2),
            gptq_said(json!({"group_size": 64, "desc_act": true})),
            &["desc_act", "2 groups", "g_idx"],
        ),
        (
            with_order(gptq(160, 3), "a.g_idx", vec![0; 160]),
            json!(null),
            &["a.g_idx", "all are 0", "160", "3"],
        ),
        (
            packed(256, 4),
            ways(&[json!({"num_bits": 4, "group_size": 64, "actorder": "group"})]),
            &["actorder", "4 groups"],
        ),
        (with_order(gemm(128, 2), "a.g_idx", vec![0; 128]), awq_said("gemm", 64), &["a.g_idx", "AWQ"]),
        // Zeros and versions.
        (version_2, json!(null), &["a.qzeros", "stored as 8", "gptq_v2", "of 9"]),
        (
            packed(256, 4),
            ways(&[json!({"num_bits": 4, "group_size": 64, "symmetric": false})]),
            &["symmetric false", "weight_zero_point"],
        ),
        // Bits.
        (packed(8, 1), json!(null), &["a.weight_packed", "[1, 2, 3, 4]"]),
        (eight, ways(&[way(4, 64)]), &["a.weight_packed", "64 words", "[8] bits", "[4]"]),
        (thin, json!(null), &["a.qweight", "1 words of zeros for 10 rows"]),
        (gptq(128, 2), json!({"quant_method": "gptq", "bits": -4}), &["a.weight", "-4"]),
        (gemm(128, 2), json!({"quant_method": "awq", "bits": -4}), &["a.weight", "-4 bits"]),
        (negative, json!(null), &["a.weight_shape", "[4, -5]", "columns"]),
    ];
    for (tensors, settings, words) in lies {
        refused(&tensors, &settings, words);
    }
}

/// Bytes with scales of any name are not multiplied without them.
#[test]
fn bytes_whose_scales_nobody_takes() {
    let bytes = || ("a.weight", Dtype::I8, vec![4, 8], vec![2; 32]);
    let scale = |name, shape: Vec<usize>| {
        let count = shape.iter().product();
        (name, Dtype::F32, shape, 0.5f32.to_le_bytes().repeat(count))
    };
    for name in ["a.weight_scale", "a.scale", "a.scales", "a.weight.scale", "a.weights_scaling_factor"] {
        refused(&vec![bytes(), scale(name, vec![4, 1])], &json!(null), &["`a.weight`", name, "I8"]);
    }
    for name in ["a.input_scale", "b.scale"] {
        assert!(checkpoint(&vec![bytes(), scale(name, vec![4, 1])], &json!(null)).is_ok(), "{name}");
    }
    // Zeros that are as many, and scales, in another shape.
    let said =
        json!({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"group_size": 4}}}});
    let zeros = ("a.weight_zero_point", Dtype::I8, vec![2, 4], (0..8).collect());
    refused(
        &vec![bytes(), scale("a.weight_scale", vec![4, 2]), zeros],
        &said,
        &["a.weight_zero_point", "[4, 2]", "[2, 4]"],
    );
    refused(&vec![bytes(), scale("a.weight_scale", vec![4, 0])], &said, &["a.weight_scale", "0 groups"]);
    refused(&vec![bytes(), scale("a.SCB", vec![2, 2])], &json!(null), &["a.SCB", "[4]", "[2, 2]"]);
    assert!(checkpoint(&vec![bytes(), scale("a.SCB", vec![4, 1])], &json!(null)).is_ok());
}

/// Where older tools, and models that see, keep the settings.
#[test]
fn settings_in_other_places() {
    let tensors: Tensors = vec![
        ("a.weight", Dtype::I8, vec![4, 8], vec![2; 32]),
        ("a.weight_scale", Dtype::F32, vec![4, 1], 0.5f32.to_le_bytes().repeat(4)),
    ];
    let how = json!({"quant_method": "compressed-tensors", "format": "int-quantized"});
    let configs = [
        json!({"quantization_config": how}),
        json!({"compression_config": how}),
        json!({"compression_config": {"quantization_config": {"format": "int-quantized"}}}),
        json!({"text_config": {"quantization_config": how}}),
    ];
    for config in configs {
        let model = configured(&tensors, &config).unwrap_or_else(|e| panic!("{config}: {e}"));
        let packed = model.find("a").and_then(|info| model.tensor(info)).expect("valid");
        assert_eq!(packed.dequantize(), [1.0; 32], "{config}");
    }
}

/// A layer that was saved alone has names without a module; its bias is added as any other.
#[test]
fn a_layer_alone_is_read_with_its_bias() {
    let mut alone = numbered::gptq(128, 2);
    alone.push(("a.bias", Dtype::F32, vec![8], 5f32.to_le_bytes().repeat(8)));
    let load = |tensors: &Tensors, name: &str| {
        let model = checkpoint(tensors, &json!(null)).expect("valid");
        let linear = model.find(name).and_then(|info| model.linear(info)).expect("valid");
        assert_eq!(model.tensors().len(), 2, "a weight and its bias");
        (linear.weight().dequantize(), linear.bias().expect("there").dequantize())
    };
    let named = load(&alone, "a");
    alone.iter_mut().for_each(|t| t.0 = t.0.trim_start_matches("a."));
    assert_eq!(load(&alone, "weight"), named);
    let plain: Tensors = vec![
        ("weight", Dtype::F32, vec![8, 1], 1f32.to_le_bytes().repeat(8)),
        ("bias", Dtype::F32, vec![8], 5f32.to_le_bytes().repeat(8)),
    ];
    assert_eq!(load(&plain, "weight"), (vec![1.0; 8], vec![5.0; 8]));
    // Codes of conventions that look for a module are refused.
    for codes in ["weight_packed", "W_q"] {
        let lone: Tensors = vec![(codes, Dtype::I32, vec![8, 16], words(128, 1))];
        refused(&lone, &json!(null), &[codes, "I32 codes"]);
    }
}

/// A checkpoint of one shard whose index lists all tensors but one.
fn unlisted(tensors: &Tensors, left_out: &str) -> Result<Model, Error> {
    let dir = TempDir::new().expect("a temporary folder");
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("lengths fit"))
    });
    std::fs::write(dir.path().join("shard"), serialize(views, None).expect("valid")).expect("room");
    let names = tensors.iter().map(|t| t.0).filter(|name| *name != left_out);
    let map: serde_json::Map<_, _> = names.map(|name| (name.to_owned(), json!("shard"))).collect();
    std::fs::write(dir.path().join("model.safetensors.index.json"), json!({"weight_map": map}).to_string())
        .expect("room");
    Model::open(dir.path(), &OpenOptions { mmap: true })
}

/// A part that an index leaves out would make another weight of those it lists.
#[test]
fn parts_that_the_index_does_not_list() {
    let bias = |name| (name, Dtype::F32, vec![8], vec![0; 32]);
    let mut of_gptq = gptq(4, 8, 64, 2, (0..64).map(|i| i % 2).collect());
    of_gptq.push(bias("a.bias"));
    let mut packed = numbered::packed(32, 1);
    packed.push(("a.weight_zero_point", Dtype::I32, vec![1, 1], words(1, 1)));
    packed.push(("a.weight_g_idx", Dtype::I32, vec![32], vec![0; 128]));
    let alone: Tensors = vec![("weight", Dtype::F32, vec![8, 1], vec![0; 32]), bias("bias")];
    let smooth: Tensors = vec![
        ("a.weight", Dtype::F32, vec![8, 8], vec![0; 256]),
        ("a.pre_quant_scale", Dtype::F32, vec![8], vec![0; 32]),
    ];
    let int8: Tensors = vec![
        ("a.weight", Dtype::I8, vec![8, 8], vec![1; 64]),
        ("a.SCB", Dtype::F32, vec![8], vec![0; 32]),
        ("a.weight_format", Dtype::U8, vec![], vec![0]),
    ];
    let cases = [
        (&of_gptq, "a.qweight", "a.g_idx"),
        (&of_gptq, "a.qweight", "a.qzeros"),
        (&of_gptq, "a.qweight", "a.bias"),
        (&packed, "a.weight_packed", "a.weight_zero_point"),
        (&packed, "a.weight_packed", "a.weight_g_idx"),
        (&alone, "weight", "bias"),
        (&smooth, "a.weight", "a.pre_quant_scale"),
        (&int8, "a.weight", "a.weight_format"),
    ];
    for (tensors, weight, part) in cases {
        // Which is not supported by itself.
        if part != "a.pre_quant_scale" {
            unlisted(tensors, "").unwrap_or_else(|e| panic!("{weight}: {e}"));
        }
        let error = unlisted(tensors, part).expect_err(part).to_string();
        let words = [format!("tensor `{weight}`"), format!("`{part}`"), "does not list".into()];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    // What belongs to no weight that is listed is left out, as the index says.
    let mut others = alone.clone();
    others.push(bias("b.bias"));
    others.push(("a.rotary_emb.inv_freq", Dtype::F32, vec![8], vec![0; 32]));
    for name in ["b.bias", "a.rotary_emb.inv_freq"] {
        assert_eq!(unlisted(&others, name).expect("none of a weight").tensors().len(), 3, "{name}");
    }
}

/// A bias is added as it is; integers have a scale somewhere.
#[test]
fn a_bias_of_integers_is_refused() {
    let mut tensors = numbered::gptq(128, 2);
    tensors.push(("a.bias", Dtype::I32, vec![8], vec![0; 32]));
    let model = checkpoint(&tensors, &json!(null)).expect("valid");
    let error = model.find("a").and_then(|info| model.linear(info)).expect_err("integers").to_string();
    assert!(error.contains("`a.bias`") && error.contains("I32"), "{error}");
}

/// A scale may be a number, and its weights none.
#[test]
fn weights_beyond_f32_are_found() {
    let mut tensors = numbered::packed(256, 4);
    let huge = |scale: f32| ("a.weight_scale", Dtype::F32, vec![4, 4], scale.to_le_bytes().repeat(16));
    for (scale, code, finite) in
        [(3e38, 0x99, true), (3e38, 0xff, false), (4e37, 0xff, true), (f32::INFINITY, 0x88, false)]
    {
        tensors[0].3.fill(code);
        tensors[1] = huge(scale);
        let packed = checkpoint(&tensors, &json!(null)).and_then(|m| m.tensor(m.find("a")?)).expect("valid");
        assert_eq!(packed.check_finite().is_ok(), finite, "{scale:e} {code:x}");
    }
}

#[test]
fn gptq_that_lies_is_refused_with_names_and_numbers() {
    let good = gptq(4, 16, 64, 2, (0..64).map(|i| i / 32).collect());
    let settings = json!({"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": false});
    assert!(checkpoint(&good, &settings).is_ok());
    let lies: Vec<(Tensors, serde_json::Value, &[&str])> = vec![
        (good[1..].to_vec(), settings.clone(), &["`a`"]),
        ([&good[..1], &good[2..]].concat(), settings.clone(), &["a.qweight", "lacks `a.qzeros`"]),
        ([&good[..2], &good[3..]].concat(), settings.clone(), &["a.qweight", "lacks `a.scales`"]),
        (change(&good, "a.qweight", Dtype::F32, vec![8, 16]), settings.clone(), &["a.qweight", "I32", "F32"]),
        (
            change(&good, "a.qzeros", Dtype::I32, vec![2, 3]),
            settings.clone(),
            &["a.qzeros", "[2, 2]", "[2, 3]"],
        ),
        (
            change(&good, "a.scales", Dtype::F16, vec![3, 16]),
            settings.clone(),
            &["a.scales", "64 columns in groups of 32 need 2", "got 3"],
        ),
        (change(&good, "a.scales", Dtype::I16, vec![2, 16]), settings.clone(), &["a.scales", "I16"]),
        (change(&good, "a.g_idx", Dtype::I32, vec![63]), settings.clone(), &["a.g_idx", "[64]", "[63]"]),
        (change(&good, "a.g_idx", Dtype::I64, vec![64]), settings.clone(), &["a.g_idx", "I64"]),
        (
            change(&good, "a.qweight", Dtype::I32, vec![8, 4, 4]),
            settings.clone(),
            &["a.qweight", "[8, 4, 4]"],
        ),
        (good.clone(), json!({"quant_method": "gptq", "bits": 5, "group_size": 32}), &["a.weight", "5"]),
        (good.clone(), json!({"quant_method": "gptq", "bits": 8, "group_size": 32}), &["a.", "32"]),
        (
            good.clone(),
            json!({"quant_method": "gptq", "bits": 4, "group_size": 64}),
            &["a.scales", "groups of 64 need 1", "got 2"],
        ),
        (
            good.clone(),
            json!({"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": true}),
            &["a.qzeros", "symmetric", "zeros are 8"],
        ),
        (
            good.clone(),
            json!({"quant_method": "gptq", "bits": 4, "group_size": 32, "checkpoint_format": "marlin"}),
            &["a.weight", "marlin"],
        ),
    ];
    for (tensors, settings, words) in lies {
        refused(&tensors, &settings, words);
    }
    for bad in [2, usize::MAX] {
        let tensors = gptq(4, 16, 64, 2, (0..64).map(|i| if i == 5 { bad } else { i / 32 }).collect());
        refused(&tensors, &settings, &["a.g_idx", "column 5", "there are 2"]);
    }
}

#[test]
fn awq_that_lies_is_refused_with_names_and_numbers() {
    let good: Tensors = vec![
        ("a.qweight", Dtype::I32, vec![64, 2], words(128, 1)),
        ("a.qzeros", Dtype::I32, vec![2, 2], words(4, 2)),
        ("a.scales", Dtype::F16, vec![2, 16], halves(32)),
    ];
    let settings = |extra: serde_json::Value| {
        let mut all = json!({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"});
        extra.as_object().expect("an object").iter().for_each(|(k, v)| all[k] = v.clone());
        all
    };
    assert!(checkpoint(&good, &settings(json!({}))).is_ok());
    let lies: Vec<(Tensors, serde_json::Value, &[&str])> = vec![
        (good.clone(), settings(json!({"bits": 3})), &["a.weight", "AWQ of 3 bits"]),
        (good.clone(), settings(json!({"version": "gemv_fast"})), &["a.weight", "gemv_fast"]),
        (good.clone(), settings(json!({"group_size": 64})), &["a.scales", "need 1", "got 2"]),
        (good.clone(), settings(json!({"zero_point": false})), &["a.qzeros", "zero_point false"]),
        (
            change(&good, "a.qzeros", Dtype::I32, vec![2, 3]),
            settings(json!({})),
            &["a.qzeros", "[2, 2]", "[2, 3]"],
        ),
        (
            change(&good, "a.scales", Dtype::F16, vec![2, 15]),
            settings(json!({})),
            &["a.scales", "[2, 16]", "[2, 15]"],
        ),
        (change(&good, "a.scales", Dtype::F16, vec![64, 1]), settings(json!({"version": "gemv"})), &["a."]),
    ];
    for (tensors, settings, words) in lies {
        refused(&tensors, &settings, words);
    }
}

/// Packed codes of 1 to 8 bits that cross words, with zeros and without, in groups, by channel, and
/// plain bytes.
#[test]
fn every_layout_of_compressed_tensors() {
    let _stated = pipelines(35);
    let (mut failures, mut done) = (vec![], 0);
    for bits in 1..=8usize {
        for (groups, zeros, act) in [(1, false, false), (3, true, false), (3, false, false), (3, true, true)]
        {
            let (m, k) = (10, 96);
            // With act-order, the columns of a group lie anywhere.
            let group_of = |col: usize| if act { col * 37 % k * groups / k } else { col * groups / k };
            let words_of = |count: usize| (count * bits).div_ceil(32);
            let dims = [m as i64, k as i64].iter().flat_map(|d| d.to_le_bytes()).collect();
            let mut tensors: Tensors = vec![
                ("a.weight_packed", Dtype::I32, vec![m, words_of(k)], words(m * words_of(k), bits as u64)),
                ("a.weight_scale", Dtype::F16, vec![m, groups], halves(m * groups)),
                ("a.weight_shape", Dtype::I64, vec![2], dims),
            ];
            if zeros {
                tensors.push((
                    "a.weight_zero_point",
                    Dtype::I32,
                    vec![words_of(m), groups],
                    words(words_of(m) * groups, 9),
                ));
            }
            if act {
                tensors.push(("a.weight_g_idx", Dtype::I32, vec![k], i32s((0..k).map(group_of))));
            }
            let size = if groups == 1 { -1 } else { 32 };
            let weights = json!({"num_bits": bits, "group_size": size, "symmetric": !zeros});
            let settings = json!({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"g": {"weights": weights}}});
            let why = format!("{bits} bits, {groups} groups, zeros: {zeros}, act-order: {act}");
            let model = checkpoint(&tensors, &settings).unwrap_or_else(|e| panic!("{why}: {e}"));
            let packed = model.find("a").and_then(|info| model.tensor(info)).expect(&why);
            assert_eq!(packed.dequantize(), packed_by_hand(&tensors, bits, group_of), "{why}");
            // Each number of bits on one variant, and each way to share scales with every fourth.
            let way = usize::from(groups > 1) + usize::from(zeros) + usize::from(act);
            if bits % 4 != way && !is_full() {
                continue;
            }
            let variant = &VARIANTS[(bits + bits / 4) % 4];
            let outcomes =
                check::tensor(variant.runtime(), &packed, &[1 + bits], &MatmulOptions::default(), 3)
                    .expect(&why);
            done += outcomes.len();
            let bad = outcomes.iter().filter(|o| !o.comparison.passed);
            failures
                .extend(bad.map(|o| format!("{why} on {}: {} {}", variant.name, o.operation, o.comparison)));
        }
    }
    report(&failures, done);
}

fn packed_by_hand(tensors: &Tensors, bits: usize, group_of: impl Fn(usize) -> usize) -> Vec<f32> {
    let (m, k, groups) = (tensors[0].2[0], 96, tensors[1].2[1]);
    let word = |t: usize, i: usize| {
        let bytes = &tensors[t].3[4 * i..4 * i + 4];
        u64::from(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    };
    let mask = (1u64 << bits) - 1;
    let field = |bit: usize, word: &dyn Fn(usize) -> u64, last: usize| {
        let high = if bit / 32 + 1 < last { word(bit / 32 + 1) } else { 0 };
        ((word(bit / 32) | high << 32) >> (bit % 32) & mask) as f32
    };
    let mut w = vec![];
    for row in 0..m {
        for col in 0..k {
            let row_words = tensors[0].2[1];
            let q = field(col * bits, &|i| word(0, row * row_words + i), row_words);
            let g = group_of(col);
            let z = match tensors.get(3) {
                Some(zeros) => field(row * bits, &|i| word(3, i * groups + g), zeros.2[0]),
                None => (1 << (bits - 1)) as f32,
            };
            let i = 2 * (row * groups + g);
            let s = half::f16::from_le_bytes([tensors[1].3[i], tensors[1].3[i + 1]]).to_f32();
            w.push((q - z) * s);
        }
    }
    w
}

#[test]
fn plain_bytes_of_compressed_tensors() {
    let _stated = pipelines(15);
    let settings = json!({"quant_method": "compressed-tensors", "format": "int-quantized"});
    let codes = words(10 * 24 / 4, 3);
    for zeros in [false, true] {
        let mut tensors: Tensors = vec![
            ("a.weight", Dtype::I8, vec![10, 24], codes.clone()),
            ("a.weight_scale", Dtype::F16, vec![10, 1], halves(10)),
        ];
        let zero: Vec<u8> = (0..10).map(|i| (i as i8 * 3 - 7) as u8).collect();
        if zeros {
            tensors.push(("a.weight_zero_point", Dtype::I8, vec![10, 1], zero.clone()));
        }
        let model = checkpoint(&tensors, &settings).expect("valid");
        let packed = model.find("a").and_then(|info| model.tensor(info)).expect("valid");
        let want = |i: usize| {
            let z = if zeros { f32::from(zero[i / 24] as i8) } else { 0.0 };
            (f32::from(codes[i] as i8) - z) * half::f16::from_f32(0.01 + (i / 24) as f32 * 1e-4).to_f32()
        };
        assert_eq!(packed.dequantize(), (0..240).map(want).collect::<Vec<_>>());
        let outcomes = check::tensor(VARIANTS[0].runtime(), &packed, &[1, 9], &MatmulOptions::default(), 3)
            .expect("small");
        assert!(outcomes.iter().all(|o| o.comparison.passed));
    }
}

/// A scheme that nobody knows is no matrix of integers.
#[test]
fn unknown_schemes_are_named() {
    let codes: Tensors = vec![("a.qweight", Dtype::I32, vec![8, 16], words(128, 1))];
    refused(&codes, &json!({"quant_method": "aqlm"}), &["quant_method `aqlm`", "gptq", "awq"]);
    let codes: Tensors = vec![("a.weight_packed", Dtype::I16, vec![8, 16], words(64, 1))];
    let settings = json!({"quant_method": "compressed-tensors", "format": "marlin-24"});
    refused(&codes, &settings, &["a.weight_packed", "I16", "compressed-tensors", "marlin-24"]);
    refused(&codes, &json!({}), &["a.weight_packed", "no quant_method"]);
}
