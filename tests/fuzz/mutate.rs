//! Mutations: of bytes, of the tokens of JSON, and of the tensors of a checkpoint.

use qmatmul::check::Random;
use serde_json::{Value, json};
use std::ops::Range;

/// Below `n`; 0 for 0.
pub fn below(random: &mut Random, n: usize) -> usize {
    ((random.next_u64() >> 33) as usize).checked_rem(n).unwrap_or(0)
}

fn one_of<T: Clone>(random: &mut Random, all: &[T]) -> T {
    all[below(random, all.len())].clone()
}

/// Integers at which sums, products, signs and conversions change their minds.
fn number(random: &mut Random) -> u64 {
    let power = 1u64 << below(random, 64);
    let near = [power, power - 1, power.wrapping_add(1), 0, 1, 2, 3, 16, 31, 32, 33, 64, 127, 128, 255, 256];
    one_of(random, &near)
}

fn byte(random: &mut Random) -> u8 {
    let any = random.next_u64() as u8;
    one_of(random, &[0, 1, 0x7f, 0x80, 0xff, any])
}

fn range(random: &mut Random, len: usize) -> Range<usize> {
    let start = below(random, len);
    let most = if below(random, 4) == 0 { len } else { 16 };
    start..(start + 1 + below(random, most)).min(len)
}

/// One mutation of any bytes.
pub fn bytes(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = below(random, bytes.len());
    match below(random, 10) {
        _ if bytes.is_empty() => bytes.push(byte(random)),
        0 | 1 => bytes[at] ^= 1 << below(random, 8),
        2 | 3 => bytes[at] = byte(random),
        4 => integer(random, bytes, at),
        5 => integer(random, bytes, at & !7),
        6 => bytes.truncate(at),
        7 => {
            let more: Vec<u8> = (0..1 + below(random, 16)).map(|_| byte(random)).collect();
            bytes.splice(at..at, more);
        }
        8 => drop(bytes.drain(range(random, bytes.len()))),
        _ => {
            // A range again somewhere else, in place of what is there or before it.
            let copy = bytes[range(random, bytes.len())].to_vec();
            let end = if below(random, 2) == 0 { at } else { (at + copy.len()).min(bytes.len()) };
            bytes.splice(at..end, copy);
        }
    }
}

/// Overwrites 1, 2, 4 or 8 bytes.
fn integer(random: &mut Random, bytes: &mut [u8], at: usize) {
    let size = 1 << below(random, 4);
    let value = if below(random, 4) == 0 { number(random).wrapping_neg() } else { number(random) };
    for (to, from) in bytes[at..].iter_mut().zip(&value.to_le_bytes()[..size]) {
        *to = *from;
    }
}

/// One mutation of JSON: of its bytes, or of its tokens.
pub fn text(random: &mut Random, text: &mut Vec<u8>) {
    let tokens = tokens(text);
    if tokens.is_empty() || below(random, 3) == 0 {
        return bytes(random, text);
    }
    let [a, b] = [(); 2].map(|()| one_of(random, &tokens));
    let new = match below(random, 6) {
        0..3 => text[b].to_vec(),
        3 => number(random).to_string().into_bytes(),
        4 => one_of(random, VALUES).into(),
        _ => vec![],
    };
    text.splice(a, new);
}

/// Tokens to put anywhere.
const VALUES: &[&[u8]] = &[
    b"null",
    b"true",
    b"false",
    b"-1",
    b"1e400",
    b"0.5",
    b"1e-400",
    b"[]",
    b"{}",
    b"\"\"",
    b"[[[[[[[[",
    b"{\"a\":",
    b"\"\\u001b[2J\\ud800\"",
    b"\"F8_E4M3\"",
    b"\"F32\"",
    b"\"U8\"",
    b"\"I32\"",
    b"\"F4\"",
    b"[0,9223372036854775808]",
    b"[18446744073709551615]",
    b"99999999999999999999999",
];

/// Texts, numbers and words of JSON, and single signs.
fn tokens(text: &[u8]) -> Vec<Range<usize>> {
    let (mut tokens, mut at) = (vec![], 0);
    while at < text.len() {
        let rest = &text[at..];
        let len = match rest[0] {
            b'"' => rest[1..].iter().position(|b| *b == b'"').map_or(rest.len(), |end| end + 2),
            b if b.is_ascii_alphanumeric() => {
                rest.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(rest.len())
            }
            _ => 1,
        };
        tokens.push(at..at + len);
        at += len;
    }
    tokens
}

/// One mutation of a settings value somewhere inside.
pub fn value(random: &mut Random, value: &mut Value) {
    let inner = match value {
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(below(random, map.len())).cloned().unwrap_or_default();
            if below(random, 12) == 0 {
                map.remove(&key);
                return;
            }
            map.get_mut(&key)
        }
        Value::Array(list) if !list.is_empty() => {
            let i = below(random, list.len());
            Some(&mut list[i])
        }
        _ => None,
    };
    match inner {
        Some(inner) if below(random, 5) > 0 => self::value(random, inner),
        _ => *value = setting(random),
    }
}

