//! Rules of other tools, for bits, groups and modes of which there is no module in
//! `tests/golden/hub`: codes are packed here by the rule, and the weights are those that they stand
//! for.

use crate::common::{Raw, write_tensors};
use qmatmul::file::{Model, OpenOptions};
use safetensors::Dtype;
use serde_json::{Value, json};

/// Numbers below `top` that look random.
fn numbers(count: usize, top: u32) -> Vec<u32> {
    let mut state = 12345u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % top
    };
    (0..count).map(|_| next()).collect()
}

/// Codes one behind the other, the lowest bits first.
fn stream(codes: &[u32], bits: usize) -> Vec<u32> {
    let mut words = vec![0u32; (codes.len() * bits).div_ceil(32)];
    for (i, code) in codes.iter().enumerate() {
        for bit in 0..bits {
            let at = i * bits + bit;
            words[at / 32] |= (code >> bit & 1) << (at % 32);
        }
    }
    words
}

/// 32 codes each in planes: bits 0 to 3 (0 and 1 of 2 and 3 bits), then 4 and 5, then the top.
fn planes(codes: &[u32], bits: usize) -> Vec<u32> {
    let widths: &[usize] = match bits {
        2 => &[2],
        3 => &[2, 1],
        4 => &[4],
        5 => &[4, 1],
        6 => &[4, 2],
        7 => &[4, 2, 1],
        _ => &[8],
    };
    let of_32 = |codes: &[u32]| {
        let mut shift = 0;
        let plane = |width: &usize| {
            let plane: Vec<u32> = codes.iter().map(|code| code >> shift & ((1 << width) - 1)).collect();
            shift += width;
            stream(&plane, *width)
        };
        widths.iter().flat_map(plane).collect::<Vec<_>>()
    };
    codes.chunks(32).flat_map(of_32).collect()
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn halves(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect()
}

fn tensor(name: &str, dtype: Dtype, shape: [usize; 2], bytes: Vec<u8>) -> Raw {
    (name.into(), dtype, shape.to_vec(), bytes)
}

fn open(tensors: &[Raw], config: &Value) -> Model {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write_tensors(&dir.path().join("model.safetensors"), tensors);
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("room");
    Model::open(dir.path(), &OpenOptions::default()).unwrap_or_else(|e| panic!("{config}: {e}"))
}

/// Fails without the thousands of numbers.
#[track_caller]
fn same(got: Result<Vec<f32>, String>, want: &[f32], what: &str) {
    let got = got.unwrap_or_else(|e| panic!("{what}: {e}"));
    let wrong = got.iter().zip(want).filter(|(a, b)| a != b).count();
    assert!(got.len() == want.len() && wrong == 0, "{what}: {wrong} of {} differ", want.len());
}

/// The weight `a`, or why there are no numbers.
fn weights(tensors: &[Raw], config: &Value) -> Result<Vec<f32>, String> {
    let model = open(tensors, config);
    let packed = model.find("a").and_then(|info| model.tensor(info));
    packed.map(|packed| packed.dequantize()).map_err(|error| error.to_string())
}

/// A scale for each group of a row; all are exact as halves.
fn scale(row: usize, group: usize) -> f32 {
    (1 + (row * 7 + group * 3) % 13) as f32 / 64.0
}

/// A weight of GPTQ: codes `[cols, rows]`, zeros `[groups, rows]`.
struct Gptq {
    bits: usize,
    rows: usize,
    cols: usize,
    group: usize,
    codes: Vec<u32>,
    zeros: Vec<u32>,
}

impl Gptq {
    fn new(bits: usize, rows: usize, cols: usize, group: usize) -> Self {
        let top = 1 << bits;
        let (codes, zeros) = (numbers(rows * cols, top), numbers(rows * cols / group, top));
        Self { bits, rows, cols, group, codes, zeros }
    }

    /// Words by `pack`, those of zeros by `pack_zeros`, row by row.
    fn tensors(&self, pack: fn(&[u32], usize) -> Vec<u32>, stored: &dyn Fn(&[u32]) -> Vec<u32>) -> Vec<Raw> {
        let &Self { bits, rows, cols, group, .. } = self;
        let words = cols * bits / 32;
        let mut qweight = vec![0; words * rows];
        for row in 0..rows {
            let column: Vec<u32> = (0..cols).map(|k| self.codes[k * rows + row]).collect();
            pack(&column, bits).iter().enumerate().for_each(|(i, word)| qweight[i * rows + row] = *word);
        }
        let qzeros: Vec<u32> = self.zeros.chunks(rows).flat_map(stored).collect();
        let groups = cols / group;
        let scales: Vec<f32> = (0..groups * rows).map(|i| scale(i % rows, i / rows)).collect();
        vec![
            tensor("a.qweight", Dtype::I32, [words, rows], bytes(&qweight)),
            tensor("a.qzeros", Dtype::I32, [groups, qzeros.len() / groups], bytes(&qzeros)),
            tensor("a.scales", Dtype::F16, [groups, rows], halves(&scales)),
        ]
    }

    fn weights(&self) -> Vec<f32> {
        let &Self { rows, cols, group, .. } = self;
        let weight = |i: usize| {
            let (row, k) = (i / cols, i % cols);
            let (code, zero) = (self.codes[k * rows + row], self.zeros[k / group * rows + row]);
            (code as f32 - zero as f32) * scale(row, k / group)
        };
        (0..rows * cols).map(weight).collect()
    }
}

/// What GPTQModel takes from each word of zeros.
fn ones(bits: usize) -> [u32; 3] {
    match bits {
        2 => [0x5555_5555; 3],
        3 => [0x2492_4924, 0x9249_2492, 0x4924_9249],
        4 => [0x1111_1111; 3],
        _ => [0x0101_0101; 3],
    }
}

#[test]
fn zeros_of_gptqmodel_borrow_from_the_next() {
    for bits in [2, 3, 4, 8] {
        let weight = Gptq::new(bits, 32, 64, 32);
        let less_ones = |zeros: &[u32]| {
            let words = stream(zeros, bits).into_iter().enumerate();
            words.map(|(i, word)| word.wrapping_sub(ones(bits)[i % 3])).collect()
        };
        let tensors = weight.tensors(stream, &less_ones);
        for quantizer in [json!("gptqmodel:7.7.0"), json!(["optimum:1.2", "gptqmodel:2.0"])] {
            let config = json!({"quantization_config": {"quant_method": "gptq", "bits": bits, "group_size": 32,
                "sym": false, "checkpoint_format": "gptq", "meta": {"quantizer": quantizer}}});
            same(weights(&tensors, &config), &weight.weights(), &format!("{bits} bits"));
        }
        // By any other tool each field is less one, and wraps.
        let top = 1 << bits;
        let less_one = |zeros: &[u32]| {
            stream(&zeros.iter().map(|zero| (zero + top - 1) % top).collect::<Vec<_>>(), bits)
        };
        let config = json!({"quantization_config": {"quant_method": "gptq", "bits": bits, "group_size": 32, "sym": false}});
        let tensors = weight.tensors(stream, &less_one);
        same(weights(&tensors, &config), &weight.weights(), &format!("{bits} bits"));
    }
}

#[test]
fn planes_hold_codes_and_zeros_of_2_to_8_bits() {
    for bits in 2..=8 {
        for (rows, cols, group) in [(32, 64, 32), (64, 128, 128), (96, 96, 32)] {
            let weight = Gptq::new(bits, rows, cols, group);
            let config = json!({"quantization_config": {"quant_method": "gptq", "bits": bits, "group_size": group,
                "sym": false, "checkpoint_format": "gptq_p", "meta": {"quantizer": "gptqmodel:7.7.0"}}});
            let tensors = weight.tensors(planes, &|zeros| planes(zeros, bits));
            same(weights(&tensors, &config), &weight.weights(), &format!("{bits} bits, {rows} x {cols}"));
        }
    }
    // Where nothing says that they are planes, five bits are no GPTQ.
    let weight = Gptq::new(5, 32, 64, 32);
    let config =
        json!({"quantization_config": {"quant_method": "gptq", "bits": 5, "group_size": 32, "sym": false}});
    let error = weights(&weight.tensors(planes, &|zeros| planes(zeros, 5)), &config).expect_err("5 bits");
    assert!(error.contains("GPTQ of 5 bits"), "{error}");
}

#[test]
fn autoround_has_the_packings_of_others_and_settings_of_modules() {
    let config = |packing: &str, extra: Value| {
        json!({"quantization_config": {"quant_method": "auto-round", "packing_format": packing, "bits": 4,
            "group_size": 128, "sym": false, "data_type": "int", "extra_config": extra}})
    };
    for bits in [2, 3, 4, 8] {
        let (weight, top) = (Gptq::new(bits, 32, 64, 32), 1 << bits);
        let own = json!({"a": {"bits": bits, "group_size": 32}, "b": {"bits": 16, "data_type": "float"}});
        for packing in ["auto_round", "auto_round:gptqmodel", "auto_round:auto_gptq"] {
            let less = u32::from(packing == "auto_round:auto_gptq");
            let stored = |zeros: &[u32]| {
                stream(&zeros.iter().map(|zero| (zero + top - less) % top).collect::<Vec<_>>(), bits)
            };
            let got = weights(&weight.tensors(stream, &stored), &config(packing, own.clone()));
            same(got, &weight.weights(), &format!("{packing}, {bits} bits"));
        }
    }
    let weight = Gptq::new(4, 32, 64, 32);
    let tensors = weight.tensors(stream, &|zeros| stream(zeros, 4));
    let own = json!({"a": {"group_size": 32, "data_type": "mx_fp"}});
    for (packing, own, words) in [
        ("auto_round", own, "data_type `mx_fp`"),
        ("auto_round:other", json!({}), "packing_format `auto_round:other`"),
    ] {
        let error = weights(&tensors, &config(packing, own)).expect_err("not supported");
        assert!(error.contains("AutoRound") && error.contains(words), "{error}");
    }
}

/// AWQ's gemm under AutoRound's name: nibble `i` of a word is row 0, 2, 4, 6, 1, 3, 5, 7 of eight.
#[test]
fn autoround_awq_is_gemm() {
    let (rows, cols, group) = (16, 64, 32);
    let weight = Gptq::new(4, rows, cols, group);
    let in_order = |values: &[u32]| {
        let word = |eight: &[u32]| {
            [0, 2, 4, 6, 1, 3, 5, 7]
                .iter()
                .enumerate()
                .fold(0, |word, (i, row)| word | eight[*row] << (4 * i))
        };
        values.chunks(8).map(word).collect::<Vec<u32>>()
    };
    let scales: Vec<f32> = (0..cols / group * rows).map(|i| scale(i % rows, i / rows)).collect();
    let tensors = [
        tensor("a.qweight", Dtype::I32, [cols, rows / 8], bytes(&in_order(&weight.codes))),
        tensor("a.qzeros", Dtype::I32, [cols / group, rows / 8], bytes(&in_order(&weight.zeros))),
        tensor("a.scales", Dtype::F16, [cols / group, rows], halves(&scales)),
    ];
    let config = json!({"quantization_config": {"quant_method": "auto-round", "packing_format": "auto_round:auto_awq",
        "bits": 4, "group_size": group, "sym": false, "data_type": "int"}});
    same(weights(&tensors, &config), &weight.weights(), "gemm");
}

/// MLX affine: codes `[rows, cols]`.
fn mlx(bits: usize, rows: usize, cols: usize, group: usize) -> (Vec<Raw>, Vec<f32>) {
    let codes = numbers(rows * cols, 1 << bits);
    let groups = cols / group;
    let words: Vec<u32> = codes.chunks(cols).flat_map(|row| stream(row, bits)).collect();
    let at = |i: usize| (i / groups, i % groups);
    let scales: Vec<f32> = (0..rows * groups).map(|i| scale(at(i).0, at(i).1)).collect();
    let biases: Vec<f32> = scales.iter().map(|scale| -3.0 * scale).collect();
    let weight = |(i, code): (usize, &u32)| {
        let of = i / cols * groups + i % cols / group;
        *code as f32 * scales[of] + biases[of]
    };
    let want = codes.iter().enumerate().map(weight).collect();
    let tensors = vec![
        tensor("a.weight", Dtype::U32, [rows, words.len() / rows], bytes(&words)),
        tensor("a.scales", Dtype::F16, [rows, groups], halves(&scales)),
        tensor("a.biases", Dtype::F16, [rows, groups], halves(&biases)),
    ];
    (tensors, want)
}

#[test]
fn mlx_has_all_widths_and_groups() {
    for bits in [1, 2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            let (tensors, want) = mlx(bits, 3, 384, group);
            let settings = json!({"group_size": group, "bits": bits});
            for key in ["quantization", "quantization_config"] {
                let got = weights(&tensors, &json!({key: settings}));
                same(got, &want, &format!("{bits} bits, groups of {group}"));
            }
            // Of one module alone, where the file has others.
            let all = json!({"group_size": 16, "bits": 7, "mode": "mxfp4", "a": settings, "b": false});
            same(weights(&tensors, &json!({"quantization": all})), &want, "one module");
        }
    }
}

