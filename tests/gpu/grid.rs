//! Formats + kernels: every decoder on every way that kernels call it, every kernel on every shape,
//! what splits a problem, and what a device can lack. The full lane has formats × kernels.
//!
//! Results are held against the CPU reference by `check`, which alone knows the bounds.

use crate::cells::{CASES, Case, FORMATS_AT_ONCE, case, cell, class, fits, formats, matmul, representatives};
use crate::common::report;
use crate::device::{VARIANTS, Variant, families, first, is_full, open, pipelines, side_by_side};
use qmatmul::check::{self, random_tensor};
use qmatmul::format::{self, Format};
use qmatmul::gpu::{Capability, TuningCache, Upload};
use qmatmul::kernel::{self, Activations, MatmulOptions, Problem};
use qmatmul::{Options, PackedTensor, Runtime};

/// For a few formats: their cost is in the size.
const LARGE: &[Case] = &[
    case(3, 131_072, 1, "the longest rows there are: more loops than a software driver allows in one go"),
    case(2, 131_072, 9, "the same through gemm"),
    case(200_003, 256, 1, "more rows than one dimension of a dispatch has workgroups"),
    case(70_001, 256, 2, "the same with two columns"),
];
const LARGE_FORMATS: &[&str] = &["Q4_0", "Q6_K", "F16"]; // the first in the gpu lane

/// The longest and the shortest way through a decoder: rows and chunks that end inside words, tails
/// of tokens in every kernel.
fn awkward(format: &Format, n: usize) -> Case {
    let k = if format.block_weights() == 1 { 163 } else { 160usize.next_multiple_of(format.block_weights()) };
    case(37, k, n, "awkward in every dimension")
}

/// The ways in which kernels call a decoder: rows side by side and one after the other, weight by
/// weight and code by code, books of codes by subgroups and in memory; in the full lane also by one
/// lane of a tile. One line for each cell that failed; cells run when they are asked for.
pub fn decoder_cells<'a>(
    variant: &'a Variant,
    runtime: &'a Runtime,
    format: &'static Format,
) -> Box<dyn Iterator<Item = Option<String>> + 'a> {
    let [f32, q8] = [Activations::F32, Activations::Q8].map(MatmulOptions::with);
    let whole = move |options: MatmulOptions, n| {
        move || cell(runtime, format, &awkward(format, n), &options, variant.name)
    };
    let product = move |options: MatmulOptions, n| {
        move || matmul(runtime, format, &awkward(format, n), &options, variant.name)
    };
    let codes = format.has_integers();
    match variant.name {
        "software" => Box::new(
            [whole(f32, 3)]
                .into_iter()
                .map(|cell| cell())
                .chain(codes.then(|| product(q8, 3)).map(|cell| cell())),
        ),
        "gpu" => {
            let batches = first(&[3, 19], 1);
            let kinds = std::iter::once(f32).chain(codes.then_some(q8));
            let cells = kinds.flat_map(|options| batches.iter().map(move |n| (options.clone(), *n)));
            Box::new(cells.map(move |(options, n)| product(options, n)()))
        }
        "gpu, no subgroups" if class(format).codebook != "none" || is_full() => {
            Box::new([product(f32, 3)].into_iter().map(|cell| cell()))
        }
        // No other way to call a decoder.
        _ => Box::new(std::iter::empty()),
    }
}

#[test]
fn every_decoder_on_every_access_path() {
    let _stated = pipelines(335);
    let pieces = VARIANTS.iter().flat_map(|variant| {
        formats().chunks(FORMATS_AT_ONCE).map(|formats| (variant, formats.to_vec())).collect::<Vec<_>>()
    });
    let (failures, done) = side_by_side(pieces, |(variant, formats)| {
        let runtime = open(&variant.options());
        let lines: Vec<_> =
            formats.into_iter().flat_map(|format| decoder_cells(variant, &runtime, format)).collect();
        (lines.iter().flatten().cloned().collect(), lines.len())
    });
    report(&failures, done);
}

/// All shapes of a format, one line for each cell that failed; cells run when they are asked for.
pub fn shape_cells<'a>(
    variant: &'a Variant,
    runtime: &'a Runtime,
    format: &'static Format,
) -> impl Iterator<Item = Option<String>> + 'a {
    // Other columns are other constants of some decoders: the tests of their layouts have those.
    let constants = |k: usize| format.layout(k).constants;
    let is_taken =
        move |case: &&Case| fits(format, case) && (is_full() || constants(case.k) == constants(256));
    CASES
        .iter()
        .filter(is_taken)
        .map(move |case| matmul(runtime, format, case, &MatmulOptions::default(), variant.name))
}

