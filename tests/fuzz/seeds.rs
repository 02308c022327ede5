//! Small valid inputs, one for each layout that a reader knows.

use crate::mutate::Tensor;
use serde_json::{Value, json};

/// A checkpoint: its tensors and its config.json.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub tensors: Vec<Tensor>,
    pub config: Value,
}

fn tensor(name: &str, dtype: &'static str, shape: &[u64], bytes: impl Into<Vec<u8>>) -> Tensor {
    Tensor { name: name.into(), dtype, shape: shape.into(), bytes: bytes.into() }
}

/// `count` bytes of all kinds.
fn codes(count: u64) -> Vec<u8> {
    (0..count).map(|i| (i * 37 + 11) as u8).collect()
}

fn halves(count: usize) -> Vec<u8> {
    half::f16::from_f32(0.25).to_le_bytes().repeat(count)
}

fn floats(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| (0.01 + i as f32 * 0.001).to_le_bytes()).collect()
}

fn words(values: impl IntoIterator<Item = i32>) -> Vec<u8> {
    values.into_iter().flat_map(i32::to_le_bytes).collect()
}

fn longs(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn checkpoint(settings: Value, tensors: Vec<Tensor>) -> Checkpoint {
    Checkpoint { tensors, config: json!({"model_type": "llama", "quantization_config": settings}) }
}

/// A file of the plain types, one tensor empty and one a scalar.
pub fn plain() -> Checkpoint {
    checkpoint(
        Value::Null,
        vec![
            tensor("a.weight", "F32", &[2, 3], floats(6)),
            tensor("a.bias", "BF16", &[2], codes(4)),
            tensor("x", "F16", &[4], halves(4)),
            tensor("none", "U8", &[0, 7], []),
            tensor("one", "I64", &[], longs(&[1])),
        ],
    )
}

/// Activations as they are captured: a layer's, and those of all.
pub fn activations() -> Vec<Checkpoint> {
    let of = |tensors| checkpoint(Value::Null, tensors);
    vec![
        of(vec![tensor("layer.0.x", "F32", &[2, 3], floats(6)), tensor("x", "F16", &[4], halves(4))]),
        of(vec![tensor("alone", "BF16", &[2, 2], codes(8))]),
    ]
}

/// The dictionary of an array of NumPy's, and its data.
pub fn npy() -> (Vec<u8>, Vec<u8>) {
    (b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n".to_vec(), floats(6))
}

/// An adapter of two modules.
pub fn adapter() -> Checkpoint {
    let name = |module: &str, side: &str| format!("base_model.model.{module}.lora_{side}.weight");
    Checkpoint {
        tensors: vec![
            tensor(&name("a.q", "A"), "F32", &[2, 3], floats(6)),
            tensor(&name("a.q", "B"), "F32", &[4, 2], floats(8)),
            tensor(&name("b", "A.default"), "F16", &[1, 3], halves(3)),
            tensor(&name("b", "B.default"), "F16", &[2, 1], halves(2)),
        ],
        config: json!({
            "peft_type": "LORA", "r": 2, "lora_alpha": 16, "use_rslora": false, "rank_pattern": {"b": 1},
            "alpha_pattern": {"^a.q$": 0.5}, "bias": "none", "init_lora_weights": "gaussian", "use_dora": false,
        }),
    }
}

/// One checkpoint at least of each convention of the hub.
pub fn conventions() -> Vec<Checkpoint> {
    vec![
        gptq(),
        awq("gemm", [[64, 2], [2, 2], [2, 16]]),
        awq("gemv", [[16, 8], [16, 4], [16, 32]]),
        four_bit(),
        int8(),
        integers(),
        plain_integers(),
        fp8("weight_scale_inv", &[2, 3], json!({"quant_method": "fp8", "weight_block_size": [4, 8]})),
        fp8("weight_scale", &[6, 1], Value::Null),
        gpt_oss(),
        compressed("mxfp4-pack-quantized", tensor("a.weight_scale", "U8", &[2, 2], vec![127; 4]), None),
        compressed(
            "nvfp4-pack-quantized",
            tensor("a.weight_scale", "F8_E4M3", &[2, 4], vec![0x38; 8]),
            Some(tensor("a.weight_global_scale", "F32", &[1], floats(1))),
        ),
        modelopt(),
        hqq(4, tensor("a.W_q", "U8", &[2, 16], codes(32))),
        hqq(3, tensor("a.W_q", "I32", &[1, 16], codes(64))),
        hqq_down(),
        planes(),
        auto_round("auto_round"),
        auto_round("auto_round:auto_awq"),
        gemv_fast(),
        fp8("weight_scale_inv", &[6], json!({"quant_method": "fp8", "weight_scale_semantics": "inverse"})),
        mlx(
            json!({"group_size": 32, "bits": 5, "mode": "affine", "b": {"bits": 2, "group_size": 64}}),
            10,
            "F16",
        ),
        mlx(json!({"group_size": 32, "bits": 4, "mode": "mxfp4"}), 8, "U8"),
        mlx(json!({"group_size": 32, "bits": 8, "mode": "mxfp8"}), 16, "U8"),
        mlx(json!({"group_size": 16, "bits": 4, "mode": "nvfp4"}), 4, "U8"),
        modelopt_int4(),
        modelopt_mxfp4(),
        torchao(),
        conv1d(),
    ]
}

/// HQQ whose groups run down the rows.
fn hqq_down() -> Checkpoint {
    checkpoint(
        json!({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 16, "axis": 0}}}),
        vec![
            tensor("a.W_q", "U8", &[8, 6], codes(48)),
            tensor("a.scale", "F16", &[1, 6], halves(6)),
            tensor("a.zero", "F16", &[1, 6], halves(6)),
            tensor("a.shape", "I64", &[2], longs(&[8, 12])),
        ],
    )
}