#[test]
fn mlx_says_where_other_settings_must_hold() {
    let (tensors, _) = mlx(4, 3, 384, 64);
    let settings = |group: u64, bits: u64, mode: &str| json!({"quantization": {"group_size": group, "bits": bits, "mode": mode}});
    for config in [settings(32, 4, "affine"), settings(64, 8, "affine"), settings(64, 4, "mxfp4"), json!({})]
    {
        let error = weights(&tensors, &config).expect_err("other settings");
        assert!(error.contains("MLX with settings that are not in its config.json"), "{error}");
    }
}

#[test]
fn schemes_of_modelopt_that_are_not_read_are_named() {
    let f32s = |count: usize| 0.5f32.to_le_bytes().repeat(count);
    let config = |algorithm: &str| json!({"quantization_config": {"quant_method": "modelopt", "quant_algo": algorithm}});
    let int8 = [
        tensor("a.weight", Dtype::I8, [4, 8], vec![1; 32]),
        tensor("a.weight_scale", Dtype::F32, [4, 1], f32s(4)),
    ];
    let w4a8 = [
        tensor("a.weight", Dtype::U8, [2, 8], vec![1; 16]),
        tensor("a.weight_scale", Dtype::F32, [4, 1], f32s(4)),
        ("a.weight_scale_2".into(), Dtype::F32, vec![], f32s(1)),
    ];
    for (tensors, algorithm) in [(&int8[..], "INT8_SQ"), (&w4a8[..], "W4A8_AWQ")] {
        let error = weights(tensors, &config(algorithm)).expect_err("not supported");
        assert!(error.to_lowercase().contains("modelopt"), "{error}");
    }
    // What multiplies activations is never left out.
    let mut fp4 = vec![
        tensor("a.weight", Dtype::U8, [2, 32], vec![0x11; 64]),
        tensor("a.weight_scale", Dtype::U8, [2, 2], vec![127; 4]),
    ];
    assert_eq!(weights(&fp4, &config("MXFP4")).expect("valid"), [0.5; 128]);
    fp4.push(("a.pre_quant_scale".into(), Dtype::F32, vec![64], f32s(64)));
    let error = weights(&fp4, &config("MXFP4")).expect_err("its activations are scaled");
    assert!(error.contains("pre_quant_scale"), "{error}");
}
