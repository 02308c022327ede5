//! Every format against vectors made by ggml, and against its own contract. Shaders are tested in
//! `tests/`.

use super::{Blocks, Codes, FORMATS, Format, NAMES, bits, by_gguf_type, by_name};
use safetensors::SafeTensors;
use std::path::Path;

/// Whole rows by ggml: the packed bytes, what they decode to and, if a quantizer made them, what
/// they were made of.
struct Vector {
    name: String,
    format: &'static Format,
    cols: usize,
    packed: Vec<u8>,
    dequant: Vec<f32>,
    weights: Option<Vec<f32>>,
}

impl Vector {
    fn blocks(&self) -> &'static Blocks {
        self.format.blocks().expect("these vectors are of blocks")
    }
}

/// The vectors of a folder below `tests/golden` whose format is in [`FORMATS`].
fn vectors(folder: &str) -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let entries = std::fs::read_dir(&folder).expect("the golden vectors are in the repository");
    entries.filter_map(|entry| vector(&entry.expect("readable folder").path())).collect()
}

fn vector(path: &Path) -> Option<Vector> {
    let name = path.file_stem()?.to_str()?.to_owned();
    let format = by_name(name.split('.').next()?)?;
    let bytes = std::fs::read(path).expect("readable file");
    let file = SafeTensors::deserialize(&bytes).expect("a golden vector is a safetensors file");
    let floats = |tensor: &str| Some(f32s(file.tensor(tensor).ok()?.data()));
    let dequant = file.tensor("dequant_f32").expect("every vector has its weights");
    Some(Vector {
        cols: dequant.shape()[1],
        packed: file.tensor("packed.data").expect("every vector has its bytes").data().to_vec(),
        dequant: f32s(dequant.data()),
        weights: floats("w_f32"),
        name,
        format,
    })
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Reproducible noise.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}

/// The formats of blocks; formats of several tensors have tests beside them.
fn of_blocks() -> impl Iterator<Item = (&'static Format, &'static Blocks)> {
    FORMATS.iter().filter_map(|f| Some((*f, f.blocks()?)))
}

fn decode(format: &Blocks, row: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; row.len() / format.bytes * format.weights];
    (format.decode)(row, &mut out);
    out
}