/// What settings may say.
fn setting(random: &mut Random) -> Value {
    const WORDS: &[&str] = &[
        "gptq",
        "gptq_v2",
        "awq",
        "gemm",
        "gemv",
        "bitsandbytes",
        "compressed-tensors",
        "fp8",
        "hqq",
        "mxfp4",
        "nvfp4",
        "modelopt",
        "",
        "\u{1b}[2J",
        "pack-quantized",
        "mixed-precision",
        "channel",
        "none",
    ];
    match below(random, 8) {
        0 => Value::Null,
        1 => json!(below(random, 2) == 0),
        2 => json!((number(random) as i64).wrapping_neg()),
        3 => json!(one_of(random, &[0.5, -0.0, 1e308, 1e-308, 4.0])),
        4 => json!(one_of(random, WORDS)),
        5 => one_of(
            random,
            &[
                json!([]),
                json!({}),
                json!([1, 2]),
                json!([0, 0]),
                json!({"a": {"weights": {"group_size": 1}}}),
            ],
        ),
        _ => json!(number(random)),
    }
}

/// A tensor of a checkpoint, whose header may lie.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

const DTYPES: &[(&str, u64)] = &[
    ("U8", 8),
    ("I8", 8),
    ("BOOL", 8),
    ("I16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("F32", 32),
    ("I64", 64),
    ("F64", 64),
    ("F8_E4M3", 8),
    ("F8_E5M2", 8),
    ("F8_E8M0", 8),
    ("F4", 4),
    ("U16", 16),
    ("U32", 32),
];
/// The most bytes that a tensor is filled up to.
const MOST: u64 = 1 << 16;

impl Tensor {
    /// As many bytes as type and shape want, or none, with a dimension of 0 that hides the others.
    fn fit(&mut self) {
        let bits = DTYPES.iter().find(|(name, _)| *name == self.dtype).map_or(8, |(_, bits)| *bits);
        let bytes = self
            .shape
            .iter()
            .try_fold(bits, |product, dim| product.checked_mul(*dim))
            .map(|bits| bits.div_ceil(8));
        match bytes.filter(|bytes| *bytes <= MOST) {
            Some(bytes) => self.bytes.resize(bytes as usize, 1),
            None => {
                self.shape.push(0);
                self.bytes.clear();
            }
        }
    }

    fn dims(&mut self, random: &mut Random) {
        let at = below(random, self.shape.len());
        match below(random, 8) {
            0 => self.shape.insert(at, one_of(random, &[0, 1, 2])),
            _ if self.shape.is_empty() => self.shape.push(number(random)),
            1 => drop(self.shape.remove(at)),
            2 => self.shape.rotate_left(1),
            3 => self.shape[at] = 0,
            4 => self.shape[at] = self.shape[at].wrapping_add(1),
            5 => {
                // What is empty may have any other dimensions.
                self.shape.iter_mut().for_each(|dim| *dim = number(random));
                self.shape[at] = 0;
            }
            _ => self.shape[at] = number(random),
        }
    }
}

/// One mutation of the tensors of a checkpoint.
pub fn tensors(random: &mut Random, all: &mut Vec<Tensor>) {
    let (a, b) = (below(random, all.len()), below(random, all.len()));
    match below(random, 12) {
        _ if all.is_empty() => {}
        0 => drop(all.remove(a)),
        1 => {
            all[a].name =
                all[b].name.clone() + one_of(random, &["", "_scale", "_scale_2", ".absmax", "\u{1b}"])
        }
        2 => {
            let tail = all[b].name.rsplit_once('.').map_or("", |(_, tail)| tail).to_owned();
            let head = all[a].name.split_once('.').map_or("a", |(head, _)| head);
            let copy = Tensor { name: format!("{head}.{tail}"), ..all[a].clone() };
            all.push(copy);
        }
        3 => {
            all[a].shape = all[b].shape.clone();
            all[a].fit();
        }
        4 => {
            all[a].dtype = one_of(random, DTYPES).0;
            all[a].fit();
        }
        5 | 6 => {
            let at = below(random, all[a].bytes.len());
            integer(random, &mut all[a].bytes, at);
        }
        7 => text(random, &mut all[a].bytes),
        _ => {
            all[a].dims(random);
            if below(random, 8) > 0 {
                all[a].fit();
            }
        }
    }
}

/// The file of these tensors, as they are.
pub fn file(tensors: &[Tensor]) -> Vec<u8> {
    use std::fmt::Write;
    let (mut header, mut at) = (String::from("{"), 0);
    for Tensor { name, dtype, shape, bytes } in tensors {
        let (name, comma) = (Value::from(name.as_str()), if at == 0 && header.len() == 1 { "" } else { "," });
        let end = at + bytes.len();
        write!(
            header,
            r#"{comma}{name}:{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{at},{end}]}}"#
        )
        .expect("memory");
        at = end;
    }
    header.push('}');
    let mut file = safetensors(header.as_bytes(), &[]);
    tensors.iter().for_each(|t| file.extend(&t.bytes));
    file
}

/// A header with its length before it, and what follows.
pub fn safetensors(header: &[u8], rest: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, rest].concat()
}