/// GPTQ of 5 bits in planes.
fn planes() -> Checkpoint {
    checkpoint(
        json!({"quant_method": "gptq", "bits": 5, "group_size": 32, "sym": false, "checkpoint_format": "gptq_p", "meta": {"quantizer": ["gptqmodel:7.7.0"]}}),
        vec![
            tensor("a.qweight", "I32", &[10, 32], codes(1280)),
            tensor("a.qzeros", "I32", &[2, 5], codes(40)),
            tensor("a.scales", "F16", &[2, 32], halves(64)),
        ],
    )
}

fn auto_round(packing: &str) -> Checkpoint {
    let mut seed = if packing.ends_with("awq") { awq("gemm", [[64, 2], [2, 2], [2, 16]]) } else { gptq() };
    seed.config["quantization_config"] = json!({
        "quant_method": "auto-round", "packing_format": packing, "bits": 4, "group_size": 16, "sym": false,
        "data_type": "int", "extra_config": {"a": {"group_size": 32}, "b": {"bits": 16, "data_type": "float"}},
    });
    seed.tensors.retain(|t| t.name != "a.g_idx");
    seed
}

fn gemv_fast() -> Checkpoint {
    checkpoint(
        json!({"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": true, "version": "gemv_fast"}),
        vec![
            tensor("a.qweight", "I16", &[2, 64], codes(256)),
            tensor("a.scales", "F16", &[32, 8], halves(256)),
            tensor("a.qzeros", "F16", &[32, 8], halves(256)),
        ],
    )
}

/// Two matrices of three rows and 64 columns, in groups of 32, or 16 of two words.
fn mlx(settings: Value, words: u64, scale: &'static str) -> Checkpoint {
    let scales = if scale == "U8" { vec![0x38; 12] } else { halves(12) };
    let mut tensors = vec![
        tensor("a.weight", "U32", &[2, 3, words], codes(24 * words)),
        tensor("a.scales", scale, &[2, 3, 2], scales),
    ];
    match (scale, words) {
        ("F16", _) => tensors.push(tensor("a.biases", "F16", &[2, 3, 2], halves(12))),
        (_, 4) => tensors.push(tensor("a.global_scale", "F32", &[2], floats(2))),
        _ => {}
    }
    Checkpoint { tensors, config: json!({"model_type": "llama", "quantization": settings}) }
}

