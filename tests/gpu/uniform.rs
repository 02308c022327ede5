//! INT8, INT4, UINT8 and UINT4: every way to share scales, on every kernel.

use crate::cells::{LAYOUTS, UNIFORM, layout_cells};
use crate::common::report;
use crate::device::{VARIANTS, pipelines, side_by_side, total};
use qmatmul::check;
use qmatmul::format::recipe::Group;
use qmatmul::{Error, PackedTensor, Recipe, format};

/// Each layout with a format, and each format in a layout; the full lane has all of both on all
/// variants.
#[test]
fn every_layout_of_scales() {
    let _stated = pipelines(60);
    let (failures, done) = side_by_side(0..VARIANTS.len(), |v| {
        let cells = (0..LAYOUTS.len()).flat_map(|l| (0..UNIFORM.len()).map(move |f| (l, f)));
        let here = cells.filter(|(l, f)| (l + f) % UNIFORM.len() == 0 && l % VARIANTS.len() == v);
        total(here.map(|(l, f)| layout_cells(&VARIANTS[v], VARIANTS[v].runtime(), UNIFORM[f], &LAYOUTS[l])))
    });
    report(&failures, done);
}

/// The formulas of the textbooks, number by number: 1.2, -0.5, 4.3, 1.2, -3.1, 0.8, 2.4, 5.4 by
/// hand.
#[test]
fn codes_and_scales_are_those_of_the_formulas() {
    let w = [1.2f32, -0.5, 4.3, 1.2, -3.1, 0.8, 2.4, 5.4];
    let encode = |name: &str| {
        let format = format::by_name(name).expect("a format of the table");
        let packed =
            PackedTensor::encode("w", [1, 8], &w, &Recipe::uniform(format, Group::Tensor)).expect("finite");
        let floats =
            |bytes: &[u8]| bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>();
        let parts = packed.parts();
        (parts[0].bytes.to_vec(), parts[1..].iter().flat_map(|p| floats(&p.bytes)).collect::<Vec<_>>())
    };
    let as_i8 = |codes: &[u8]| codes.iter().map(|q| *q as i8).collect::<Vec<_>>();
    let (codes, scales) = encode("INT8");
    assert_eq!((as_i8(&codes), scales), (vec![28, -12, 101, 28, -73, 19, 56, 127], vec![5.4 / 127.0]));
    // (5.4 + 3.1) / 255 = 0.0333; the zero is 93.
    let (codes, scales) = encode("UINT8");
    assert_eq!((codes, scales), (vec![129, 78, 222, 129, 0, 117, 165, 255], vec![8.5 / 255.0, 93.0]));
    let (codes, scales) = encode("INT4");
    assert_eq!((codes, scales), (vec![0x7a, 0xae, 0x94, 0xfb], vec![5.4 / 7.0]));
    let (codes, scales) = encode("UINT4");
    assert_eq!((codes, scales), (vec![0x47, 0x7d, 0x60, 0xf9], vec![8.5 / 15.0, 5.0]));
}

/// Half a step at worst, with zero exactly zero.
#[test]
fn no_weight_strays_by_more_than_half_a_step() {
    for name in UNIFORM {
        for group in [Group::Tensor, Group::Row, Group::Columns(24)] {
            let weights: Vec<f32> =
                check::activations(11 * 50, 3).iter().map(|w| if w.abs() < 0.1 { 0.0 } else { *w }).collect();
            let format = format::by_name(name).expect("a format of the table");
            let packed = PackedTensor::encode("w", [11, 50], &weights, &Recipe::uniform(format, group))
                .expect("finite");
            let scales = packed.parts()[1]
                .bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .fold(0f32, f32::max);
            for (w, got) in weights.iter().zip(packed.dequantize()) {
                // The zero of affine codes is rounded, too, and clamps what is half a step beyond.
                let allowed = if name.starts_with('U') { 1.0 } else { 0.5 };
                assert!((w - got).abs() <= allowed * 1.0001 * scales, "{name} {group:?}: {w} {got}");
                assert!(*w != 0.0 || got == 0.0, "{name} {group:?}: zero became {got}");
            }
        }
    }
}

#[test]
fn wrong_groups_and_formats_are_named() {
    let encode = |name: &str, group| {
        let format = format::by_name(name).expect("a format of the table");
        PackedTensor::encode("w", [1, 8], &[1.0; 8], &Recipe::uniform(format, group))
            .expect_err("refused")
            .to_string()
    };
    assert!(encode("INT8", Group::Columns(0)).contains("groups of 0 columns"));
    assert!(encode("Q8_0", Group::Row).contains("Q8_0 has no groups"));
    // LLM.int8 makes halves first, and 70000 is none.
    let int8 = format::INT8;
    let error = PackedTensor::encode("w", [2, 2], &[1.0, 2.0, 3.0, 70_000.0], &Recipe::new(int8))
        .expect_err("infinite");
    assert!(matches!(error, Error::NonFinite { first: 1, .. }), "{error}");
}

/// Finite weights whose span is infinite.
#[test]
fn scales_that_overflow_are_refused() {
    let format = |name| format::by_name(name).expect("a format of the table");
    let weights = [-3e38f32, 3e38, 0.0, 1.0];
    for (name, fits) in [("INT4", true), ("UINT4", false), ("UINT8", false)] {
        let made = PackedTensor::encode("w", [1, 4], &weights, &Recipe::uniform(format(name), Group::Row));
        match made {
            Ok(packed) => assert!(fits && packed.check_finite().is_ok(), "{name}"),
            Err(error) => assert!(!fits && matches!(error, Error::NonFinite { .. }), "{name}: {error}"),
        }
    }
    let int8 = PackedTensor::encode("w", [1, 4], &weights, &Recipe::new(format("INT8")));
    assert!(matches!(int8, Err(Error::NonFinite { .. })), "halves end at 65504");
}
