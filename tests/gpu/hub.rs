//! Modules as other tools wrote them, on the device: weights to the bit of the CPU's, which
//! `tests/fast/hub.rs` holds against the tools' own, and products.

use crate::common::{Raw, report, write_tensors};
use crate::device::{one_or_both, pipelines};
use crate::hub_cases::Case;
use qmatmul::check::{self, Comparison, NMSE_F32, compare, compare_bits};
use qmatmul::file::gguf_write::{self, NewTensor};
use qmatmul::file::{DType, Model, OpenOptions};
use qmatmul::format;
use qmatmul::kernel::{MatmulOptions, reference};
use qmatmul::{PackedTensor, Runtime};
use safetensors::Dtype;

/// What of a weight is wrong on a device: its numbers, which must be these to the bit, and its
/// products.
fn wrong(packed: &PackedTensor, want: &[f32], runtime: &Runtime) -> [(&'static str, Comparison); 2] {
    let x = check::activations(3 * packed.cols(), 7);
    let y = reference::matmul(packed, &x).expect("shapes fit");
    let w = runtime.upload(packed).expect("small");
    let bits = compare_bits(&runtime.dequantize(&w).expect("small"), want);
    [("dequantize", bits), ("matmul", compare(&runtime.matmul(&w, &x).expect("small"), &y, NMSE_F32))]
}

/// Collects what is wrong on one variant or, in the full lane, on both.
#[derive(Default)]
struct Failures {
    lines: Vec<String>,
    done: usize,
}

impl Failures {
    fn check(&mut self, i: usize, what: &str, packed: &PackedTensor, want: &[f32]) {
        for variant in one_or_both(i) {
            for (operation, comparison) in wrong(packed, want, variant.runtime()) {
                self.done += 1;
                if !comparison.passed {
                    self.lines.push(format!("{what} on {}: {operation}: {comparison}", variant.name));
                }
            }
        }
    }
}

#[test]
fn every_module_multiplies() {
    let _stated = pipelines(70);
    let mut failures = Failures::default();
    for (i, case) in Case::all().iter().enumerate() {
        let Ok(packed) = case.packed() else { continue };
        failures.check(i, &case.name, &packed, &packed.dequantize());
    }
    report(&failures.lines, failures.done);
}

/// A factor lies in a plane of its own, or in the last word of one of four.
#[test]
fn factors_fit_every_number_of_planes() {
    let _stated = pipelines(20);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("model.gguf");
    let mut failures = Failures::default();
    for (i, format) in [format::F32, format::Q4_0, format::Q6_K, format::IQ3_S].into_iter().enumerate() {
        // Rows end inside a tile, and two matrices have their own factors.
        let (shape, factors) = ([2usize, 37, 256], [0.37f32, -3e-4]);
        let plain = check::random_tensor("a.weight", format, 74, 256, 5).expect("finite");
        let tensor = |name: &str, format, shape: &[usize]| NewTensor {
            name: name.into(),
            dtype: DType::Supported(format),
            shape: shape.iter().map(|dim| *dim as u64).collect(),
        };
        let new = [tensor("a.weight", format, &shape), tensor("a.scale", format::F32, &[2])];
        let mut entries = gguf_write::Entries::new();
        entries.set_str("general.architecture", "none");
        gguf_write::write(&path, &entries, &new, |i, sink| match i {
            0 => sink.put(&plain.data()),
            _ => sink.put(&factors.map(f32::to_le_bytes).concat()),
        })
        .expect("room");
        let model = Model::open(&path, &OpenOptions { mmap: false }).expect("valid");
        let packed = model.find("a").and_then(|info| model.tensor(info)).expect("valid");
        let want: Vec<f32> =
            plain.dequantize().iter().enumerate().map(|(i, w)| w * factors[i / (37 * 256)]).collect();
        assert!(compare_bits(&packed.dequantize(), &want).passed, "{}", format.name);
        failures.check(i, format.name, &packed, &want);
    }
    report(&failures.lines, failures.done);
}

/// Groups that run down the rows: of whole rows, of parts of them, and of neither.
#[test]
fn groups_of_hqq_run_down_the_rows() {
    let _stated = pipelines(20);
    let mut failures = Failures::default();
    for (i, (rows, cols, group)) in [(16, 96, 16), (32, 40, 16), (8, 100, 16)].into_iter().enumerate() {
        let cells = rows * cols / group;
        let codes: Vec<u8> = (0..rows * cols / 2).map(|i| (i * 37 + 11) as u8).collect();
        let halves = |of: fn(usize) -> f32| -> Vec<u8> {
            (0..cells).flat_map(|i| half::f16::from_f32(of(i)).to_le_bytes()).collect()
        };
        let (scales, zeros) = (halves(|i| (1 + i % 7) as f32 / 16.0), halves(|i| (i % 5) as f32 + 5.5));
        let shape: Vec<u8> = [rows, cols].iter().flat_map(|dim| (*dim as i64).to_le_bytes()).collect();
        let tensors: Vec<Raw> = vec![
            ("a.W_q".into(), Dtype::U8, vec![group / 2, cells], codes.clone()),
            ("a.scale".into(), Dtype::F16, vec![1, cells], scales),
            ("a.zero".into(), Dtype::F16, vec![1, cells], zeros),
            ("a.shape".into(), Dtype::I64, vec![2], shape),
        ];
        let dir = tempfile::tempdir().expect("a temporary folder");
        write_tensors(&dir.path().join("model.safetensors"), &tensors);
        let model = Model::open(dir.path(), &OpenOptions { mmap: false }).expect("valid");
        let packed = model.find("a").and_then(|info| model.tensor(info)).expect("valid");
        // The high nibbles are the first half of the rows of the matrix [group, cells].
        let weight = |at: usize| {
            let (line, cell) = (at / cells, at % cells);
            let byte = codes[line % (group / 2) * cells + cell];
            let code = if line < group / 2 { byte >> 4 } else { byte & 15 };
            (f32::from(code) - ((cell % 5) as f32 + 5.5)) * ((1 + cell % 7) as f32 / 16.0)
        };
        let want: Vec<f32> = (0..rows * cols).map(weight).collect();
        assert!(compare_bits(&packed.dequantize(), &want).passed, "{rows} x {cols}");
        failures.check(i, &format!("{rows} x {cols}"), &packed, &want);
    }
    report(&failures.lines, failures.done);
}

/// The cells of weights with factors: the line of the first that fails.
pub fn factors(runtime: &Runtime) -> Option<String> {
    let case = Case::all().into_iter().find(|case| case.name == "gguf-nvfp4-experts").expect("the case");
    let packed = case.packed().expect("supported");
    let wrong = wrong(&packed, &packed.dequantize(), runtime).into_iter();
    wrong
        .filter(|(_, comparison)| !comparison.passed)
        .map(|(what, comparison)| format!("{what}: {comparison}"))
        .next()
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