fn modelopt_int4() -> Checkpoint {
    checkpoint(
        json!({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}),
        vec![
            tensor("a.weight", "U8", &[2, 16], codes(32)),
            tensor("a.weight_scale", "F32", &[4, 2], floats(8)),
            tensor("a.pre_quant_scale", "BF16", &[16], halves(16)),
        ],
    )
}

fn modelopt_mxfp4() -> Checkpoint {
    checkpoint(
        json!({"quant_method": "modelopt", "quant_algo": "MXFP4"}),
        vec![
            tensor("a.weight", "U8", &[2, 32], codes(64)),
            tensor("a.weight_scale", "U8", &[2, 2], vec![127; 4]),
        ],
    )
}

fn torchao() -> Checkpoint {
    checkpoint(
        json!({"quant_method": "torchao"}),
        vec![
            tensor("a._weight_qdata", "I8", &[2, 8], codes(16)),
            tensor("a._weight_scale", "F32", &[2, 1], floats(2)),
        ],
    )
}

fn conv1d() -> Checkpoint {
    Checkpoint {
        tensors: vec![
            tensor("h.0.attn.c_attn.weight", "F16", &[2, 6], halves(12)),
            tensor("h.0.attn.c_attn.bias", "F16", &[6], halves(6)),
        ],
        config: json!({"model_type": "gpt2"}),
    }
}

fn gptq() -> Checkpoint {
    let settings = json!({"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": false, "desc_act": true, "dynamic": {}, "checkpoint_format": "gptq"});
    let order = words((0..64).map(|i| i * 37 % 64 / 32));
    checkpoint(
        settings,
        vec![
            tensor("a.qweight", "I32", &[8, 16], codes(512)),
            tensor("a.qzeros", "I32", &[2, 2], codes(16)),
            tensor("a.scales", "F16", &[2, 16], halves(32)),
            tensor("a.g_idx", "I32", &[64], order),
        ],
    )
}

fn awq(version: &str, [q, z, s]: [[u64; 2]; 3]) -> Checkpoint {
    let settings =
        json!({"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": true, "version": version});
    checkpoint(
        settings,
        vec![
            tensor("a.qweight", "I32", &q, codes(4 * q[0] * q[1])),
            tensor("a.qzeros", "I32", &z, codes(4 * z[0] * z[1])),
            tensor("a.scales", "F16", &s, halves((s[0] * s[1]) as usize)),
        ],
    )
}

/// NF4 whose scales are quantized.
fn four_bit() -> Checkpoint {
    let state = json!({
        "quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [4, 64],
        "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5,
    });
    checkpoint(
        json!({"quant_method": "bitsandbytes", "load_in_4bit": true}),
        vec![
            tensor("a.weight", "U8", &[128, 1], codes(128)),
            tensor("a.weight.absmax", "U8", &[4], codes(4)),
            tensor("a.weight.quant_map", "F32", &[16], floats(16)),
            tensor("a.weight.nested_absmax", "F32", &[1], floats(1)),
            tensor("a.weight.nested_quant_map", "F32", &[256], floats(256)),
            text("a.weight.quant_state.bitsandbytes__nf4", &state),
        ],
    )
}

fn text(name: &str, value: &Value) -> Tensor {
    let bytes = value.to_string().into_bytes();
    tensor(name, "U8", &[bytes.len() as u64], bytes)
}

/// LLM.int8 with two columns kept.
fn int8() -> Checkpoint {
    checkpoint(
        json!({"quant_method": "bitsandbytes", "load_in_8bit": true}),
        vec![
            tensor("a.weight", "I8", &[3, 8], codes(24)),
            tensor("a.SCB", "F32", &[3], floats(3)),
            tensor("a.weight_format", "U8", &[], [0]),
            tensor("a.outlier_columns", "I32", &[2], words([1, 7])),
            tensor("a.outlier_weight", "F16", &[3, 2], halves(6)),
        ],
    )
}