/// Every kernel that a device would choose, on all shapes, for one format of each class that
/// kernels can tell apart. Without subgroups, all formats without a book are one class.
#[test]
fn every_kernel_on_every_shape() {
    let _stated = pipelines(305);
    let (failures, done) = side_by_side(&VARIANTS, |variant| {
        let differs = |(i, format): &(usize, &'static Format)| {
            variant.subgroups || is_full() || *i == 0 || class(format).codebook != "none"
        };
        let formats = representatives().into_iter().enumerate().filter(differs);
        let cells = formats.flat_map(|(_, format)| shape_cells(variant, variant.runtime(), format));
        let lines: Vec<_> = cells.collect();
        (lines.iter().flatten().cloned().collect(), lines.len())
    });
    report(&failures, done);
}

/// The classes are computed, so that a format of a new class is its representative. Each of those
/// that the others are held to has shapes enough: those of blocks of 256 have the fewest.
#[test]
fn every_class_has_a_representative() {
    for format in representatives() {
        let cases = CASES.iter().filter(|case| fits(format, case)).count();
        println!("{} for {:?}: {cases} shapes", format.name, class(format));
        assert!(cases >= 6, "{} has only {cases} shapes", format.name);
    }
    for format in format::FORMATS {
        assert!(
            representatives().iter().any(|other| class(other) == class(format)),
            "nobody stands for {}",
            format.name
        );
    }
}

#[test]
fn large_shapes() {
    let _stated = pipelines(20);
    let mut failures = vec![];
    let mut done = 0;
    for variant in [&VARIANTS[0], &VARIANTS[2]] {
        for format in
            first(LARGE_FORMATS, 1).iter().map(|name| format::by_name(name).expect("a format of the table"))
        {
            for case in LARGE {
                failures.extend(cell(
                    variant.runtime(),
                    format,
                    case,
                    &MatmulOptions::default(),
                    variant.name,
                ));
                done += 1;
            }
        }
    }
    report(&failures, done);
}

/// Activations that are rounded on the way, for codes that are numbers, are looked up, and come
/// from a table; plain weights of odd rows.
#[test]
fn rounded_activations() {
    let _stated = pipelines(70);
    let cases = [
        case(70, 768, 5, "tokens that no kernel is compiled for"),
        case(33, 256, 1, "one row more than a software workgroup"),
        case(65, 512, 19, "gemm, tails both ways"),
    ];
    let odd = [case(7, 33, 2, "one weight in the last chunk"), case(3, 1, 9, "k = 1")];
    let rows = [case(7, 1056, 2, "a row of 33 chunks"), case(7, 32, 9, "one chunk")];
    let all = [Activations::F16, Activations::Q8, Activations::Q24];
    let cells: [(&str, &[Activations], &[Case]); 5] = [
        ("Q4_K", &all, &cases),
        ("IQ4_NL", &all, first(&cases, 1)),
        ("IQ2_XS", &all, first(&cases, 1)),
        ("Q8_0", &all[1..], &rows),
        ("F32", &all[..1], &odd),
    ];
    let (failures, done) = side_by_side(families(), |variant| {
        let (mut failures, mut done) = (vec![], 0);
        for (name, kinds, cases) in cells {
            let format = format::by_name(name).expect("a format of the table");
            for (activations, case) in
                kinds.iter().flat_map(|kind| cases.iter().map(move |case| (kind, case)))
            {
                let label = format!("{}, {}", variant.name, activations.name());
                let options = MatmulOptions::with(*activations);
                failures.extend(matmul(variant.runtime(), format, case, &options, &label));
                done += 1;
            }
        }
        (failures, done)
    });
    report(&failures, done);
}

/// A kernel or variant that the choice would not take must still be right: a measurement may choose
/// it.
#[test]
fn every_candidate_takes_any_batch() {
    let _stated = pipelines(120);
    let runtime = VARIANTS[2].runtime();
    let mut failures = vec![];
    let mut seen = std::collections::HashSet::new();
    let mut done = 0;
    // Codes that are numbers, exact and rounded activations; in the full lane codes that are looked
    // up.
    let kinds = [
        ("Q5_0", Activations::F32),
        ("Q5_0", Activations::Q8),
        ("NF4", Activations::F32),
        ("Q5_0", Activations::F16),
    ];
    for &(name, activations) in first(&kinds, 2) {
        let format = format::by_name(name).expect("a format of the table");
        for &n in first(&[3, 70, 1, 9], 2) {
            let case = case(67, 2336, n, "a forced candidate, and k long enough to be split");
            let of = Problem::of(&format.layout(case.k), case.m, case.k, n);
            let request = Problem { activations, ..of };
            for candidate in kernel::candidates(runtime.caps(), &request) {
                // A kernel of tiles is the same for every batch.
                if !seen.insert((name, candidate.kernel.name, candidate.config.clone())) {
                    continue;
                }
                let label = format!("{name} {}, {}", candidate.name(), activations.name());
                let variant = Some(candidate.config.variant);
                let options = MatmulOptions { activations, kernel: Some(candidate.kernel), variant };
                failures.extend(matmul(runtime, format, &case, &options, &label));
                done += 1;
            }
        }
    }
    report(&failures, done);
}

