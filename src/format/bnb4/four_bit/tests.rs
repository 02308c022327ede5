//! The encoder against vectors made by bitsandbytes.

use super::{FourBit, dynamic_map};
use crate::format::recipe::{Dtype, FourBitConfig, Recipe};
use crate::format::storage::Part;
use crate::format::{self, Storage, by_name};
use crate::tensor::PackedTensor;
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::Path;

/// Every vector that says what it was made of.
const ENCODED: &[&str] =
    &["fp4.b64", "nf4.b128.tail", "nf4.b64", "nf4.b64.dq", "nf4.b64.store_bf16", "nf4.b64.straddle"];

fn bytes(name: &str) -> Vec<u8> {
    let file = format!("tests/golden/bnb/{name}.safetensors");
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("it is in the repository")
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Encodes what a vector was made of as its own state says.
fn encode(name: &str, file: &SafeTensors) -> PackedTensor {
    let format = by_name(&name[..3]).expect("named after the format");
    let state = state(file.tensor(&format!("packed.weight.{}", suffix(name))).expect("it is there").data());
    let config = FourBitConfig {
        block: state["blocksize"].as_u64().expect("a number") as usize,
        double: state.get("nested_blocksize").is_some(),
        dtype: state["dtype"].as_str().and_then(Dtype::from_name).expect("a type"),
    };
    let weights = file.tensor("w_f32").expect("it is there");
    let shape = [weights.shape()[0], weights.shape()[1]];
    PackedTensor::encode(name, shape, &floats(weights.data()), &Recipe::four_bit(format, config))
        .expect("finite")
}

fn suffix(name: &str) -> String {
    format!("quant_state.bitsandbytes__{}", &name[..3])
}

fn state(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("the state is JSON")
}

/// Codes, scales, nested scales, maps and books: all parts, byte for byte, but the spaces of the
/// JSON.
#[test]
fn the_encoder_gives_the_bytes_of_bitsandbytes() {
    for name in ENCODED {
        let bytes = bytes(name);
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let parts = encode(name, &file).parts();
        let golden = file.names().into_iter().filter(|n| n.starts_with("packed.weight")).count();
        assert_eq!(parts.len(), golden, "{name}");
        for Part { suffix: part, bytes, .. } in parts {
            let want = file.tensor(&format!("packed.weight{part}"));
            let want = want.unwrap_or_else(|e| panic!("{name}: {part}: {e}")).data().to_vec();
            if part.contains(&suffix(name)) {
                assert_eq!(state(&bytes), state(&want), "{name}: {part}");
                continue;
            }
            let wrong = bytes.iter().zip(&want).position(|(a, b)| a != b);
            assert_eq!((wrong, bytes.len()), (None, want.len()), "{name}: {part}: first different byte");
        }
    }
}

#[test]
fn the_map_of_nested_scales_is_that_of_bitsandbytes() {
    let bytes = bytes("dynamic_map_8bit");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let want = floats(file.tensor("packed.code").expect("it is there").data());
    let bits = |map: &[f32]| map.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&dynamic_map()), bits(&want));
}

/// Normal numbers by Box and Muller: the tails decide about the scales.
fn normals(count: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut pair = || {
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
        [radius * angle.cos(), radius * angle.sin()]
    };
    (0..count / 2).flat_map(|_| pair()).map(|v| v as f32).collect()
}

/// The mean error that bitsandbytes' own tests expect for blocks of 64: 0.0728 with NF4, 0.0965
/// with FP4.
#[test]
fn normal_weights_lose_as_little_as_with_bitsandbytes() {
    let weights = normals(1 << 20);
    for (format, wanted) in [(format::NF4, 0.0728), (format::FP4, 0.0965)] {
        let name = format.name;
        for double in [false, true] {
            let recipe = Recipe::four_bit(format, FourBitConfig { double, ..FourBitConfig::default() });
            let packed = PackedTensor::encode("w", [1024, 1024], &weights, &recipe);
            let decoded = packed.expect("finite").dequantize();
            let error = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
            let mean = weights.iter().zip(&decoded).map(error).sum::<f64>() / weights.len() as f64;
            println!("{name}, scales quantized: {double}: {mean}");
            assert!((mean - wanted).abs() <= 0.0002, "{name}, scales quantized: {double}: {mean}");
        }
    }
}

/// The book of a file may have values above one, and make infinite weights of a scale that is a
/// number.
#[test]
fn weights_beyond_f32_are_found() {
    for (value, code, finite) in [(1.0, 0xff, true), (2.0, 0xff, false), (2.0, 0x00, true)] {
        let mut book = [0.5; 16];
        book[15] = value;
        let weight = FourBit {
            format: format::NF4,
            shape: vec![1, 64],
            config: FourBitConfig::default(),
            codes: vec![code; 32].into(),
            absmax: vec![3e38],
            book,
            nested: None,
        };
        assert_eq!(weight.is_finite(0..1), finite, "{value} {code:x}");
    }
}