fn integers() -> Checkpoint {
    let weights = json!({"num_bits": 4, "group_size": 32, "symmetric": false});
    checkpoint(
        json!({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {"weights": weights}}}),
        vec![
            tensor("a.weight_packed", "I32", &[8, 8], codes(256)),
            tensor("a.weight_scale", "BF16", &[8, 2], halves(16)),
            tensor("a.weight_shape", "I64", &[2], longs(&[8, 64])),
            tensor("a.weight_zero_point", "I32", &[1, 2], codes(8)),
            tensor("a.weight_g_idx", "I32", &[64], words((0..64).map(|i| i / 32))),
        ],
    )
}

fn plain_integers() -> Checkpoint {
    checkpoint(
        json!({"quant_method": "compressed-tensors", "format": "int-quantized"}),
        vec![
            tensor("a.weight", "I8", &[3, 8], codes(24)),
            tensor("a.weight_scale", "F32", &[3, 1], floats(3)),
            tensor("a.weight_zero_point", "I8", &[3, 1], codes(3)),
        ],
    )
}

fn fp8(scale: &str, shape: &[u64], settings: Value) -> Checkpoint {
    let count = shape.iter().product::<u64>() as usize;
    let mut tensors = vec![
        tensor("a.weight", "F8_E4M3", &[6, 20], vec![0x38; 120]),
        tensor(&format!("a.{scale}"), "F32", shape, floats(count)),
    ];
    // Settings promise each weight a scale.
    if settings.is_null() {
        tensors.push(tensor("alone.weight", "F8_E5M2", &[2, 2], vec![0x3c; 4]));
    }
    checkpoint(settings, tensors)
}

fn gpt_oss() -> Checkpoint {
    checkpoint(
        json!({"quant_method": "mxfp4"}),
        vec![
            tensor("a_blocks", "U8", &[2, 3, 2, 16], codes(192)),
            tensor("a_scales", "U8", &[2, 3, 2], vec![127; 12]),
        ],
    )
}

fn compressed(format: &str, scale: Tensor, global: Option<Tensor>) -> Checkpoint {
    let codes = tensor("a.weight_packed", "U8", &[2, 32], codes(64));
    let settings = json!({"quant_method": "compressed-tensors", "format": format});
    checkpoint(settings, [codes, scale].into_iter().chain(global).collect())
}

fn modelopt() -> Checkpoint {
    checkpoint(
        json!({"quant_method": "modelopt", "quant_algo": "NVFP4"}),
        vec![
            tensor("a.weight", "U8", &[2, 16], codes(32)),
            tensor("a.weight_scale", "F8_E4M3", &[2, 2], vec![0x38; 4]),
            tensor("a.weight_scale_2", "F32", &[], floats(1)),
        ],
    )
}

fn hqq(bits: i64, codes: Tensor) -> Checkpoint {
    let groups = if bits == 4 { 4 } else { 8 };
    checkpoint(
        json!({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": bits, "group_size": 16, "axis": 1}}}),
        vec![
            codes,
            tensor("a.scale", "F16", &[groups, 1], halves(groups as usize)),
            tensor("a.zero", "F16", &[groups, 1], halves(groups as usize)),
            tensor("a.shape", "I64", &[2], longs(&[2, groups as i64 * 8])),
            tensor("a.nbits", "I64", &[], longs(&[bits])),
            tensor("a.group_size", "I32", &[], words([16])),
            tensor("a.axis", "I64", &[], longs(&[1])),
        ],
    )
}

/// An importance matrix in the older form: two weights, chunks and a data set.
pub fn imatrix() -> Vec<u8> {
    let mut file = 2i32.to_le_bytes().to_vec();
    for (name, values) in [("blk.0.attn_k.weight", &[0.5f32, 1.5][..]), ("output", &[2.0])] {
        file.extend((name.len() as i32).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend([3, values.len() as i32].map(i32::to_le_bytes).concat());
        values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    }
    file.extend([110, 7].map(i32::to_le_bytes).concat());
    file.extend(b"text.md");
    file
}