/// Each tile of cooperative matrices with a format of each class, split along k and not, where a
/// device has them.
#[test]
fn every_tile_of_cooperative_matrices() {
    let _stated = pipelines(200);
    let runtime = VARIANTS[2].runtime();
    if runtime.caps().cooperative.is_none() {
        println!("no cooperative matrices");
        return;
    }
    let (mut failures, mut done) = (vec![], 0);
    let mut seen = std::collections::HashSet::new();
    for format in representatives() {
        for case in [awkward(format, 19), case(67, 2304, 70, "several tiles each way, k split")] {
            if !fits(format, &case) {
                continue;
            }
            let of = Problem::of(&format.layout(case.k), case.m, case.k, case.n);
            let request = Problem { activations: Activations::F16, ..of };
            for candidate in kernel::candidates(runtime.caps(), &request) {
                if candidate.kernel.name != "gemm_coop" || !seen.insert((format.name, candidate.name())) {
                    continue;
                }
                let label = format!("{} {}", format.name, candidate.name());
                let mut options = MatmulOptions::with(Activations::F16);
                options.kernel = Some(candidate.kernel);
                options.variant = Some(candidate.config.variant);
                failures.extend(matmul(runtime, format, &case, &options, &label));
                done += 1;
            }
        }
    }
    report(&failures, done);
}

/// Weights that are exactly zero, though their scales are not, give exactly zero.
#[test]
fn zero_weights_give_zero() {
    let _stated = pipelines(16);
    let format = format::Q4_0;
    let mut data = random_tensor("w", format, 40, 256, 7).expect("the shape fits").data().to_vec();
    data.chunks_mut(18).for_each(|block| block[2..].fill(0x88));
    let packed = PackedTensor::new("zeros", format, 40, 256, data).expect("the same length");
    for variant in families() {
        let w = variant.runtime().upload(&packed).expect("small");
        for (activations, n) in [(Activations::F32, 1), (Activations::F16, 9)] {
            let options = MatmulOptions::with(activations);
            let x = check::activations(n * 256, 3);
            let y = variant.runtime().matmul_with(&w, &x, &options).expect("small");
            assert!(y.iter().all(|y| *y == 0.0), "{}, {}: {y:?}", variant.name, activations.name());
        }
    }
}

/// Mixtures of experts: several tokens of y for each of x, experts that nothing is sent to, and
/// some that much is. One line for each cell that failed; cells run when they are asked for.
pub fn expert_cells<'a>(
    variant: &'a Variant,
    runtime: &'a Runtime,
    format: &'static Format,
) -> impl Iterator<Item = Option<String>> + 'a {
    // Experts, rows of each, tokens, experts of a token.
    let shapes = [(1, 5, 1, 1), (8, 33, 1, 2), (8, 40, 37, 2), (70, 9, 20, 4), (128, 16, 3, 8)];
    let takes = |a: &Activations| a.suit_format(format);
    let kinds: Vec<_> = Activations::ALL.into_iter().filter(takes).collect();
    let cells =
        shapes.into_iter().flat_map(move |shape| kinds.clone().into_iter().map(move |kind| (shape, kind)));
    cells.map(move |((stack, m, n, per), activations)| {
        let name = format.name;
        let label = format!("{}, {name}: {stack} experts of {m} rows, n = {n}, {per} each", variant.name);
        let packed = random_tensor("experts", format, stack * m, 256, 5).expect("the shape fits");
        let upload = Upload { experts: stack, ..Upload::default() };
        let w = runtime.upload_with(&packed, upload).expect("small");
        let x = check::activations(n * 256, 9);
        let mut random = check::Random::new(1);
        // Half of the tokens go to one expert.
        let one = |i| if i % 2 == 0 { 0 } else { (random.next_u64() % stack as u64) as u32 };
        let ids: Vec<u32> = (0..n * per).map(one).collect();
        let options = MatmulOptions::with(activations);
        match check::matmul_experts(runtime, &packed, &w, &x, &ids, &options) {
            Ok(c) => (!c.passed).then(|| format!("{label}: {c}")),
            Err(e) => Some(format!("{label}: {e}")),
        }
    })
}

