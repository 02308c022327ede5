//! Cells of formats × kernels × shapes, for the gpu lane and the full lane. Results are held
//! against the CPU reference by `check`, which alone knows the bounds.
#![allow(dead_code)]

use crate::device::{Tally, Variant};
use qmatmul::check::{self, random_tensor};
use qmatmul::format::recipe::Group;
use qmatmul::format::{self, Codebook, Codes, Format};
use qmatmul::kernel::MatmulOptions;
use qmatmul::{Activations, PackedTensor, Recipe, Runtime};

pub struct Case {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub why: &'static str,
}

impl Case {
    /// The line about a cell that failed.
    fn failed(&self, format: &Format, label: &str, what: &str) -> String {
        let Self { m, k, n, why } = self;
        format!("{label}: {} {m}x{k} n={n} ({why}): {what}", format.name)
    }
}

pub const fn case(m: usize, k: usize, n: usize, why: &'static str) -> Case {
    Case { m, k, n, why }
}

/// Formats whose decoder is that of another one here, with other constants or another codebook:
/// `tests/gpu/uniform.rs` and `tests/gpu/bitsandbytes.rs` run them in every layout. Every pipeline
/// costs a software driver half a second.
pub const ELSEWHERE: &[&str] = &["FP4", "INT2", "INT3", "INT8", "UINT2", "UINT3", "UINT8"];

pub fn formats() -> Vec<&'static Format> {
    let here = |f: &&Format| !ELSEWHERE.contains(&f.name);
    let formats: Vec<_> = format::FORMATS.iter().copied().filter(here).collect();
    for name in ELSEWHERE {
        let shader = format::by_name(name).expect("a format of the table").shader;
        assert!(formats.iter().any(|f| f.shader == shader), "nobody tests the decoder of {name}");
    }
    formats
}

/// A software driver keeps megabytes for each pipeline: a runtime of their own for some formats at
/// a time.
pub const FORMATS_AT_ONCE: usize = 8;

/// What a kernel can tell of a format: two formats of one class go through the same parts of the
/// shaders around their decoders.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class {
    /// Whether codes and scales come apart, and whether codes multiply as integers.
    pub codes: Codes,
    /// Where values come from: nowhere, sixteen numbers, a table of words.
    pub codebook: &'static str,
    /// Several chunks share words, which kernels load once.
    pub shared_words: bool,
    /// 16 bytes of a row are loaded at once, which lie side by side with those of other rows on
    /// software adapters.
    pub wide: bool,
}

pub fn class(format: &'static Format) -> Class {
    let layout = format.layout(256);
    let codebook = match layout.book {
        Codebook::Sixteen(_) | Codebook::SixteenAndScales(..) => "sixteen numbers",
        Codebook::Grid(_) => "table",
        Codebook::None | Codebook::Words(_) => "none",
    };
    Class {
        codes: layout.codes,
        codebook,
        shared_words: format.shader.contains("fn shared_words("),
        wide: layout.planes.iter().any(|plane| plane.is_wide()),
    }
}

/// One format of each class, of those whose block divides the most shapes.
pub fn representatives() -> Vec<&'static Format> {
    let mut formats: Vec<_> = formats();
    formats.sort_by_key(|format| (format.block_weights(), format.name));
    let mut taken: Vec<&'static Format> = vec![];
    for format in formats {
        if !taken.iter().any(|other| class(other) == class(format)) {
            taken.push(format);
        }
    }
    taken
}

/// For every format whose block divides k.
pub const CASES: &[Case] = &[
    case(1, 256, 1, "one row, one super-block"),
    case(1, 32, 1, "one row, one block"),
    case(3, 96, 2, "three blocks: scales of a row end inside a word"),
    case(31, 160, 4, "one row less than the lanes of a software workgroup; five blocks"),
    case(33, 256, 3, "one row more; three columns in a kernel compiled for four"),
    case(65, 512, 5, "one row more than a gemm tile; five columns in a kernel for eight"),
    case(64, 768, 8, "the last n of gemv on a GPU"),
    case(129, 256, 9, "the first n of gemm on a GPU; eight columns and one on a software adapter"),
    case(130, 1024, 33, "a tile of 32 columns and one more"),
    case(2, 4096, 17, "fewer rows than any tile, several steps of k"),
    case(
        95,
        2304,
        1,
        "more chunks than lanes of a gemv workgroup; on software rows side by side, the last tile short",
    ),
    case(5, 1, 3, "k = 1"),
    case(7, 3, 9, "k below a vec4, gemm"),
    case(7, 33, 2, "one weight in the last chunk; rows of x not 16-byte aligned"),
    case(66, 172, 12, "k a multiple of 4 but not of 32, as in real small models"),
    case(9, 1027, 1, "an odd k above a workgroup's chunks"),
];

