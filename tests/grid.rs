//! Every format × every kernel × shapes, each shape with its reason, on both families with and without subgroups.
//!
//! Results are held against the CPU reference by `check`, which alone knows the bounds.

mod common;

use common::{VARIANTS, open, report};
use qmatmul::check::{self, random_tensor};
use qmatmul::format::{self, FORMATS, Format};
use qmatmul::kernel::{KERNELS, Kernel, Operation};
use qmatmul::{Options, Runtime};

struct Case {
    m: usize,
    k: usize,
    n: usize,
    why: &'static str,
}

const fn case(m: usize, k: usize, n: usize, why: &'static str) -> Case {
    Case { m, k, n, why }
}

/// For every format whose block divides k.
const CASES: &[Case] = &[
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
    case(97, 2304, 1, "more chunks than lanes of a gemv workgroup, and not a multiple"),
    case(5, 1, 3, "k = 1"),
    case(7, 3, 9, "k below a vec4, gemm"),
    case(7, 33, 2, "one weight in the last chunk; rows of x not 16-byte aligned"),
    case(66, 172, 12, "k a multiple of 4 but not of 32, as in real small models"),
    case(9, 1027, 1, "an odd k above a workgroup's chunks"),
];

/// For a few formats: their cost is in the size.
const LARGE: &[Case] = &[
    case(3, 131_072, 1, "the longest rows there are: more loops than a software driver allows in one go"),
    case(2, 131_072, 9, "the same through gemm"),
    case(200_003, 256, 1, "more rows than one dimension of a dispatch has workgroups"),
    case(70_001, 256, 2, "the same with two columns"),
];
const LARGE_FORMATS: &[&str] = &["Q4_0", "Q6_K", "F16"];

fn fits(format: &Format, case: &Case) -> bool {
    case.k.is_multiple_of(format.block_weights)
}

/// One cell; a line about it if it failed.
fn cell(
    runtime: &Runtime,
    format: &'static Format,
    case: &Case,
    kernel: Option<&'static Kernel>,
    label: &str,
) -> Option<String> {
    let name = format!("{} {}x{}", format.name, case.m, case.k);
    let packed = random_tensor(name, format, case.m, case.k, 7).expect("the shape fits the format");
    let outcomes = check::tensor(runtime, &packed, &[case.n], kernel, 11);
    let wrong = |line: String| {
        format!("{label}: {} {}x{} n={} ({}): {line}", format.name, case.m, case.k, case.n, case.why)
    };
    match outcomes {
        Err(error) => Some(wrong(error.to_string())),
        Ok(outcomes) => outcomes
            .iter()
            .find(|o| !o.comparison.passed)
            .map(|o| wrong(format!("{}: {}", o.operation, o.comparison))),
    }
}

fn all_cases(variant: usize) {
    let variant = &VARIANTS[variant];
    let mut failures = vec![];
    let mut done = 0;
    for format in FORMATS {
        let cases: Vec<_> = CASES.iter().filter(|c| fits(format, c)).collect();
        // The shortest list is that of the 256-blocks.
        assert!(cases.len() >= 6, "{} has only {} cases", format.name, cases.len());
        for case in cases {
            failures.extend(cell(variant.runtime(), format, case, None, variant.name));
            done += 1;
        }
    }
    report(&failures, done);
}

#[test]
fn software_kernels() {
    all_cases(0);
}

#[test]
fn software_kernels_without_subgroups() {
    all_cases(1);
}

#[test]
fn gpu_kernels() {
    all_cases(2);
}

#[test]
fn gpu_kernels_without_subgroups() {
    all_cases(3);
}

#[test]
fn large_shapes() {
    let mut failures = vec![];
    let mut done = 0;
    for variant in [&VARIANTS[0], &VARIANTS[2]] {
        for format in LARGE_FORMATS.iter().map(|name| format::by_name(name).expect("a format of the table")) {
            for case in LARGE {
                failures.extend(cell(variant.runtime(), format, case, None, variant.name));
                done += 1;
            }
        }
    }
    report(&failures, done);
}

/// A kernel that the choice would not take must still be right.
#[test]
fn every_matmul_kernel_takes_any_batch() {
    let runtime = VARIANTS[2].runtime();
    let format = format::by_name("Q5_0").expect("a format of the table");
    let mut failures = vec![];
    let mut done = 0;
    for kernel in KERNELS.iter().filter(|k| k.operation == Operation::Matmul) {
        for n in [1, 2, 8, 9, 31, 32, 40] {
            let case = case(67, 320, n, "forced kernel");
            failures.extend(cell(runtime, format, &case, Some(kernel), kernel.name));
            done += 1;
        }
    }
    report(&failures, done);
}

/// What splits a request on real devices, forced on small shapes: shards, windows of x and y, folded grids, ranges of k.
#[test]
fn forced_limits() {
    let small = Options { max_binding: Some(16 << 10), ..Options::default() };
    let narrow = Options { max_groups: Some(3), ..Options::default() };
    let short = Options { max_loops: Some(120), ..Options::default() };
    let limits = [
        ("binding of 16 KiB", &small, case(700, 256, 3, "many shards")),
        ("binding of 16 KiB", &small, case(1031, 96, 19, "windows of x and y that start between alignments")),
        ("binding of 16 KiB", &small, case(3, 1024, 40, "batch split")),
        ("three workgroups a dimension", &narrow, case(100, 64, 9, "folded grid, batch split by the grid")),
        ("120 loop iterations", &short, case(70, 8192, 9, "k split, sums added up")),
    ];
    let mut failures = vec![];
    let mut done = 0;
    for software in [true, false] {
        for (label, options, case) in &limits {
            let runtime = open(&Options { software: Some(software), ..(*options).clone() });
            let label = format!("{label}, software = {software}");
            for format in FORMATS.iter().filter(|f| fits(f, case)) {
                failures.extend(cell(&runtime, format, case, None, &label));
                done += 1;
            }
        }
    }
    report(&failures, done);
}

#[test]
fn empty_shapes() {
    let mut failures = vec![];
    let mut done = 0;
    for variant in &VARIANTS {
        for format in FORMATS {
            for case in [case(0, 256, 2, "no rows"), case(4, 256, 0, "no columns"), case(0, 0, 0, "nothing")]
            {
                failures.extend(cell(variant.runtime(), format, &case, None, variant.name));
                done += 1;
            }
        }
    }
    report(&failures, done);
}

/// wgpu's run-time checks change nothing but the speed.
#[test]
fn checked_and_trusted_shaders_agree() {
    let checked = open(&Options { checked: true, ..Options::default() });
    for format in FORMATS {
        let packed = random_tensor("w", format, 65, 512, 3).expect("512 fits every block");
        let x = check::activations(9 * 512, 5);
        let y =
            |runtime: &Runtime| runtime.upload(&packed).and_then(|w| runtime.matmul(&w, &x)).expect("small");
        let (a, b) = (y(&checked), y(VARIANTS[0].runtime()));
        assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", format.name);
    }
}