#[test]
fn experts() {
    let _stated = pipelines(65);
    let (failures, done) = side_by_side(families(), |variant| {
        let formats = first(&["Q4_K", "MXFP4", "F16"], 1)
            .iter()
            .map(|name| format::by_name(name).expect("a format of the table"));
        let cells = formats.flat_map(|format| expert_cells(variant, variant.runtime(), format));
        let lines: Vec<_> = cells.collect();
        (lines.iter().flatten().cloned().collect(), lines.len())
    });
    report(&failures, done);
}

/// Experts cut into shards, their columns into several dispatches.
#[test]
fn experts_within_small_limits() {
    let _stated = pipelines(10);
    let options = Options { max_binding: Some(32 << 10), max_loops: Some(2_000), ..Options::default() };
    let format = format::Q5_K;
    let packed = random_tensor("experts", format, 40 * 12, 512, 5).expect("the shape fits");
    for software in [true, false] {
        let runtime = open(&Options { software: Some(software), ..options.clone() });
        let w =
            runtime.upload_with(&packed, Upload { experts: 40, ..Upload::default() }).expect("experts fit");
        assert!(w.shard_count() > 3);
        let x = check::activations(600 * 512, 2);
        let ids: Vec<u32> = (0..1200).map(|i| i * 7 % 40).collect();
        let c =
            check::matmul_experts(&runtime, &packed, &w, &x, &ids, &MatmulOptions::default()).expect("fits");
        assert!(c.passed, "{c}");
        let error = runtime.upload_with(&packed, Upload { experts: 7, ..Upload::default() }).map(drop);
        assert!(error.expect_err("480 rows are no 7 experts").to_string().contains("480"));
        let error = runtime
            .upload(&packed)
            .and_then(|one| runtime.matmul_experts(&one, &x[..512], &[0], &MatmulOptions::default()));
        assert!(error.expect_err("in several shards").to_string().contains("the one expert"));
        let error = runtime.matmul_experts(&w, &x[..512], &[40], &MatmulOptions::default());
        assert!(error.expect_err("there are 40").to_string().contains("below 40"));
    }
}

/// What splits a problem is the same for all formats: two of different classes, all of them in the
/// full lane.
fn few() -> Vec<&'static Format> {
    first(&representatives(), 2).to_vec()
}

/// Loop iterations of an invocation that a software driver is taken to allow, so that small shapes
/// are split along k.
pub const FEW_LOOPS: u32 = 120;

/// Shapes that are split along k where loops are limited to [`FEW_LOOPS`], one line for each cell
/// that failed.
pub fn split_cells<'a>(
    variant: &'a Variant,
    runtime: &'a Runtime,
    format: &'static Format,
) -> impl Iterator<Item = Option<String>> + 'a {
    let cases = [case(70, 8192, 9, "k split, sums added up"), case(70, 2048, 1, "k split, words in common")];
    cases.into_iter().map(move |case| cell(runtime, format, &case, &MatmulOptions::default(), variant.name))
}

/// Loops that a driver limits: ranges of k.
#[test]
fn few_loops() {
    let _stated = pipelines(50);
    let (failures, done) = side_by_side([&VARIANTS[0], &VARIANTS[2]], |variant| {
        let runtime = open(&Options { max_loops: Some(FEW_LOOPS), ..variant.options() });
        let cells = few().into_iter().flat_map(|format| split_cells(variant, &runtime, format));
        let lines: Vec<_> = cells.collect();
        (lines.iter().flatten().cloned().collect(), lines.len())
    });
    report(&failures, done);
}

/// What splits a problem on real devices, forced on small shapes: shards, windows of x and y,
/// workgroups beyond one dimension.
#[test]
fn forced_limits() {
    let _stated = pipelines(105);
    let small = Options { max_binding: Some(16 << 10), ..Options::default() };
    let narrow = Options { max_groups: Some(3), ..Options::default() };
    let in_parts = [
        case(700, 256, 3, "many shards"),
        case(1031, 96, 19, "windows of x and y that start between alignments"),
        case(3, 1024, 40, "tokens split"),
    ];
    let folded = [case(100, 64, 9, "workgroups folded, tokens split by their number")];
    let limits =
        [("binding of 16 KiB", &small, &in_parts[..]), ("three workgroups a dimension", &narrow, &folded)];
    let pieces = limits.iter().flat_map(|limit| [true, false].map(|software| (limit, software)));
    let (failures, done) = side_by_side(pieces, |((label, options, cases), software)| {
        let (mut failures, mut done) = (vec![], 0);
        let runtime = open(&Options { software: Some(software), ..(*options).clone() });
        let label = format!("{label}, software = {software}");
        for format in few() {
            for case in cases.iter().filter(|case| fits(format, case)) {
                failures.extend(cell(&runtime, format, case, &MatmulOptions::default(), &label));
                done += 1;
            }
        }
        (failures, done)
    });
    report(&failures, done);
}

