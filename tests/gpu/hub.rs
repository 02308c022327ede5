//! Modules as other tools wrote them, on the device: weights to the bit of the CPU's, which
//! `tests/fast/hub.rs` holds against the tools' own, and products.

use crate::common::report;
use crate::device::{one_or_both, pipelines};
use crate::hub_cases::Case;
use qmatmul::check::{self, NMSE_F32, compare, compare_bits};
use qmatmul::kernel::{MatmulOptions, reference};

#[test]
fn every_module_multiplies() {
    let _stated = pipelines(70);
    let (mut failures, mut done) = (vec![], 0);
    for (i, case) in Case::all().iter().enumerate() {
        let Ok(packed) = case.packed() else { continue };
        let x = check::activations(3 * packed.cols(), 7);
        let want = reference::matmul(&packed, &x).expect("shapes fit");
        for variant in one_or_both(i) {
            let runtime = variant.runtime();
            let w = runtime.upload(&packed).expect("small");
            let bits = compare_bits(&runtime.dequantize(&w).expect("small"), &packed.dequantize());
            let y = compare(&runtime.matmul(&w, &x).expect("small"), &want, NMSE_F32);
            for (what, comparison) in [("dequantize", bits), ("matmul", y)] {
                done += 1;
                if !comparison.passed {
                    failures.push(format!("{} on {}: {what}: {comparison}", case.name, variant.name));
                }
            }
        }
    }
    report(&failures, done);
}

/// Each expert of a stack has its own factor.
#[test]
fn experts_have_their_own_factors() {
    let _stated = pipelines(8);
    for (i, name) in ["gguf-nvfp4-experts", "mlx-nvfp4-experts"].iter().enumerate() {
        let case = Case::all().into_iter().find(|case| case.name == *name).expect("the case");
        let model = case.model();
        let info = model.find(case.tensor()).expect("its weight");
        let (stack, packed) = (info.shape[0] as usize, case.packed().expect("supported"));
        for variant in one_or_both(i) {
            let exact = MatmulOptions::default();
            let outcome = check::experts(variant.runtime(), &packed, (stack, 5), &exact, 3).expect("small");
            assert!(outcome.comparison.passed, "{name} on {}: {outcome:?}", variant.name);
        }
    }
}