pub fn fits(format: &Format, case: &Case) -> bool {
    case.k.is_multiple_of(format.block_weights())
}

/// One cell; a line about it if it failed.
pub fn cell(
    runtime: &Runtime,
    format: &'static Format,
    case: &Case,
    options: &MatmulOptions,
    label: &str,
) -> Option<String> {
    let name = format!("{} {}x{}", format.name, case.m, case.k);
    let packed = random_tensor(name, format, case.m, case.k, 7).expect("the shape fits the format");
    let outcomes = check::tensor(runtime, &packed, &[case.n], options, 11);
    let wrong = |line: String| case.failed(format, label, &line);
    match outcomes {
        Err(error) => Some(wrong(error.to_string())),
        Ok(outcomes) => outcomes
            .iter()
            .find(|o| !o.comparison.passed)
            .map(|o| wrong(format!("{}: {}", o.operation, o.comparison))),
    }
}

/// One matmul; a line about it if it failed. Where the last columns are left to another dispatch,
/// the variant is not the same.
pub fn matmul(
    runtime: &Runtime,
    format: &'static Format,
    case: &Case,
    options: &MatmulOptions,
    label: &str,
) -> Option<String> {
    let packed = random_tensor("w", format, case.m, case.k, 7).expect("the shape fits the format");
    let x = check::activations(case.n * case.k, 3);
    let outcome = runtime.upload(&packed).and_then(|w| check::matmul(runtime, &packed, &w, &x, options));
    let wrong = |line: String| case.failed(format, label, &line);
    match outcome {
        Ok(comparison) => (!comparison.passed).then(|| wrong(comparison.to_string())),
        Err(error) => Some(wrong(error.to_string())),
    }
}

/// Formats of codes with scales that are shared in any way.
pub const UNIFORM: [&str; 8] = ["INT8", "INT4", "INT3", "INT2", "UINT8", "UINT4", "UINT3", "UINT2"];

/// A way to share scales.
pub struct Shared {
    m: usize,
    k: usize,
    group: Group,
    n: usize,
    why: &'static str,
}

const fn shared(m: usize, k: usize, group: Group, n: usize, why: &'static str) -> Shared {
    Shared { m, k, group, n, why }
}

pub const LAYOUTS: &[Shared] = &[
    shared(70, 96, Group::Tensor, 3, "one scale for all"),
    shared(33, 160, Group::Row, 9, "a scale a row"),
    shared(5, 33, Group::Row, 2, "an odd number of columns: rows end inside words and bytes"),
    shared(300, 1, Group::Row, 4, "one column"),
    shared(7, 128, Group::Columns(32), 1, "a scale for each chunk"),
    shared(7, 352, Group::Columns(128), 33, "a short last group"),
    shared(9, 100, Group::Columns(16), 5, "two scales a chunk"),
    shared(9, 67, Group::Columns(5), 1, "groups that begin anywhere"),
    shared(3, 40, Group::Columns(1), 2, "a scale for each weight"),
    shared(40, 1056, Group::Columns(4096), 17, "groups longer than rows"),
];

/// One layout of scales: dequantize, get_rows and the product, with exact activations and, where
/// codes are integers, rounded ones.
pub fn layout_cells(variant: &Variant, runtime: &Runtime, name: &str, layout: &Shared) -> Tally {
    let &Shared { m, k, group, n, why } = layout;
    let format = format::by_name(name).expect("a format of the table");
    let weights: Vec<f32> = check::activations(m * k, 5).iter().map(|w| w + 0.25).collect();
    let packed =
        PackedTensor::encode("w", [m, k], &weights, &Recipe::uniform(format, group)).expect("finite");
    let (mut failures, mut done) = (vec![], 0);
    let all = [Activations::F32, Activations::Q8, Activations::Q24];
    for activations in all.into_iter().filter(|a| a.suit(&packed.layout())) {
        let outcomes =
            check::tensor(runtime, &packed, &[n], &MatmulOptions::with(activations), 3).expect("small");
        let line = |o: &check::Outcome| {
            let (kernels, kind) = (variant.name, activations.name());
            format!("{name} {m}x{k} {group:?} ({why}), {kernels}, {kind}: {} {}", o.operation, o.comparison)
        };
        failures.extend(outcomes.iter().filter(|o| !o.comparison.passed).map(line));
        done += outcomes.len();
    }
    (failures, done)
}
