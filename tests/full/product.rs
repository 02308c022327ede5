//! Every format × every kernel × shapes, each shape with its reason, on both families with and
//! without subgroups.

use crate::cells::{
    CASES, FORMATS_AT_ONCE, LAYOUTS, UNIFORM, case, cell, fits, formats, layout_cells, matmul,
};
use crate::common::report;
use crate::device::{VARIANTS, open, pipelines, side_by_side, total};
use qmatmul::check::{activations, random_tensor};
use qmatmul::format::Format;
use qmatmul::kernel::{Activations, MatmulOptions};
use qmatmul::{Options, Runtime};

fn all_cases(variant: usize) {
    let _stated = pipelines(9999);
    let variant = &VARIANTS[variant];
    let (failures, done) = side_by_side(formats().chunks(FORMATS_AT_ONCE), |formats| {
        let (mut failures, mut done) = (vec![], 0);
        let runtime = open(&variant.options());
        for format in formats {
            let cases: Vec<_> = CASES.iter().filter(|c| fits(format, c)).collect();
            // The shortest list is that of the 256-blocks.
            assert!(cases.len() >= 6, "{} has only {} cases", format.name, cases.len());
            for case in cases {
                failures.extend(cell(&runtime, format, case, &MatmulOptions::default(), variant.name));
                done += 1;
            }
        }
        (failures, done)
    });
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

/// Activations that are rounded on the way, on every format with codes.
#[test]
fn rounded_activations() {
    let _stated = pipelines(9999);
    let cases = [
        case(70, 768, 5, "tokens that no kernel is compiled for"),
        case(33, 256, 1, "one row more than a software workgroup"),
        case(65, 512, 19, "gemm, tails both ways"),
    ];
    let (failures, done) = side_by_side(formats().chunks(FORMATS_AT_ONCE), |formats| {
        let (mut failures, mut done) = (vec![], 0);
        for variant in &VARIANTS {
            let runtime = open(&variant.options());
            for format in formats {
                let taken = [Activations::F16, Activations::Q8, Activations::Q24];
                for activations in taken.into_iter().filter(|a| a.suit_format(format)) {
                    for case in cases.iter().filter(|case| fits(format, case)) {
                        let label = format!("{}, {}", variant.name, activations.name());
                        failures.extend(matmul(
                            &runtime,
                            format,
                            case,
                            &MatmulOptions::with(activations),
                            &label,
                        ));
                        done += 1;
                    }
                }
            }
        }
        (failures, done)
    });
    report(&failures, done);
}

/// What splits a problem on real devices, forced on small shapes, for every format.
#[test]
fn forced_limits() {
    let _stated = pipelines(9999);
    let limits = [
        (Options { max_binding: Some(16 << 10), ..Options::default() }, case(700, 256, 3, "many shards")),
        (
            Options { max_groups: Some(3), ..Options::default() },
            case(100, 64, 9, "workgroups folded, tokens split by them"),
        ),
        (Options { max_loops: Some(120), ..Options::default() }, case(70, 8192, 9, "k split, sums added up")),
    ];
    let (failures, done) = side_by_side(&limits, |(options, case)| {
        let (mut failures, mut done) = (vec![], 0);
        for software in [true, false] {
            for formats in formats().chunks(FORMATS_AT_ONCE) {
                let runtime = open(&Options { software: Some(software), ..options.clone() });
                for format in formats.iter().filter(|format| fits(format, case)) {
                    failures.extend(cell(&runtime, format, case, &MatmulOptions::default(), case.why));
                    done += 1;
                }
            }
        }
        (failures, done)
    });
    report(&failures, done);
}

/// wgpu's run-time checks change nothing but the speed, whatever the decoder: not a bit of the
/// result.
#[test]
fn checked_and_trusted_shaders_agree() {
    let _stated = pipelines(9999);
    let (failures, done) = side_by_side(formats().chunks(FORMATS_AT_ONCE), |formats| {
        let options = VARIANTS[0].options();
        let [checked, trusted] = [true, false].map(|checked| open(&Options { checked, ..options.clone() }));
        let differs = |format: &&&'static Format| {
            let packed = random_tensor("w", format, 65, 512, 3).expect("512 fits every block");
            let x = activations(9 * 512, 5);
            let bits = |runtime: &Runtime| {
                let w = runtime.upload(&packed).expect("small");
                let y = runtime.matmul(&w, &x).expect("small");
                let decoded = runtime.dequantize(&w).expect("small");
                y.iter().chain(&decoded).map(|v| v.to_bits()).collect::<Vec<_>>()
            };
            bits(&checked) != bits(&trusted)
        };
        (formats.iter().filter(differs).map(|format| format.name.to_owned()).collect(), formats.len())
    });
    report(&failures, done);
}

/// Every way to share scales, for every format that has them.
#[test]
fn every_layout_of_scales() {
    let _stated = pipelines(9999);
    let pieces = VARIANTS.iter().flat_map(|variant| LAYOUTS.iter().map(move |layout| (variant, layout)));
    let (failures, done) = side_by_side(pieces, |(variant, layout)| {
        let runtime = open(&variant.options());
        total(UNIFORM.iter().map(|name| layout_cells(variant, &runtime, name, layout)))
    });
    report(&failures, done);
}