/// One zeroed row of every plane with `row` packed into it.
fn pack(format: &Blocks, cols: usize, row: &[u8]) -> Vec<Vec<u32>> {
    let mut planes: Vec<_> = format.planes.iter().map(|plane| vec![0; plane.row_words(cols)]).collect();
    (format.pack)(row, &mut planes.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
    planes
}

fn unpack(format: &Blocks, planes: &[Vec<u32>], row_bytes: usize) -> Vec<u8> {
    let mut row = vec![0xa5; row_bytes]; // what unpack leaves alone shows
    (format.unpack)(&planes.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut row);
    row
}

/// Fails with every failure.
fn report(failures: &[String]) {
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_table_is_sorted_and_found_by_name_and_number() {
    assert!(FORMATS.is_sorted_by(|a, b| a.name < b.name));
    assert!(FORMATS.iter().map(|format| format.name).eq(NAMES.iter().copied()));
    for format in FORMATS {
        assert_eq!(by_name(&format.name.to_lowercase()), Some(*format));
        let first = FORMATS.iter().find(|f| f.stem == format.stem).expect("itself at least");
        assert_eq!(first.shader, format.shader, "{} and {} share a decoder", first.name, format.name);
        if let Some(id) = format.gguf_type {
            assert_eq!(by_gguf_type(id), Some(*format), "{}", format.name);
        }
    }
}

#[test]
fn formats_say_whether_their_shader_has_codes() {
    for format in FORMATS {
        // A decoder that two formats share has what one of them needs.
        let sharing = FORMATS.iter().filter(|f| f.shader == format.shader);
        let needed = sharing.map(|f| f.codes).any(|codes| codes != Codes::None);
        assert_eq!(needed, format.gives_codes(), "{}", format.name);
    }
}

/// Six-bit scales become bytes on the device; nothing else grows.
#[test]
fn planes_hold_every_bit_once() {
    let grown = |name| match name {
        "IQ4_XS" => 8 * 2,
        "Q3_K" | "Q4_K" | "Q5_K" => 16 * 2,
        _ => 0,
    };
    for (format, blocks) in of_blocks() {
        let bits: usize = blocks.planes.iter().map(|plane| plane.bits_per_256).sum();
        let wanted = blocks.bytes * 8 * 256 / blocks.weights + grown(format.name);
        assert_eq!(bits, wanted, "{}", format.name);
    }
}

#[test]
fn decoders_give_the_weights_of_ggml() {
    let all: Vec<_> = ["gguf", "encode"].into_iter().flat_map(vectors).collect();
    let untested =
        of_blocks().map(|(f, _)| f).filter(|f| !f.is_plain() && !all.iter().any(|v| v.format == *f));
    let mut failures: Vec<_> = untested.map(|f| format!("{}: no vector", f.name)).collect();
    for v in &all {
        let got = decode(v.blocks(), &v.packed);
        assert_eq!(got.len(), v.dequant.len(), "{}", v.name);
        // An infinite scale times zero: the sign of that NaN is the processor's.
        let same =
            |(got, want): (&f32, &f32)| got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
        if let Some(i) = got.iter().zip(&v.dequant).position(|pair| !same(pair)) {
            failures.push(format!("{}: weight {i}: got {:e}, want {:e}", v.name, got[i], v.dequant[i]));
        }
    }
    report(&failures);
}

#[test]
fn encoders_give_the_bytes_of_ggml() {
    let all: Vec<_> =
        ["gguf", "encode"].into_iter().flat_map(vectors).filter(|v| v.weights.is_some()).collect();
    let untested = of_blocks().filter(|(_, b)| b.encode.is_some() && b.weights > 1).map(|(f, _)| f);
    let untested = untested.filter(|f| all.iter().filter(|v| v.format == *f).count() < 2);
    let mut failures: Vec<_> = untested.map(|f| format!("{}: fewer than 2 vectors", f.name)).collect();
    for v in all {
        let (Some(encode), Some(weights)) = (v.blocks().encode, &v.weights) else { continue };
        let mut got = vec![0xa5; v.packed.len()];
        encode(weights, &mut got);
        let bytes = v.blocks().bytes;
        let blocks = got.chunks(bytes).zip(v.packed.chunks(bytes));
        if let Some((i, (got, want))) = blocks.enumerate().find(|(_, (got, want))| got != want) {
            let row = i * v.blocks().weights / v.cols;
            failures.push(format!("{}: row {row}, block {i}: got {got:02x?}, want {want:02x?}", v.name));
        }
    }
    report(&failures);
}

/// [`PackedTensor::encode`](crate::tensor::PackedTensor::encode) refuses these; the encoders must
/// only survive them.
#[test]
fn encoders_survive_what_is_no_number() {
    for (format, encode) in of_blocks().filter_map(|(f, b)| Some((f, b.encode?))) {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut weights = [1.0; 32];
            weights[7] = value;
            let mut row = vec![0; format.row_bytes(32).expect("32 columns fit every encoder")];
            encode(&weights, &mut row);
        }
    }
}

/// Two codes a byte, the first in the low nibble.
#[test]
fn pairs_of_nibbles_are_packed_in_order() {
    let bytes = noise(16);
    let codes: [u8; 32] = std::array::from_fn(|i| bytes[i / 2] >> (i % 2 * 4) & 15);
    for count in 0..=16 {
        let mut words = [0; 4];
        bits::put_nibble_pairs(&mut words, &bytes[..count]);
        let codes = std::array::from_fn(|i| if i < 2 * count { codes[i] } else { 0u8 });
        assert_eq!(words, bits::pack_nibbles(&codes), "{count} bytes");
    }
}

/// In blocks: one, odd, even, and what does or does not fill a `vec4<u32>` of scales.
const BLOCKS: [usize; 8] = [1, 2, 3, 7, 8, 9, 31, 64];

#[test]
fn packing_is_lossless() {
    for (format, blocks) in of_blocks() {
        for cols in BLOCKS.map(|n| n * blocks.weights) {
            let row_bytes = format.row_bytes(cols).expect("whole blocks");
            let row = noise(row_bytes);
            let planes = pack(blocks, cols, &row);
            assert_eq!(unpack(blocks, &planes, row_bytes), row, "{}, {cols} columns", format.name);
            let ones = |words: u32, word: &u32| words + word.count_ones();
            let wanted: u32 = row.iter().map(|byte| byte.count_ones()).sum();
            let set = planes.iter().flatten().fold(0, ones);
            assert_eq!(set, wanted, "{}, {cols} columns: the padding is not zero", format.name);
        }
    }
}

#[test]
fn packing_is_lossless_on_the_vectors() {
    for v in ["gguf", "encode"].into_iter().flat_map(vectors) {
        let row_bytes = v.format.row_bytes(v.cols).expect("whole blocks");
        for row in v.packed.chunks(row_bytes) {
            assert_eq!(unpack(v.blocks(), &pack(v.blocks(), v.cols, row), row_bytes), row, "{}", v.name);
        }
    }
}

#[test]
fn rows_of_planes_are_whole_vectors_that_hold_whole_chunks() {
    for plane in of_blocks().flat_map(|(_, b)| b.planes) {
        for cols in [1usize, 5, 31, 32, 33, 96, 256, 1056, 4096, 11_008, (1 << 31) - 32, 1 << 31] {
            let bits = cols.div_ceil(32) as u128 * plane.bits_per_256 as u128 / 8;
            let wanted = bits.div_ceil(128) * 4;
            assert_eq!(plane.row_words(cols) as u128, wanted, "{plane:?}, {cols} columns");
        }
    }
}

/// Formats without scales, or whose scales cannot be NaN or infinite.
const ALWAYS_FINITE: &[&str] = &["I16", "I32", "I64", "I8", "NVFP4"];

/// A block decodes to finite weights exactly if its scales are finite.
#[test]
fn scales_that_are_not_finite_are_seen() {
    for (format, blocks) in of_blocks() {
        let bytes = noise(4096 * blocks.bytes);
        let mut seen = [0, 0];
        for block in bytes.chunks(blocks.bytes) {
            let finite = decode(blocks, block).iter().all(|w| w.is_finite());
            assert_eq!((blocks.is_finite)(block), finite, "{}: {block:02x?}", format.name);
            seen[usize::from(finite)] += 1;
        }
        if ALWAYS_FINITE.contains(&format.name) {
            assert_eq!(seen[0], 0, "{}", format.name);
            continue;
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{}: the noise tests only one outcome", format.name);
        assert!(!(blocks.is_finite)(&bytes), "{}: a bad block among good ones", format.name);
    }
}

/// Bits of the f32 that a plain number decodes to.
fn decoded(name: &str, bytes: &[u8]) -> u32 {
    decode(by_name(name).expect(name).blocks().expect(name), bytes)[0].to_bits()
}

#[test]
fn doubles_round_to_nearest_even() {
    let cases: &[(u64, u32)] = &[
        (0x0000_0000_0000_0000, 0x0000_0000),
        (0x8000_0000_0000_0000, 0x8000_0000),
        (0x3ff0_0000_1000_0000, 0x3f80_0000), // half, down to even
        (0x3ff0_0000_1000_0001, 0x3f80_0001), // more than half
        (0xbff0_0000_3000_0000, 0xbf80_0002), // half, up to even
        (0x3fff_ffff_f000_0000, 0x4000_0000), // the carry goes into the exponent
        (0x47ef_ffff_efff_ffff, 0x7f7f_ffff), // the largest f32
        (0x47ef_ffff_f000_0000, 0x7f80_0000), // half a step more is infinite
        (0x3810_0000_0000_0000, 0x0080_0000), // the smallest normal f32
        (0x380f_ffff_f000_0000, 0x0080_0000), // half a step less rounds to it
        (0x380f_ffff_cfff_ffff, 0x007f_ffff), // less than that is subnormal
        (0x36a0_0000_0000_0000, 0x0000_0001), // the smallest f32
        (0x3690_0000_0000_0001, 0x0000_0001), // more than half of it
        (0x3690_0000_0000_0000, 0x0000_0000), // half of it
        (0x0000_0000_0000_0001, 0x0000_0000), // the smallest f64
    ];
    for (double, single) in cases {
        let got = decoded("F64", &double.to_le_bytes());
        assert_eq!(got, *single, "{double:016x}: got {got:08x}, want {single:08x}");
    }
}

#[test]
fn large_integers_round_to_nearest_even() {
    let cases: &[(i64, u32)] = &[
        (0, 0x0000_0000),
        (-1, 0xbf80_0000),
        ((1 << 24) + 1, 0x4b80_0000),             // half, down to even
        (-((1 << 24) + 3), 0xcb80_0002),          // half, up to even
        ((1 << 25) - 1, 0x4c00_0000),             // the carry goes into the exponent
        ((1 << 40) + (1 << 16), 0x5380_0000),     // half
        ((1 << 40) + (1 << 16) + 1, 0x5380_0001), // a last bit that makes it more than half
        (i64::MAX, 0x5f00_0000),
        (i64::MIN, 0xdf00_0000),
    ];
    for (integer, single) in cases {
        let got = decoded("I64", &integer.to_le_bytes());
        assert_eq!(got, *single, "{integer}: got {got:08x}, want {single:08x}");
        if let Ok(integer) = i32::try_from(*integer) {
            assert_eq!(decoded("I32", &integer.to_le_bytes()), *single, "{integer}");
        }
    }
}