#[test]
fn empty_shapes() {
    let _stated = pipelines(95);
    let mut failures = vec![];
    let mut done = 0;
    for variant in families() {
        for format in few() {
            for case in [case(0, 256, 2, "no rows"), case(4, 256, 0, "no columns"), case(0, 0, 0, "nothing")]
            {
                failures.extend(cell(
                    variant.runtime(),
                    format,
                    &case,
                    &MatmulOptions::default(),
                    variant.name,
                ));
                done += 1;
            }
        }
    }
    report(&failures, done);
}

/// What can be switched off decides which kernels run, not whether they are right.
#[test]
fn features_switched_off() {
    let all = Options { tuning: TuningCache::Off, ..Options::default() };
    let _stated = pipelines(120);
    // The other tests run without subgroups, too.
    let caps = VARIANTS[0].runtime().caps();
    let is_tried = |c: &&Capability| **c != Capability::Subgroups && c.is_in(caps);
    let each = Capability::ALL.iter().filter(is_tried).map(|c| vec![*c]);
    let switches: Vec<_> = each.chain([Capability::ALL.to_vec()]).collect();
    let cases = [case(70, 768, 1, "a product of one column"), case(65, 512, 19, "tails both ways")];
    let (failures, done) = side_by_side(&switches, |without| {
        let (mut failures, mut done) = (vec![], 0);
        for software in [true, false] {
            let runtime =
                open(&Options { software: Some(software), without: without.clone(), ..all.clone() });
            let caps = runtime.caps();
            assert!(without.iter().all(|capability| !capability.is_in(caps)), "{without:?}");
            assert_eq!(without.contains(&Capability::IntDot), !caps.int_dot, "every device can");
            // Books of codes are looked up in other ways where little is left.
            let formats = if without.len() > 1 || is_full() { 2 } else { 1 };
            for format in ["Q4_K", "IQ4_NL"][..formats]
                .iter()
                .map(|name| format::by_name(name).expect("a format of the table"))
            {
                for &activations in first(&[Activations::F16, Activations::Q8, Activations::F32], 2) {
                    let label = format!("without {without:?}, software = {software}, {}", activations.name());
                    for case in &cases {
                        let options = MatmulOptions::with(activations);
                        failures.extend(matmul(&runtime, format, case, &options, &label));
                        done += 1;
                    }
                }
            }
        }
        (failures, done)
    });
    report(&failures, done);
}

/// wgpu's run-time checks change nothing but the speed: not a bit of the result.
#[test]
fn checked_and_trusted_shaders_agree() {
    let _stated = pipelines(120);
    let (mut failures, mut done) = (vec![], 0);
    // Some formats, and the other kernels for codes that are numbers and for codes that are looked
    // up.
    for (variant, formats, batch) in [
        (&VARIANTS[0], few(), 9),
        (&VARIANTS[1], vec![], 1),
        (&VARIANTS[2], vec![], 1),
        (&VARIANTS[3], vec![], 9),
    ] {
        let checked = open(&Options { checked: true, ..variant.options() });
        let few =
            ["Q5_0", "IQ4_NL", "Q6_K"].map(|name| format::by_name(name).expect("a format of the table"));
        for format in if formats.is_empty() { few.to_vec() } else { formats } {
            let packed = random_tensor("w", format, 65, 512, 3).expect("512 fits every block");
            let x = check::activations(batch * 512, 5);
            let bits = |runtime: &Runtime| {
                let w = runtime.upload(&packed).expect("small");
                let y = runtime.matmul(&w, &x).expect("small");
                let decoded = runtime.dequantize(&w).expect("small");
                y.iter().chain(&decoded).map(|v| v.to_bits()).collect::<Vec<_>>()
            };
            if bits(&checked) != bits(variant.runtime()) {
                failures.push(format!("{}, {}, n = {batch}", variant.name, format.name));
            }
            done += 1;
        }
    }
    report(&failures, done);
}
